// Command example is an echo server whose metrics Prometheus reads, for Grafana to show with dashboard.json.
//
//	go run . -addr 127.0.0.1:8080   # WebSockets at /echo, metrics at /metrics
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/otelwsd"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "the `address` to listen on")
	flag.Usage = usage
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "example: expected no arguments, got %q; -help says more\n", flag.Args())
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("WebSockets at ws://%[1]s/echo, metrics at http://%[1]s/metrics\n", listener.Addr())
	if err := run(ctx, listener); err != nil {
		log.Fatal(err)
	}
}

func usage() {
	fmt.Fprint(flag.CommandLine.Output(), `usage: example [flags]

Example is an echo server whose metrics Prometheus reads, for Grafana to show with dashboard.json. Ctrl-C ends it.

`)
	flag.PrintDefaults()
}

// run serves until ctx is done, and then ends all connections.
func run(ctx context.Context, listener net.Listener) error {
	registry := prometheus.NewRegistry()
	meters, err := newMeterProvider(registry)
	if err != nil {
		return err
	}
	ws, err := newServer(meters)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: routes(ws, registry), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	server.RegisterOnShutdown(func() { _ = ws.Shutdown(limit) })
	return errors.Join(server.Shutdown(limit), ws.Shutdown(limit), meters.Shutdown(limit))
}

// newMeterProvider returns a provider whose metrics a registry has. The names are those that Prometheus users expect, which
// the dashboard knows.
func newMeterProvider(registry *prometheus.Registry) (*sdkmetric.MeterProvider, error) {
	reader, err := exporter.New(
		exporter.WithRegisterer(registry),
		exporter.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes),
	)
	if err != nil {
		return nil, err
	}
	return sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), nil
}

// newServer returns a server of echoes that is watched.
func newServer(meters *sdkmetric.MeterProvider) (*wsd.Server, error) {
	telemetry, err := otelwsd.New(wsd.ServerRole, &otelwsd.Options{MeterProvider: meters})
	if err != nil {
		return nil, err
	}
	ws := &wsd.Server{Handler: func(c *wsd.Conn) {
		for m := range c.Messages() {
			if err := c.Send(c.Context(), m); err != nil {
				return
			}
		}
	}}
	ws.Compression = &wsd.Compression{}
	return ws, telemetry.Watch(ws)
}

func routes(ws *wsd.Server, registry *prometheus.Registry) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("/echo", ws)
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}
