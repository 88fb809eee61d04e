// Command feed follows topics of a feed for as long as it runs, over as many connections as that takes.
//
//	go run ./examples/feed [-url ws://host/path] [TOPIC...]
//
// Without -url it starts its own feed, which drops its client every 15 seconds. Ctrl-C ends it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/seed62836080/wsd"
)

// subscription is what the client asks for, as the first message of every connection.
type subscription struct {
	Subscribe []string `json:"subscribe"`
}

// update is what the feed sends.
type update struct {
	Topic string `json:"topic"`
	Value int    `json:"value"`
}

func main() {
	url := flag.String("url", "", "the `URL` of the feed; without one it starts a feed of its own")
	flag.Usage = usage
	flag.Parse()
	topics := flag.Args()
	for _, topic := range topics {
		if strings.HasPrefix(topic, "-") {
			fmt.Fprintf(os.Stderr, "feed: expected flags before topics, got the topic %q; -help says more\n", topic)
			os.Exit(2)
		}
	}
	if len(topics) == 0 {
		topics = []string{"tea", "coffee"}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for connections to be closed
	if *url == "" {
		// 15 s in all: a connection that ends within RedialOptions.ResetAfter counts as a failure, and the pauses would
		// grow.
		server := httptest.NewServer(demo(300*time.Millisecond, 50))
		defer server.Close()
		*url = server.URL
	}
	if err := follow(ctx, os.Stdout, *url, topics, 2*time.Second); err != nil {
		fmt.Fprintln(os.Stderr, "feed:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprint(flag.CommandLine.Output(), `usage: feed [flags] [TOPIC...]

Feed prints the updates on some topics of a feed (tea and coffee unless you name others), and how many there have been. When
the connection is lost it makes a new one and subscribes again. Ctrl-C ends it.

`)
	flag.PrintDefaults()
}

// follow prints updates until ctx is done, and every so often how many there have been. It returns an error if there is
// no use in going on.
func follow(ctx context.Context, out io.Writer, url string, topics []string, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	updates := 0
	var last error
	for conn, err := range wsd.Redial(ctx, url, nil) {
		last = err
		if err != nil {
			fmt.Fprintln(out, "not connected:", err)
			continue
		}
		// The server knows nothing of the previous connection, so each one begins with this.
		m, err := wsd.JSON(subscription{topics})
		if err != nil {
			return err
		}
		if err := conn.Send(ctx, m); err != nil {
			continue
		}
		fmt.Fprintln(out, "subscribed to", topics)
		for open := true; open; {
			select {
			case m, ok := <-conn.Messages():
				if !ok {
					open = false
					break
				}
				var u update
				if err := m.Decode(&u); err != nil {
					fmt.Fprintln(out, "not an update:", err)
					break
				}
				updates++
				fmt.Fprintf(out, "%s %d\n", u.Topic, u.Value)
			case <-ticker.C:
				fmt.Fprintln(out, updates, "updates so far")
			case <-ctx.Done():
				return nil // Redial closes the connection
			}
		}
		<-conn.Closed()
		fmt.Fprintln(out, "connection lost:", conn.CloseEvent().Err)
	}
	if ctx.Err() != nil {
		return nil
	}
	return last
}

// demo is a feed that sends count updates, at intervals, and then drops its client.
func demo(interval time.Duration, count int) http.Handler {
	return &wsd.Server{Handler: func(conn *wsd.Conn) {
		var wish subscription
		m, err := conn.Receive(conn.Context())
		if err != nil || m.Decode(&wish) != nil || len(wish.Subscribe) == 0 {
			_ = conn.Close(wsd.StatusUnsupportedData, "expected a subscription")
			return
		}
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for i := range count {
			select {
			case <-ticker.C:
			case <-conn.Closed():
				return
			}
			m, err := wsd.JSON(update{wish.Subscribe[i%len(wish.Subscribe)], rand.IntN(1000)})
			if err != nil || conn.Send(conn.Context(), m) != nil {
				return
			}
		}
		_ = conn.Close(wsd.StatusServiceRestart, "")
	}}
}
