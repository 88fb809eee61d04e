// Echo is a WebSocket server that sends every message back unchanged, with a page to try it from a browser. It is the
// example to copy for a server: limits, origin check, keepalive and an orderly shutdown are all in it.
//
//	go run ./examples/echo [-addr 127.0.0.1:8080] [-compress]
//
// Once the server listens, the first line on standard output is the page's URL. The socket is at /echo.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed62836080/wsd"
)

//go:embed page.html
var page []byte

const (
	// headerTimeout is how long a client may take for the head of its request, so that one that trickles cannot hold
	// resources.
	headerTimeout = 5 * time.Second
	// shutdownTimeout is longer than headerTimeout and wsd's CloseTimeout, so that all but peers that read slowly can end
	// on their own.
	shutdownTimeout = 10 * time.Second
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	compress := flag.Bool("compress", false, "agree to permessage-deflate (RFC 7692)")
	flag.Usage = usage
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "echo: expected no arguments, got %q; -help says more\n", flag.Args())
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for the shutdown
	if err := run(ctx, os.Stdout, *addr, *compress); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprint(flag.CommandLine.Output(), `usage: echo [flags]

Echo is a WebSocket server that sends every message back unchanged. It prints the URL of a page to try it from; the
socket is at /echo. Ctrl-C ends it.

`)
	flag.PrintDefaults()
}

// run serves until ctx is done, and then shuts down.
func run(ctx context.Context, stdout io.Writer, addr string, compress bool) error {
	ws := &wsd.Server{Handler: echo}
	ws.AcceptOptions.Subprotocols = []string{"echo"}
	if compress {
		ws.AcceptOptions.Compression = &wsd.Compression{}
	}

	mux := http.NewServeMux()
	mux.Handle("/echo", ws)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}

	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(stdout, pageURL(listener.Addr())); err != nil {
		_ = listener.Close()
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}

	limit, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	// http.Server calls this when its own shutdown begins, and does not wait for it: that is what the call below is for.
	server.RegisterOnShutdown(func() { _ = ws.Shutdown(limit) })
	return errors.Join(server.Shutdown(limit), ws.Shutdown(limit))
}

// echo runs for every connection, in a goroutine of its own.
func echo(conn *wsd.Conn) {
	for msg := range conn.Messages() {
		if conn.Send(conn.Context(), msg) != nil {
			return // the connection has ended; CloseEvent says why
		}
		msg.Release() // optional, but it saves garbage if there are many large messages
	}
}

// pageURL is where a browser on this machine finds the page.
func pageURL(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return fmt.Sprintf("http://localhost:%d/", tcp.Port)
	}
	return "http://" + addr.String() + "/"
}
