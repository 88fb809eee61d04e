// Browser is a page whose client is written in Go. The server builds that client for js/wasm when it starts, and serves it
// with the page: a graph of round trips through an echo, and a room of a hub. Stop the server and start it again: the client
// comes back by itself.
//
//	go run ./examples/browser [-addr 127.0.0.1:8080]
//
// Once the server listens, the first line on standard output is the page's URL. The client is in the directory client. The
// go command has to be installed, as the server runs it.
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
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
)

//go:embed page.html
var page []byte

const (
	// client is the package that runs in the browser.
	client = "github.com/seed62836080/wsd/examples/browser/client"
	// room is the only topic.
	room = "room"
	// headerTimeout is how long a client may take for the head of its request, so that one that trickles cannot hold
	// resources.
	headerTimeout = 5 * time.Second
	// shutdownTimeout is longer than headerTimeout and wsd's CloseTimeout, so that everything can end on its own.
	shutdownTimeout = 10 * time.Second
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	flag.Usage = usage
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "browser: expected no arguments, got %q; -help says more\n", flag.Args())
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for the shutdown
	if err := run(ctx, os.Stdout, *addr); err != nil {
		fmt.Fprintln(os.Stderr, "browser:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprint(flag.CommandLine.Output(), `usage: browser [flags]

Browser is a page whose client is written in Go and built at start. It prints the URL of the page. Ctrl-C ends it.

`)
	flag.PrintDefaults()
}

// run serves until ctx is done, and then shuts down.
func run(ctx context.Context, stdout io.Writer, addr string) error {
	dir, err := os.MkdirTemp("", "wsd-browser-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	files, err := build(ctx, dir)
	if err != nil {
		return err
	}
	rooms := hub.New(nil)
	echoes, members := &wsd.Server{Handler: echo}, &wsd.Server{Handler: func(conn *wsd.Conn) { join(rooms, conn) }}

	mux := http.NewServeMux()
	mux.Handle("/echo", echoes)
	mux.Handle("/room", members)
	for name, path := range files {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) })
	}
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
	// http.Server calls this when its own shutdown begins, and does not wait for it: that is what the calls below are for.
	server.RegisterOnShutdown(func() {
		go func() { _ = echoes.Shutdown(limit) }()
		go func() { _ = members.Shutdown(limit) }()
	})
	return errors.Join(server.Shutdown(limit), echoes.Shutdown(limit), members.Shutdown(limit), rooms.Close())
}

// build builds the client in dir, and returns what the page loads, by name.
func build(ctx context.Context, dir string) (files map[string]string, err error) {
	wasm := filepath.Join(dir, "client.wasm")
	goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", wasm, client)
	cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm")
	if output, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build, which needs the directory of wsd: %w\n%s", err, output)
	}
	// The glue between Go and JavaScript belongs to the release of Go that has built the client.
	glue := filepath.Join(strings.TrimSpace(string(goroot)), "lib", "wasm", "wasm_exec.js")
	return map[string]string{"client.wasm": wasm, "wasm_exec.js": glue}, nil
}

// echo runs for every connection to /echo, in a goroutine of its own.
func echo(conn *wsd.Conn) {
	for msg := range conn.Messages() {
		if conn.Send(conn.Context(), msg) != nil {
			return
		}
	}
}

// join runs for every connection to /room: what it sends goes to everybody there.
func join(rooms *hub.Hub, conn *wsd.Conn) {
	conn.SetMaxMessageSize(4 << 10)
	member, err := rooms.Join(conn, "")
	if err != nil || member.Subscribe(room) != nil {
		_ = conn.Close(wsd.StatusTryAgainLater, "")
		return
	}
	for msg := range conn.Messages() {
		if msg.Type != wsd.TextMessage || rooms.Publish(conn.Context(), room, msg) != nil {
			_ = conn.Close(wsd.StatusUnsupportedData, "expected text")
			return
		}
	}
}

// pageURL is where a browser on this machine finds the page.
func pageURL(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return fmt.Sprintf("http://localhost:%d/", tcp.Port)
	}
	return "http://" + addr.String() + "/"
}
