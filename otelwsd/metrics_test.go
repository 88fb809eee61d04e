// metrics_test.go checks every metric: what it counts, on both sides, and that peers cannot make it grow.

package otelwsd_test

import (
	"context"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/otelwsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// requireValues compares some of the values; the key need not have the prefix "websocket.".
func requireValues(t *testing.T, s *sdk, expected map[string]float64) {
	t.Helper()
	values := s.values()
	for name, value := range expected {
		got, ok := values["websocket."+name]
		require.True(t, ok, "%s is not among %v", name, values)
		require.InDelta(t, value, got, 1e-9, name)
	}
}

func TestMetricsOfBothSides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, clients := newSDK(t), newSDK(t)
		ws := &wsd.Server{Handler: echo}
		ws.Compression = &wsd.Compression{}
		require.NoError(t, servers.new(wsd.ServerRole).Watch(ws))
		server := serve(t, ws)
		conn := dial(t, server, &wsd.DialOptions{Config: wsd.Config{
			Trace: clients.new(wsd.ClientRole).Trace(), Compression: &wsd.Compression{},
		}})
		long := strings.Repeat("the same again, ", 1000)
		for _, m := range []wsd.Message{wsd.Text(long), wsd.Text("short"), wsd.Binary([]byte{1, 2, 3})} {
			require.NoError(t, conn.Send(t.Context(), m))
			_, err := conn.Receive(t.Context())
			require.NoError(t, err)
		}
		_, err := conn.Ping(t.Context(), nil)
		require.NoError(t, err)
		synctest.Wait()
		for side, s := range map[string]*sdk{"server": servers, "client": clients} {
			requireValues(t, s, map[string]float64{
				side + ".connections":        1,
				side + ".active_connections": 1,
				side + ".messages{network.io.direction=receive,websocket.message.type=text}":    2,
				side + ".messages{network.io.direction=transmit,websocket.message.type=text}":   2,
				side + ".messages{network.io.direction=receive,websocket.message.type=binary}":  1,
				side + ".messages{network.io.direction=transmit,websocket.message.type=binary}": 1,
				side + ".io{network.io.direction=receive,websocket.message.type=text}":          16005,
				side + ".io{network.io.direction=transmit,websocket.message.type=text}":         16005,
				side + ".io{network.io.direction=receive,websocket.message.type=binary}":        3,
				side + ".wire.io{network.io.direction=transmit,websocket.message.type=binary}":  3,
			})
			wire := s.values()["websocket."+side+".wire.io{network.io.direction=transmit,websocket.message.type=text}"]
			require.Less(t, wire, 1000.0)
			require.Greater(t, wire, 5.0)
		}
		requireValues(t, servers, map[string]float64{"server.received_pings": 1, "server.writes": 4})
		requireValues(t, clients, map[string]float64{"client.received_pings": 0, "client.ping.duration": 1})

		time.Sleep(time.Hour)
		require.NoError(t, conn.Close(4999, "done"))
		require.NoError(t, ws.Shutdown(t.Context()))
		requireValues(t, servers, map[string]float64{
			"server.active_connections": 0, "server.connections": 1,
			"server.connection.duration{websocket.close.code=4xxx,websocket.close.initiator=peer}": 1,
		})
		requireValues(t, clients, map[string]float64{
			"client.active_connections": 0,
			"client.connection.duration{websocket.close.code=4xxx,websocket.close.initiator=local}": 1,
		})
		lasted := servers.metrics()["websocket.server.connection.duration"].Data.(metricdata.Histogram[float64]).DataPoints[0]
		require.InDelta(t, 3600, lasted.Sum, 1)
	})
}

// What goes wrong on one connection: stalls, drops, a full queue.
func TestMetricsOfTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSDK(t)
		telemetry := s.new(wsd.ServerRole)
		client, server := wsdtest.Pipe(wsd.Config{PingInterval: -1}, wsd.Config{
			Trace: telemetry.Trace(), MessageBuffer: -1, SendQueue: 100, PingInterval: -1, CloseTimeout: time.Second,
		})
		require.NoError(t, client.Send(t.Context(), wsd.Text("waits")))
		time.Sleep(2 * time.Second)
		requireValues(t, s, map[string]float64{"server.stalled_connections": 1})
		<-server.Messages()
		synctest.Wait()
		requireValues(t, s, map[string]float64{"server.stalled_connections": 0, "server.stall.duration": 1})
		require.InDelta(t, 2, s.metrics()["websocket.server.stall.duration"].Data.(metricdata.Histogram[float64]).DataPoints[0].Sum, 1e-9)

		require.NoError(t, client.Send(t.Context(), wsd.Text("is dropped")))
		synctest.Wait()
		for full := 0; full < 3; {
			if server.TrySend(wsd.Binary(make([]byte, 1<<20))) != nil {
				full++
			}
		}
		server.CloseNow()
		<-server.Closed()
		<-client.Closed()
		requireValues(t, s, map[string]float64{
			"server.stalled_connections": 0, "server.stall.duration": 2, "server.queue.overflows": 3,
			"server.dropped_messages{websocket.message.type=text}": 1, "server.dropped_messages{websocket.message.type=binary}": 0,
			"server.connection.duration{websocket.close.code=1006,websocket.close.initiator=local}": 1,
		})
	})
}

// What a Server knows, and the handshakes that it refuses.
func TestMetricsOfAServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSDK(t)
		alsoRefused := 0
		ws := &wsd.Server{Handler: func(c *wsd.Conn) {
			if m, _ := c.Receive(c.Context()); string(m.Data) == "panic" {
				panic("as asked")
			}
			for range 2 { // the client holds the first one
				_ = c.Send(c.Context(), wsd.Binary(make([]byte, 1<<20)))
			}
		}}
		ws.Logger = discard
		ws.Limits.Connections, ws.PingInterval = 1, -1
		ws.Refused = func(*http.Request, *wsd.HandshakeError) { alsoRefused++ }
		require.NoError(t, s.new(wsd.ServerRole).Watch(ws))
		server := serve(t, ws)
		requireValues(t, s, map[string]float64{"server.queue.size": 0, "server.queue.age": 0})

		conn := dial(t, server, &wsd.DialOptions{Config: wsd.Config{MessageBuffer: -1, PingInterval: -1}})
		_, _, err := server.Dial(t.Context(), "/chat/42", nil)
		require.Error(t, err, "the server is full")
		defer conn.CloseNow()
		require.NoError(t, conn.Send(t.Context(), wsd.Text("go on")))
		time.Sleep(time.Minute)
		values := s.values()
		require.Greater(t, values["websocket.server.queue.size"], 100000.0, values)
		require.InDelta(t, 60, values["websocket.server.queue.age"], 1)
		<-conn.Messages()
		<-conn.Messages()
		<-conn.Closed()
		synctest.Wait()

		resp, err := server.Client().Get("http://example.com/chat/42")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		conn = dial(t, server, nil)
		require.NoError(t, conn.Send(t.Context(), wsd.Text("panic")))
		<-conn.Closed()
		require.NoError(t, ws.Shutdown(t.Context()))
		requireValues(t, s, map[string]float64{
			"server.refused_handshakes{http.response.status_code=503}": 1, "server.limited_handshakes": 1,
			"server.refused_handshakes{http.response.status_code=426}": 1, "server.failed_handlers": 1,
			"server.queue.size": 0, "server.queue.age": 0, "server.coalesced_pongs": 0,
			"server.connection.duration{error.type=1011,websocket.close.code=1011,websocket.close.initiator=local}": 1,
		})
		require.Equal(t, 2, alsoRefused)
	})
}

// Only what New was told is on the metrics of a connection, whatever its peer sends.
func TestMetricsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSDK(t)
		s.CloseCodes = []wsd.StatusCode{4001}
		ws := &wsd.Server{Handler: echo}
		require.NoError(t, s.new(wsd.ServerRole).Watch(ws))
		server := serve(t, ws)
		for code := wsd.StatusCode(3000); code < 5000; code += 37 {
			require.NoError(t, dial(t, server, nil).Close(code, "some reason"))
		}
		for code := wsd.StatusCode(1000); code < 1015; code++ {
			conn := dial(t, server, nil)
			_ = conn.Close(code, "some reason")
			conn.CloseNow()
			<-conn.Closed()
		}
		require.NoError(t, dial(t, server, nil).Close(4001, ""))
		for range 300 { // statuses that nobody can ask for are bounded by who answers
			_, _, err := server.Dial(t.Context(), "/chat/42", &wsd.DialOptions{Header: http.Header{"Origin": {"http://evil.example"}}})
			require.Error(t, err)
		}
		require.NoError(t, ws.Shutdown(t.Context()))
		values := s.values()
		require.Less(t, len(values), 60)
		require.Contains(t, values, "websocket.server.connection.duration{websocket.close.code=4001,websocket.close.initiator=peer}")
		require.InDelta(t, 300, values["websocket.server.refused_handshakes{http.response.status_code=403}"], 0)
		for name := range values {
			for _, leaked := range []string{"address", "path", "42", "secret", "reason", "evil"} {
				require.NotContains(t, name, leaked)
			}
		}
	})
}

// Two that share a MeterProvider are told apart by their attributes, and add up without.
func TestSeveralTelemetries(t *testing.T) {
	open := func(telemetry *otelwsd.Telemetry) {
		client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Trace: telemetry.Trace()})
		t.Cleanup(func() {
			client.CloseNow()
			server.CloseNow()
		})
	}
	s := newSDK(t)
	one, two := s.new(wsd.ServerRole), s.new(wsd.ServerRole)
	s.Attributes = []attribute.KeyValue{attribute.String("http.route", "/feed")}
	feed := s.new(wsd.ServerRole)
	open(one)
	open(two)
	open(two)
	open(feed)
	requireValues(t, s, map[string]float64{"server.connections": 3, "server.connections{http.route=/feed}": 1})
	require.NoError(t, two.Unregister())
	open(two)
	requireValues(t, s, map[string]float64{"server.connections": 1, "server.connections{http.route=/feed}": 1})
	require.NoError(t, one.Unregister())
	require.NoError(t, feed.Unregister())
	require.NotContains(t, s.values(), "websocket.server.connections")
	require.NoError(t, feed.Unregister(), "again")
}

func TestWatchNeedsTheServersRole(t *testing.T) {
	s := newSDK(t)
	require.ErrorContains(t, s.new(wsd.ClientRole).Watch(new(wsd.Server)), "for clients")
}

// The causes that have a name of their own.
func TestErrorTypes(t *testing.T) {
	for name, provoke := range map[string]func(client, server *wsd.Conn){
		"pong_timeout":  func(client, _ *wsd.Conn) {}, // which does not read
		"close_timeout": func(_, server *wsd.Conn) { _ = server.Close(wsd.StatusNormalClosure, "") },
		"slow_consumer": func(client, _ *wsd.Conn) { _ = client.Send(context.Background(), wsd.Text("nobody receives this")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSDK(t)
				config := wsd.Config{
					Trace: s.new(wsd.ServerRole).Trace(), MessageBuffer: -1, SlowConsumer: wsd.CloseSlow,
				}
				transport, peer := wsdtest.Transport()
				server := wsd.NewConn(transport, wsd.ServerRole, config)
				silent := wsd.NewConn(peer, wsd.ClientRole, wsd.Config{PingInterval: -1, MessageBuffer: -1, WriteTimeout: -1, StreamAbove: 1, BodyTimeout: -1, CloseTimeout: -1})
				if name != "slow_consumer" {
					_ = server.Send(context.Background(), wsd.Text("the peer reads nothing behind this, not even pings"))
					_ = server.Send(context.Background(), wsd.Text("nor this"))
					synctest.Wait()
				}
				provoke(silent, server)
				<-server.Closed()
				silent.CloseNow()
				<-silent.Closed()
				span, attributes := s.ended()
				require.Equal(t, name, attributes["error.type"])
				require.NotEmpty(t, span.Status().Description)
			})
		})
	}
}

// The table in the documentation has all metrics there are, with their units, and no others.
func TestDocumentedMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSDK(t)
		ws := &wsd.Server{Handler: echo}
		require.NoError(t, s.new(wsd.ServerRole).Watch(ws))
		server := serve(t, ws)
		_, _, err := server.Dial(t.Context(), "/chat/42", &wsd.DialOptions{Header: http.Header{"Origin": {"http://evil.example"}}})
		require.Error(t, err)
		for _, side := range []wsd.Role{wsd.ServerRole, wsd.ClientRole} {
			trace := s.new(side).Trace()
			conn := dial(t, server, &wsd.DialOptions{Config: wsd.Config{Trace: trace}})
			callAll(trace, conn)
			conn.CloseNow()
		}
		require.NoError(t, ws.Shutdown(t.Context()))
		exported := make(map[string]string)
		for name, m := range s.metrics() {
			exported[name] = m.Unit
			require.NotEmpty(t, m.Description, name)
		}
		source, err := os.ReadFile("doc.go")
		require.NoError(t, err)
		documented := make(map[string]string)
		for _, row := range regexp.MustCompile(`(?m)^//\t(websocket\.\S+) +(\S+) `).FindAllStringSubmatch(string(source), -1) {
			for _, side := range []string{"server", "client"} {
				documented[strings.Replace(row[1], "SIDE", side, 1)] = row[2]
			}
		}
		require.Equal(t, documented, exported)
	})
}
