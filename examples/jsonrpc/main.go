// Command jsonrpc calls methods of a JSON-RPC server over a WebSocket that comes back: several at a time, with notifications
// in between, and with a subscription that survives the loss of the connection.
//
//	go run ./examples/jsonrpc [-url ws://host/path]
//
// Without -url it starts its own server, which drops its client every 5 seconds. Ctrl-C ends it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/seed62836080/wsd"
)

func main() {
	url := flag.String("url", "", "the `URL` of the server; without one it starts a server of its own")
	flag.Usage = usage
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "jsonrpc: expected no arguments, got %q; -help says more\n", flag.Args())
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for the connection to be closed
	if *url == "" {
		server := httptest.NewServer(demo(time.Second, 5*time.Second))
		defer server.Close()
		*url = server.URL
	}
	if err := run(ctx, os.Stdout, *url, time.Second); err != nil {
		fmt.Fprintln(os.Stderr, "jsonrpc:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprint(flag.CommandLine.Output(), `usage: jsonrpc [flags]

Jsonrpc adds numbers by calling a server, several sums at a time, and prints what it is notified of. When the connection is
lost it makes a new one and subscribes again. Ctrl-C ends it.

`)
	flag.PrintDefaults()
}

// run calls the server in every interval until ctx is done, or there is no use in going on.
func run(ctx context.Context, out io.Writer, url string, every time.Duration) error {
	var mu sync.Mutex
	printf := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, format+"\n", args...)
	}
	c := newClient(func(method string, params json.RawMessage) { printf("%s %s", method, params) })
	running, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() {
		if err := c.subscribe(running, "time"); err != nil && running.Err() == nil {
			printf("not subscribed: %v", err)
		}
		for n := 1; running.Err() == nil; n++ {
			var calls sync.WaitGroup
			for i := range 3 {
				calls.Go(func() {
					var sum int
					if err := c.call(running, "add", []int{n, i}, &sum); err != nil {
						printf("%d + %d: %v", n, i, err)
						return
					}
					printf("%d + %d = %d", n, i, sum)
				})
			}
			calls.Wait()
			_ = c.notify(running, "done", n) // the server need not know of each
			select {
			case <-time.After(every):
			case <-running.Done():
			}
		}
	})
	return c.run(ctx, url, &wsd.RedialOptions{ResetAfter: every})
}

// demo is a server that adds numbers, tells subscribers the time at intervals, and drops its clients after a while.
func demo(every, life time.Duration) http.Handler {
	return &wsd.Server{Handler: func(conn *wsd.Conn) {
		drop := time.AfterFunc(life, func() { _ = conn.StartClose(wsd.StatusServiceRestart, "") })
		defer drop.Stop()
		var tick <-chan time.Time // nil until somebody subscribes
		for {
			var answer any
			select {
			case now := <-tick:
				answer = call{Version: "2.0", Method: "time", Params: now.Format(time.TimeOnly)}
			case msg, ok := <-conn.Messages():
				if !ok {
					return
				}
				var in incoming
				if err := msg.Decode(&in); err != nil {
					_ = conn.Close(wsd.StatusUnsupportedData, "expected JSON-RPC")
					return
				}
				if in.Method == "subscribe" && tick == nil {
					ticker := time.NewTicker(every)
					defer ticker.Stop()
					tick = ticker.C
				}
				if in.ID == 0 {
					continue // a notification
				}
				answer = in.answer()
			}
			msg, err := wsd.JSON(answer)
			if err != nil || conn.Send(conn.Context(), msg) != nil {
				return
			}
		}
	}}
}

// answer is what the server answers to a request.
func (in incoming) answer() any {
	result, failed := any(true), (*rpcError)(nil)
	switch in.Method {
	case "subscribe":
	case "add":
		var numbers []int
		sum := 0
		if err := json.Unmarshal(in.Params, &numbers); err != nil {
			failed = &rpcError{-32602, "expected a list of numbers"}
		}
		for _, n := range numbers {
			sum += n
		}
		result = sum
	default:
		failed = &rpcError{-32601, errors.ErrUnsupported.Error()}
	}
	return struct {
		Version string    `json:"jsonrpc"`
		ID      uint64    `json:"id"`
		Result  any       `json:"result,omitempty"`
		Error   *rpcError `json:"error,omitempty"`
	}{"2.0", in.ID, result, failed}
}
