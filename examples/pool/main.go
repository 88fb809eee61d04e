// Command pool has 8 workers send requests over 3 pooled connections to an echo server, which it starts itself and
// restarts midway, and prints what the pool did. Every request is answered.
//
//	go run ./examples/pool [-requests 20000] [-outage 500ms]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/pool"
)

const workers, connections = 8, 3

func main() {
	requests := flag.Int("requests", 20000, "how many requests to do")
	outage := flag.Duration("outage", 500*time.Millisecond, "how long the server is away")
	flag.Usage = usage
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "pool: expected no arguments, got %q; -help says more\n", flag.Args())
		os.Exit(2)
	}
	if *requests < 1 {
		fmt.Fprintln(os.Stderr, "pool: -requests: expected at least 1, got", *requests)
		os.Exit(2)
	}
	if *outage < 0 {
		fmt.Fprintln(os.Stderr, "pool: -outage: expected a time that is not negative, got", *outage)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for connections to be closed
	if err := run(ctx, os.Stdout, *requests, *outage); err != nil {
		fmt.Fprintln(os.Stderr, "pool:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintf(flag.CommandLine.Output(), `usage: pool [flags]

Pool has %d workers send requests over %d pooled connections to an echo server, which it starts itself and restarts midway,
and prints what the pool did. Every request is answered. It ends by itself, within seconds.

`, workers, connections)
	flag.PrintDefaults()
}

func run(ctx context.Context, out io.Writer, requests int, outage time.Duration) error {
	server, err := startServer("127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { server.stop() }()
	p, err := pool.New("ws://"+server.addr, &pool.Options{MaxConns: connections, RetryFor: time.Minute})
	if err != nil {
		return err
	}
	defer p.Close()

	var next, answered, repeated atomic.Int64
	half := make(chan struct{}) // closed when half of the requests are answered
	group, ctx := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error {
			for number := next.Add(1); number <= int64(requests); number = next.Add(1) {
				// An echo can be requested twice. A request that changes something must not be repeated like this.
				for request(ctx, p, fmt.Sprintf("request %d", number)) != nil {
					if ctx.Err() != nil {
						return context.Cause(ctx)
					}
					repeated.Add(1)
				}
				if answered.Add(1) == int64(requests+1)/2 {
					close(half)
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		select {
		case <-half:
		case <-ctx.Done():
			return nil
		}
		fmt.Fprintf(out, "%d requests answered, the server stops for %v\n", answered.Load(), outage)
		server.stop()
		select {
		case <-time.After(outage):
		case <-ctx.Done():
			return nil
		}
		again, err := startServer(server.addr)
		if err != nil {
			return err
		}
		server = again
		return nil
	})
	if err := group.Wait(); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d of %d requests answered, %d tries were repeated\n\n", answered.Load(), requests, repeated.Load())
	table(out, p.Stats())
	return p.Shutdown(context.Background())
}

// request does one request over whichever connection is free.
func request(ctx context.Context, p *pool.Pool, text string) error {
	return p.Do(ctx, func(conn *pool.Conn) error {
		if err := conn.Send(ctx, wsd.Text(text)); err != nil {
			return err
		}
		answer, err := conn.Receive(ctx)
		if err == nil && string(answer.Data) != text {
			err = errors.New("the answer to another request: " + string(answer.Data))
		}
		return err
	})
}

func table(out io.Writer, s pool.Stats) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer w.Flush()
	fmt.Fprintln(w, "max\tin use\tidle\tacquired\twaited\tdials\tfailed\tlost\tdiscarded\t")
	fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n",
		s.MaxConns, s.InUse, s.Idle, s.Acquired, s.Waits, s.Dials, s.DialErrors, s.Lost, s.Discarded)
}

// echoServer is a server that can be stopped.
type echoServer struct {
	addr string
	stop func()
}

func startServer(addr string) (*echoServer, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	ws := &wsd.Server{Handler: func(conn *wsd.Conn) {
		for m := range conn.Messages() {
			if conn.Send(conn.Context(), m) != nil {
				return
			}
		}
	}}
	server := &http.Server{Handler: ws}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	return &echoServer{listener.Addr().String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Close()
		_ = ws.Shutdown(ctx)
		<-served
	}}, nil
}
