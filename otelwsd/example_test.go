// example_test.go shows how a server, a client and a client that comes back are watched.

package otelwsd_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/otelwsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// A server, with everything there is to be known of it.
func Example() {
	reader := sdkmetric.NewManualReader() // or an exporter's; nil options use the global providers
	telemetry, err := otelwsd.New(wsd.ServerRole, &otelwsd.Options{
		MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
	})
	if err != nil {
		panic(err)
	}
	ws := &wsd.Server{Handler: func(c *wsd.Conn) {
		telemetry.Span(c).SetAttributes(attribute.String("user.name", "ann")) // what the program knows of the connection
		for m := range c.Messages() {
			c.Send(c.Context(), m)
		}
	}}
	if err := telemetry.Watch(ws); err != nil {
		panic(err)
	}

	server := wsdtest.Serve(ws) // or an http.Server
	ctx := context.Background()
	conn, _, _ := server.Dial(ctx, "/", nil)
	conn.Send(ctx, wsd.Text("hello"))
	conn.Receive(ctx)
	var all metricdata.ResourceMetrics
	reader.Collect(ctx, &all)
	for _, m := range all.ScopeMetrics[0].Metrics {
		if m.Name == "websocket.server.active_connections" {
			fmt.Println(m.Name, m.Data.(metricdata.Sum[int64]).DataPoints[0].Value)
		}
	}
	conn.Close(wsd.StatusNormalClosure, "")
	server.Close()
	// Output: websocket.server.active_connections 1
}

// A client. Inject passes the span of the context on, so that the server's span is linked to it.
func ExampleTelemetry_Inject() {
	telemetry, err := otelwsd.New(wsd.ClientRole, nil)
	if err != nil {
		panic(err)
	}
	dial := func(ctx context.Context, url string) (*wsd.Conn, error) {
		ctx, span := otel.Tracer("my program").Start(ctx, "connect")
		defer span.End()
		opts := &wsd.DialOptions{Config: wsd.Config{Trace: telemetry.Trace()}}
		telemetry.Inject(ctx, opts)
		conn, _, err := wsd.Dial(ctx, url, opts)
		return conn, err
	}
	// A client that comes back does so for each attempt.
	redial := &wsd.RedialOptions{
		DialOptions: wsd.DialOptions{Config: wsd.Config{Trace: telemetry.Trace()}},
		Prepare: func(ctx context.Context, opts *wsd.DialOptions) (string, error) {
			telemetry.Inject(ctx, opts)
			return "wss://example.com/feed", nil
		},
	}
	_, _ = dial, redial
}

// A handler that chooses options for itself puts the hooks into them.
func ExampleTelemetry_Trace() {
	telemetry, err := otelwsd.New(wsd.ServerRole, &otelwsd.Options{
		Attributes: []attribute.KeyValue{attribute.String("http.route", "/feed")},
	})
	if err != nil {
		panic(err)
	}
	ws := new(wsd.Server)
	slow := &wsd.Trace{RoundTrip: func(c *wsd.Conn, d time.Duration) {
		if d > time.Second {
			fmt.Println("slow:", c.RemoteAddr())
		}
	}}
	http.HandleFunc("/feed", func(w http.ResponseWriter, r *http.Request) {
		opts := &wsd.AcceptOptions{Refused: telemetry.Refused}
		opts.Trace = wsd.MultiTrace(telemetry.Trace(), slow)
		_ = ws.Serve(w, r, opts, func(c *wsd.Conn) { <-c.Closed() })
	})
}
