// hostile_test.go has hooks called when nobody should, from everywhere at once, and together with hooks that fail.

package otelwsd_test

import (
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/otelwsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// callAll calls all hooks of a connection but Opened.
func callAll(trace *wsd.Trace, c *wsd.Conn) {
	m := wsd.MessageInfo{Type: wsd.TextMessage, Size: 3, WireSize: 2}
	trace.MessageReceived(c, m)
	trace.MessageDropped(c, m)
	trace.MessageSent(c, m)
	trace.QueueFull(c)
	trace.PingReceived(c, nil)
	trace.RoundTrip(c, time.Second)
	trace.StallBegun(c)
	trace.StallEnded(c, time.Second)
	trace.Ended(c, wsd.CloseEvent{})
}

// What comes for a connection that has ended, or never began, changes no span and lets no number become negative.
func TestHooksBehindTheEnd(t *testing.T) {
	s := newSDK(t)
	telemetry := s.new(wsd.ServerRole)
	client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Trace: telemetry.Trace()})
	require.NoError(t, client.Close(wsd.StatusNormalClosure, ""))
	<-server.Closed()
	callAll(telemetry.Trace(), server) // once more
	callAll(telemetry.Trace(), client) // of which it has not been told
	telemetry.Trace().StallBegun(server)
	span, attributes := s.ended()
	require.Empty(t, span.Events())
	require.Equal(t, "1000", attributes["websocket.close.code"])
	requireValues(t, s, map[string]float64{
		"server.connections": 1, "server.active_connections": 0, "server.stalled_connections": 0,
		"server.connection.duration{websocket.close.code=1000,websocket.close.initiator=peer}": 1,
	})
}

// A beginning of which nothing is known makes a span that says little.
func TestOpenedWithoutInformation(t *testing.T) {
	for name, info := range map[string]wsd.OpenedInfo{
		"nothing": {}, "a request": {Request: new(http.Request)}, "an answer": {Response: new(http.Response)},
		"an answer to a request": {Response: &http.Response{Request: new(http.Request)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSDK(t)
			trace := s.new(wsd.ClientRole).Trace()
			client, server := wsdtest.Pipe()
			client.CloseNow()
			server.CloseNow()
			trace.Opened(client, info)
			trace.Ended(client, client.CloseEvent())
			s.ended()
		})
	}
}

// A stall that nobody ends is over when the connection is.
func TestStallsEndWithTheirConnection(t *testing.T) {
	s := newSDK(t)
	telemetry := s.new(wsd.ServerRole)
	client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Trace: telemetry.Trace()})
	telemetry.Trace().StallBegun(server)
	telemetry.Trace().StallBegun(server)
	requireValues(t, s, map[string]float64{"server.stalled_connections": 1})
	client.CloseNow()
	<-server.Closed()
	requireValues(t, s, map[string]float64{"server.stalled_connections": 0})
}

// Hooks of others that panic do not spoil the counts if they come later.
func TestOtherHooksThatPanic(t *testing.T) {
	logged := slog.Default()
	slog.SetDefault(discard)
	defer slog.SetDefault(logged)
	s := newSDK(t)
	telemetry := s.new(wsd.ServerRole)
	for _, failing := range []*wsd.Trace{
		{Opened: func(*wsd.Conn, wsd.OpenedInfo) { panic("the program's own") }},
		{Ended: func(*wsd.Conn, wsd.CloseEvent) { panic("the program's own") }},
	} {
		client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Trace: wsd.MultiTrace(telemetry.Trace(), failing)})
		client.CloseNow()
		<-server.Closed()
	}
	requireValues(t, s, map[string]float64{"server.connections": 2, "server.active_connections": 0})
	require.Len(t, s.spans.Ended(), 2)
}

// Many connections at once, while metrics are read and spans are asked for: nothing is lost and nothing is left.
func TestManyConnections(t *testing.T) {
	const conns, messages = 300, 10
	s := newSDK(t)
	telemetry := s.new(wsd.ServerRole)
	stop, reading := make(chan struct{}), sync.WaitGroup{}
	reading.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.values()
			}
		}
	})
	var all sync.WaitGroup
	for range conns {
		all.Go(func() {
			client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Trace: telemetry.Trace()})
			go echo(server)
			for range messages {
				if err := client.Send(t.Context(), wsd.Text("hello")); err != nil {
					t.Error(err)
				}
				if _, err := client.Receive(t.Context()); err != nil {
					t.Error(err)
				}
				telemetry.Span(server).AddEvent("seen")
			}
			if err := client.Close(wsd.StatusNormalClosure, ""); err != nil {
				t.Error(err)
			}
			<-server.Closed()
		})
	}
	all.Wait()
	close(stop)
	reading.Wait()
	require.Len(t, s.spans.Ended(), conns)
	requireValues(t, s, map[string]float64{
		"server.connections": conns, "server.active_connections": 0,
		"server.messages{network.io.direction=receive,websocket.message.type=text}":            conns * messages,
		"server.messages{network.io.direction=transmit,websocket.message.type=text}":           conns * messages,
		"server.connection.duration{websocket.close.code=1000,websocket.close.initiator=peer}": conns,
	})
}

// hooksOfAMessage are what is called for a message, and for one that is answered behind a stall.
func hooksOfAMessage(telemetry *otelwsd.Telemetry, c *wsd.Conn) map[string]func() {
	trace, m := telemetry.Trace(), wsd.MessageInfo{Type: wsd.TextMessage, Size: 64, WireSize: 40}
	return map[string]func(){
		"message": func() {
			trace.MessageReceived(c, m)
			trace.MessageSent(c, m)
		},
		"dropped":    func() { trace.MessageDropped(c, m) },
		"queue full": func() { trace.QueueFull(c) },
		"stall": func() {
			trace.StallBegun(c)
			trace.StallEnded(c, time.Millisecond)
		},
		"ping":       func() { trace.PingReceived(c, nil) },
		"round trip": func() { trace.RoundTrip(c, time.Millisecond) },
	}
}

// Nothing is allocated for a message, sampled or not, once a span has its events.
func TestHooksAllocateNothing(t *testing.T) {
	s := newSDK(t)
	s.SpanEvents = -1
	telemetry := s.new(wsd.ServerRole)
	client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Trace: telemetry.Trace()})
	defer client.CloseNow()
	defer server.CloseNow()
	for name, hooks := range hooksOfAMessage(telemetry, server) {
		require.Zero(t, testing.AllocsPerRun(1000, hooks), name)
	}
}

// BenchmarkHooks measures what the hooks of a message cost, with many processors at it.
func BenchmarkHooks(b *testing.B) {
	s := newSDK(b)
	s.SpanEvents = -1
	telemetry := s.new(wsd.ServerRole)
	client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Trace: telemetry.Trace()})
	defer client.CloseNow()
	defer server.CloseNow()
	for name, hooks := range hooksOfAMessage(telemetry, server) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				hooks()
			}
		})
	}
	b.Run("message, each processor its own connection", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Trace: telemetry.Trace()})
			defer client.CloseNow()
			defer server.CloseNow()
			message := hooksOfAMessage(telemetry, server)["message"]
			for pb.Next() {
				message()
			}
		})
	})
}
