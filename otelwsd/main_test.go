// main_test.go has what the tests share, and looks for goroutines that outlive them.

package otelwsd_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/otelwsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// TestMain fails the binary when a goroutine outlives its test.
func TestMain(m *testing.M) {
	code := m.Run()
	for deadline := time.Now().Add(20 * time.Second); code == 0 && runtime.NumGoroutine() > 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			fmt.Fprintf(os.Stderr, "leaked goroutines:\n\n%s\n", stacks[:runtime.Stack(stacks, true)])
			code = 1
		}
	}
	os.Exit(code)
}

// sdk is where a test's metrics and spans go.
type sdk struct {
	t      testing.TB
	reader *sdkmetric.ManualReader
	spans  *tracetest.SpanRecorder
	tracer *sdktrace.TracerProvider
	otelwsd.Options
}

func newSDK(t testing.TB, options ...sdktrace.TracerProviderOption) *sdk {
	s := &sdk{t: t, reader: sdkmetric.NewManualReader(), spans: tracetest.NewSpanRecorder()}
	s.tracer = sdktrace.NewTracerProvider(append(options, sdktrace.WithSpanProcessor(s.spans))...)
	s.TracerProvider = s.tracer
	s.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(s.reader))
	return s
}

// new returns a Telemetry whose metrics and spans come here.
func (s *sdk) new(role wsd.Role) *otelwsd.Telemetry {
	s.t.Helper()
	telemetry, err := otelwsd.New(role, &s.Options)
	require.NoError(s.t, err)
	return telemetry
}

// metrics returns the metrics there are by their name, and checks that all are of one scope.
func (s *sdk) metrics() map[string]metricdata.Metrics {
	s.t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(s.t, s.reader.Collect(context.Background(), &all))
	byName := make(map[string]metricdata.Metrics)
	for _, scope := range all.ScopeMetrics {
		require.Equal(s.t, otelwsd.ScopeName, scope.Scope.Name)
		for _, m := range scope.Metrics {
			byName[m.Name] = m
		}
	}
	return byName
}

// values returns the values of all metrics, with their attributes as in "name{key=value}"; of histograms, the counts.
func (s *sdk) values() map[string]float64 {
	s.t.Helper()
	values := make(map[string]float64)
	for name, m := range s.metrics() {
		switch data := m.Data.(type) {
		case metricdata.Sum[int64]:
			for _, point := range data.DataPoints {
				values[series(name, point.Attributes)] = float64(point.Value)
			}
		case metricdata.Gauge[float64]:
			for _, point := range data.DataPoints {
				values[series(name, point.Attributes)] = point.Value
			}
		case metricdata.Histogram[float64]:
			for _, point := range data.DataPoints {
				values[series(name, point.Attributes)] = float64(point.Count)
			}
		default:
			s.t.Fatalf("%s is a %T", name, data)
		}
	}
	return values
}

func series(name string, attributes attribute.Set) string {
	if attributes.Len() == 0 {
		return name
	}
	return name + "{" + attributes.Encoded(attribute.DefaultEncoder()) + "}"
}

// ended returns the only span that has ended, and its attributes.
func (s *sdk) ended() (sdktrace.ReadOnlySpan, map[string]string) {
	s.t.Helper()
	require.Len(s.t, s.spans.Ended(), 1)
	span := s.spans.Ended()[0]
	return span, asText(span.Attributes())
}

func asText(attributes []attribute.KeyValue) map[string]string {
	texts := make(map[string]string)
	for _, a := range attributes {
		texts[string(a.Key)] = a.Value.String()
	}
	return texts
}

// eventNames returns the names of a span's events, in order.
func eventNames(span sdktrace.ReadOnlySpan) string {
	var names []string
	for _, event := range span.Events() {
		names = append(names, event.Name)
	}
	return strings.Join(names, " ")
}

// echo sends back what it receives.
func echo(c *wsd.Conn) {
	for m := range c.Messages() {
		if c.Send(c.Context(), m) != nil {
			return
		}
	}
}

// serve serves a wsd.Server at /chat/{room}, in memory.
func serve(t testing.TB, ws *wsd.Server) *wsdtest.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /chat/{room}", ws)
	server := wsdtest.Serve(mux)
	t.Cleanup(server.Close)
	return server
}

// dial opens a connection to a server that serve returned.
func dial(t testing.TB, server *wsdtest.Server, opts *wsd.DialOptions) *wsd.Conn {
	t.Helper()
	conn, _, err := server.Dial(t.Context(), "ws://example.com:8080/chat/42?token=secret", opts)
	require.NoError(t, err)
	return conn
}

// newGlobal returns a Telemetry that uses the global providers.
func newGlobal() (*otelwsd.Telemetry, error) { return otelwsd.New(wsd.ServerRole, nil) }
