// spans.go is a connection's span: where it belongs, what it says at its beginning and its end.

package otelwsd

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed62836080/wsd"
)

// The names of events.
const (
	eventRefused    = "websocket.handshake.refused" // of the request's span
	eventStallBegun = "websocket.stall.begun"
	eventStallEnded = "websocket.stall.ended"
	eventDropped    = "websocket.message.dropped"
	eventQueueFull  = "websocket.queue.full"
)

// The attributes that the semantic conventions lack.
const (
	keyMessageType      = attribute.Key("websocket.message.type")
	keyMessageSize      = attribute.Key("websocket.message.size") // bytes, uncompressed
	keyStallDuration    = attribute.Key("websocket.stall.duration")
	keySubprotocol      = attribute.Key("websocket.subprotocol")
	keyExtensions       = attribute.Key("websocket.extensions")
	keyCloseCode        = attribute.Key("websocket.close.code")
	keyCloseReason      = attribute.Key("websocket.close.reason")
	keyCloseInitiator   = attribute.Key("websocket.close.initiator") // local or peer
	keyCloseClean       = attribute.Key("websocket.close.clean")
	keyReceivedMessages = attribute.Key("websocket.received.messages")
	keyReceivedBytes    = attribute.Key("websocket.received.bytes")
	keySentMessages     = attribute.Key("websocket.sent.messages")
	keySentBytes        = attribute.Key("websocket.sent.bytes")
	keyDroppedMessages  = attribute.Key("websocket.dropped.messages")
	keyOmittedEvents    = attribute.Key("websocket.omitted.events") // those beyond Options.SpanEvents
)

// begin returns the span of a connection that has just begun, nil if it is not recorded.
func (t *Telemetry) begin(c *wsd.Conn, info wsd.OpenedInfo) trace.Span {
	ctx, name := context.Background(), "websocket"
	attributes := append(make([]attribute.KeyValue, 0, 16), t.attributes...)
	attributes = append(attributes, semconv.NetworkProtocolName("websocket"))
	switch {
	case info.Request != nil:
		ctx = t.contextOf(info.Request)
		if route := routeOf(info.Request); route != "" {
			name += " " + route
			attributes = append(attributes, semconv.HTTPRoute(route))
		}
		attributes = appendRequest(attributes, info.Request)
	case info.Response != nil && info.Response.Request != nil:
		ctx = info.Response.Request.Context()
		attributes = appendTarget(attributes, info.Response.Request)
	}
	if subprotocol := c.Subprotocol(); subprotocol != "" {
		attributes = append(attributes, keySubprotocol.String(subprotocol))
	}
	if extensions := c.Extensions(); extensions != "" {
		attributes = append(attributes, keyExtensions.String(extensions))
	}
	if peer := c.RemoteAddr(); peer != nil {
		attributes = appendPeer(attributes, peer)
	}
	_, span := t.tracer.Start(ctx, name, append(t.parent(ctx), trace.WithAttributes(attributes...))...)
	if !span.IsRecording() {
		return nil
	}
	return span
}

// contextOf returns the request's context, with the client's span if it has none.
func (t *Telemetry) contextOf(r *http.Request) context.Context {
	ctx := r.Context()
	if trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	return t.propagation().Extract(ctx, propagation.HeaderCarrier(r.Header))
}

// parent says how a span stands to that of ctx, and of which kind it is: part of what this process does already, or where
// something from outside comes in or goes out.
func (t *Telemetry) parent(ctx context.Context) []trace.SpanStartOption {
	kind := trace.SpanKindServer
	if t.role == wsd.ClientRole {
		kind = trace.SpanKindClient
	}
	request := trace.SpanContextFromContext(ctx)
	if t.childSpans {
		if request.IsValid() && !request.IsRemote() && t.role == wsd.ServerRole {
			kind = trace.SpanKindInternal
		}
		return []trace.SpanStartOption{trace.WithSpanKind(kind)}
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(kind), trace.WithNewRoot()}
	if request.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: request}))
	}
	return options
}

// routeOf returns the path of the pattern by which a ServeMux chose the handler; empty if none did.
func routeOf(r *http.Request) string {
	if slash := strings.IndexByte(r.Pattern, '/'); slash >= 0 {
		return r.Pattern[slash:]
	}
	return ""
}

// appendRequest appends what a server knows of the client. Strings are copied, as they can be parts of the request's header.
func appendRequest(to []attribute.KeyValue, r *http.Request) []attribute.KeyValue {
	scheme := "ws"
	if r.TLS != nil {
		scheme = "wss"
	}
	to = append(to, semconv.URLScheme(scheme))
	if r.URL != nil {
		to = append(to, semconv.URLPath(strings.Clone(r.URL.Path))) // and not the query: that is where tokens are
	}
	to = appendServer(to, r.Host)
	if agent := r.UserAgent(); agent != "" {
		to = append(to, semconv.UserAgentOriginal(strings.Clone(agent)))
	}
	return to
}

// appendTarget appends what a client has dialed.
func appendTarget(to []attribute.KeyValue, r *http.Request) []attribute.KeyValue {
	if r.URL == nil {
		return to
	}
	scheme := "ws"
	if r.URL.Scheme == "https" {
		scheme = "wss"
	}
	return appendServer(append(to, semconv.URLScheme(scheme), semconv.URLPath(r.URL.Path)), r.URL.Host)
}

// appendServer appends the server's name, and its port if that is not the scheme's own.
func appendServer(to []attribute.KeyValue, hostport string) []attribute.KeyValue {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		host, port = hostport, ""
	}
	if host != "" {
		to = append(to, semconv.ServerAddress(strings.Clone(host)))
	}
	if number, err := strconv.Atoi(port); err == nil {
		to = append(to, semconv.ServerPort(number))
	}
	return to
}

// appendPeer appends the address of the other end of the connection, which may be a proxy.
func appendPeer(to []attribute.KeyValue, peer net.Addr) []attribute.KeyValue {
	if tcp, ok := peer.(*net.TCPAddr); ok {
		return append(to, semconv.NetworkPeerAddress(tcp.IP.String()), semconv.NetworkPeerPort(tcp.Port))
	}
	if address := peer.String(); address != "" {
		return append(to, semconv.NetworkPeerAddress(address))
	}
	return to
}

// end ends the span of a connection, if there is one.
func (t *Telemetry) end(c *wsd.Conn, conn *connection, event wsd.CloseEvent) {
	if conn.span == nil {
		return
	}
	stats := c.Stats()
	conn.span.SetAttributes(
		keyCloseCode.String(strconv.Itoa(int(event.Code))),
		keyCloseReason.String(event.Reason),
		keyCloseInitiator.String(initiator(event)),
		keyCloseClean.Bool(event.Clean),
		keyReceivedMessages.Int64(int64(stats.MessagesReceived)),
		keyReceivedBytes.Int64(int64(stats.BytesReceived)),
		keySentMessages.Int64(int64(stats.MessagesSent)),
		keySentBytes.Int64(int64(stats.BytesSent)),
		keyDroppedMessages.Int64(int64(stats.MessagesDropped)),
	)
	if omitted := conn.events - max(t.spanEvents, 0); omitted > 0 {
		conn.span.SetAttributes(keyOmittedEvents.Int(omitted))
	}
	if failed := failure(event); failed != "" {
		conn.span.SetAttributes(semconv.ErrorTypeKey.String(failed))
		description := ""
		if event.Err != nil {
			description = event.Err.Error()
		}
		conn.span.SetStatus(codes.Error, description)
	}
	conn.span.End()
}
