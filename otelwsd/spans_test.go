// spans_test.go checks the span of a connection: where it belongs, what it says, and how much.

package otelwsd_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

var discard = slog.New(slog.DiscardHandler)

func TestSpanOfAServersConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSDK(t)
		s.Attributes = []attribute.KeyValue{attribute.String("deployment", "blue")}
		ws := &wsd.Server{Handler: echo}
		ws.Subprotocols = []string{"chat.v1"}
		require.NoError(t, s.new(wsd.ServerRole).Watch(ws))
		server := serve(t, ws)
		conn := dial(t, server, &wsd.DialOptions{Subprotocols: ws.Subprotocols, Header: http.Header{"User-Agent": {"tester/1"}}})
		require.NoError(t, conn.Send(t.Context(), wsd.Text("hello")))
		_, err := conn.Receive(t.Context())
		require.NoError(t, err)
		time.Sleep(time.Hour)
		require.Empty(t, s.spans.Ended())
		require.NoError(t, conn.Close(4000, "enough"))
		require.NoError(t, ws.Shutdown(t.Context()))

		span, attributes := s.ended()
		require.Equal(t, "websocket /chat/{room}", span.Name())
		require.Equal(t, trace.SpanKindServer, span.SpanKind())
		require.GreaterOrEqual(t, span.EndTime().Sub(span.StartTime()), time.Hour)
		require.Equal(t, codes.Unset, span.Status().Code)
		require.Empty(t, span.Events())
		for key, value := range map[string]string{
			"deployment": "blue", "network.protocol.name": "websocket", "url.scheme": "ws", "url.path": "/chat/42",
			"http.route": "/chat/{room}", "server.address": "example.com", "server.port": "8080", "user_agent.original": "tester/1",
			"websocket.subprotocol": "chat.v1", "websocket.close.code": "4000", "websocket.close.reason": "enough",
			"websocket.close.initiator": "peer", "websocket.close.clean": "true", "websocket.received.messages": "1",
			"websocket.received.bytes": "5", "websocket.sent.messages": "1", "websocket.sent.bytes": "5", "websocket.dropped.messages": "0",
		} {
			require.Equal(t, value, attributes[key], key)
		}
		require.NotEmpty(t, attributes["network.peer.address"])
		require.NotContains(t, attributes, "error.type")
		for key, value := range attributes {
			require.NotContains(t, value, "secret", key)
		}
	})
}

// The span of a request is that of middleware, of the client, or there is none.
func TestSpansBelongToTheRequests(t *testing.T) {
	for name, row := range map[string]struct {
		middleware, client, child bool
		kind                      trace.SpanKind
	}{
		"alone":                          {kind: trace.SpanKindServer},
		"linked to middleware's":         {middleware: true, client: true, kind: trace.SpanKindServer},
		"linked to the client's":         {client: true, kind: trace.SpanKindServer},
		"a child, alone":                 {child: true, kind: trace.SpanKindServer},
		"a child of middleware's":        {child: true, middleware: true, kind: trace.SpanKindInternal},
		"a child of that of the client ": {child: true, client: true, kind: trace.SpanKindServer},
	} {
		t.Run(name, func(t *testing.T) {
			s, clients := newSDK(t), newSDK(t)
			s.Propagator, s.ChildSpans = propagation.TraceContext{}, row.child
			clients.Propagator, clients.ChildSpans = propagation.TraceContext{}, row.child
			ws := &wsd.Server{Handler: echo}
			require.NoError(t, s.new(wsd.ServerRole).Watch(ws))
			outer := newSDK(t)
			var above trace.SpanContext
			server := wsdtest.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if row.middleware {
					ctx, span := outer.tracer.Tracer("middleware").Start(r.Context(), "GET")
					defer span.End()
					above = span.SpanContext()
					r = r.WithContext(ctx)
				}
				ws.ServeHTTP(w, r)
			}))
			defer server.Close()

			ctx, telemetry := t.Context(), clients.new(wsd.ClientRole)
			opts := &wsd.DialOptions{Config: wsd.Config{Trace: telemetry.Trace()}, Header: http.Header{"Own": {"1"}}}
			if row.client {
				var span trace.Span
				ctx, span = outer.tracer.Tracer("program").Start(ctx, "ask")
				defer span.End()
				before := opts.Header
				telemetry.Inject(ctx, opts)
				require.Len(t, before, 1, "it is not changed")
				require.Len(t, opts.Header, 2)
				if !row.middleware {
					above = span.SpanContext()
				}
			}
			conn, _, err := server.Dial(ctx, "/", opts)
			require.NoError(t, err)
			require.NoError(t, conn.Close(wsd.StatusNormalClosure, ""))
			require.NoError(t, ws.Shutdown(t.Context()))

			span, _ := s.ended()
			require.Equal(t, row.kind, span.SpanKind())
			switch {
			case !above.IsValid():
				require.Empty(t, span.Links())
				require.False(t, span.Parent().IsValid())
			case row.child:
				require.Empty(t, span.Links())
				require.Equal(t, above.SpanID(), span.Parent().SpanID())
				require.Equal(t, above.TraceID(), span.SpanContext().TraceID())
			default:
				require.False(t, span.Parent().IsValid())
				require.Len(t, span.Links(), 1)
				require.Equal(t, above.SpanID(), span.Links()[0].SpanContext.SpanID())
				require.NotEqual(t, above.TraceID(), span.SpanContext().TraceID())
			}
			<-conn.Closed()
			own, attributes := clients.ended()
			require.Equal(t, trace.SpanKindClient, own.SpanKind())
			require.Equal(t, "local", attributes["websocket.close.initiator"])
			require.Equal(t, "/", attributes["url.path"])
			require.Equal(t, row.client && row.child, own.Parent().IsValid())
			require.Equal(t, row.client && !row.child, len(own.Links()) == 1)
		})
	}
}

// Trouble is told by events, as many as were asked for.
func TestSpanEvents(t *testing.T) {
	for name, row := range map[string]struct {
		most            int
		events, omitted string
	}{
		"all": {0, "websocket.stall.begun websocket.stall.ended websocket.queue.full websocket.queue.full websocket.stall.begun " +
			"websocket.stall.ended websocket.message.dropped", ""},
		"some": {3, "websocket.stall.begun websocket.stall.ended websocket.queue.full", "4"},
		"none": {-1, "", "7"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSDK(t)
				s.SpanEvents = row.most
				client, server := wsdtest.Pipe(wsd.Config{PingInterval: -1}, wsd.Config{
					Trace: s.new(wsd.ServerRole).Trace(), MessageBuffer: -1, SendQueue: 100, PingInterval: -1,
				})
				require.NoError(t, client.Send(t.Context(), wsd.Text("waits")))
				time.Sleep(time.Second)
				<-server.Messages()
				synctest.Wait()
				for full := 0; full < 2; {
					if server.TrySend(wsd.Binary(make([]byte, 1<<20))) != nil {
						full++
					}
				}
				require.NoError(t, client.Send(t.Context(), wsd.Text("is dropped")))
				synctest.Wait()
				server.CloseNow()
				<-server.Closed()
				<-client.Closed()
				span, attributes := s.ended()
				require.Equal(t, row.events, eventNames(span))
				require.Equal(t, row.omitted, attributes["websocket.omitted.events"])
				require.Equal(t, "1", attributes["websocket.dropped.messages"])
				require.Equal(t, "1006", attributes["websocket.close.code"])
				require.Equal(t, codes.Unset, span.Status().Code, "CloseNow is no failure")
				if row.most == 0 {
					require.Equal(t, map[string]string{"websocket.stall.duration": "1"}, asText(span.Events()[1].Attributes))
					require.Equal(t, map[string]string{"websocket.message.type": "text", "websocket.message.size": "10"},
						asText(span.Events()[6].Attributes))
				}
			})
		})
	}
}

// A connection that fails has a span that failed.
func TestSpanOfAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSDK(t)
		transport, peer := wsdtest.Transport()
		server := wsd.NewConn(transport, wsd.ServerRole, wsd.Config{Trace: s.new(wsd.ServerRole).Trace()})
		_, err := peer.Write([]byte("\x81\x01a")) // not masked
		require.NoError(t, err)
		go func() { _, _ = io.Copy(io.Discard, peer) }()
		time.AfterFunc(time.Second, func() { _ = peer.Close() })
		<-server.Closed()
		span, attributes := s.ended()
		require.Equal(t, "websocket", span.Name())
		require.Equal(t, codes.Error, span.Status().Code)
		require.Equal(t, server.CloseEvent().Err.Error(), span.Status().Description)
		require.Equal(t, "1002", attributes["error.type"])
		require.Equal(t, "1002", attributes["websocket.close.code"])
	})
}

// A handshake that is refused is told in the span of its request, which has no connection.
func TestRefusalInTheSpanOfTheRequest(t *testing.T) {
	s, outer := newSDK(t), newSDK(t)
	ws := &wsd.Server{Handler: echo}
	require.NoError(t, s.new(wsd.ServerRole).Watch(ws))
	server := wsdtest.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, span := outer.tracer.Tracer("middleware").Start(r.Context(), "GET")
		defer span.End()
		ws.ServeHTTP(w, r.WithContext(ctx))
	}))
	defer server.Close()
	_, _, err := server.Dial(t.Context(), "/", &wsd.DialOptions{Header: http.Header{"Origin": {"http://evil.example"}}})
	require.Error(t, err)
	server.Close()
	require.Empty(t, s.spans.Started())
	span, _ := outer.ended()
	require.Equal(t, "websocket.handshake.refused", eventNames(span))
	require.Contains(t, asText(span.Events()[0].Attributes)["exception.message"], "Origin")
}

// Nothing is recorded of a connection that is not sampled, and what a program does with its span does no harm.
func TestUnsampled(t *testing.T) {
	s := newSDK(t, sdktrace.WithSampler(sdktrace.NeverSample()))
	telemetry := s.new(wsd.ServerRole)
	client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Trace: telemetry.Trace()})
	require.False(t, telemetry.Span(server).IsRecording())
	telemetry.Span(server).AddEvent("nobody hears this")
	require.NoError(t, client.Close(wsd.StatusNormalClosure, ""))
	<-server.Closed()
	require.Empty(t, s.spans.Started())
	requireValues(t, s, map[string]float64{"server.connections": 1, "server.active_connections": 0})
}

// A program adds to the span what it knows.
func TestSpanOfAProgram(t *testing.T) {
	s := newSDK(t)
	telemetry := s.new(wsd.ServerRole)
	client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Trace: telemetry.Trace()})
	telemetry.Span(server).SetAttributes(attribute.String("user.name", "ann"))
	require.False(t, telemetry.Span(client).IsRecording(), "it is of another Telemetry, or of none")
	require.NoError(t, client.Close(wsd.StatusNormalClosure, ""))
	<-server.Closed()
	_, attributes := s.ended()
	require.Equal(t, "ann", attributes["user.name"])
	require.False(t, telemetry.Span(server).IsRecording(), "it has ended")
}

// Without providers it is the global ones, also those that are set later.
func TestGlobalProviders(t *testing.T) {
	tracers, meters, propagator := otel.GetTracerProvider(), otel.GetMeterProvider(), otel.GetTextMapPropagator()
	t.Cleanup(func() {
		otel.SetTracerProvider(tracers)
		otel.SetMeterProvider(meters)
		otel.SetTextMapPropagator(propagator)
	})
	s := newSDK(t)
	telemetry, err := newGlobal()
	require.NoError(t, err)
	otel.SetTracerProvider(s.TracerProvider)
	otel.SetMeterProvider(s.MeterProvider)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Trace: telemetry.Trace()})
	require.NoError(t, client.Close(wsd.StatusNormalClosure, ""))
	<-server.Closed()
	s.ended()
	requireValues(t, s, map[string]float64{"server.connections": 1})
	opts := new(wsd.DialOptions)
	ctx, span := s.tracer.Tracer("program").Start(context.Background(), "ask")
	defer span.End()
	telemetry.Inject(ctx, opts)
	require.Len(t, opts.Header, 1)
	require.NoError(t, telemetry.Unregister())
}
