// Prices is a market of 1,000 instruments, published to whoever looks: a page with a live table, and beside it a client that
// reads far more slowly than prices change. It is the example for package hub, and for its policy Latest: who is slow skips
// prices that are no longer true, and costs nobody else anything.
//
//	go run ./examples/prices [-addr 127.0.0.1:8080] [-changes 2000] [-slow 100]
//
// Once the server listens, the first line on standard output is the URL of the page. Its socket is at /prices: it sends
// {"all": [...]}, all prices by number, then {"i": 17, "p": 101.25} for each that changes, {"i": 17, "slow": 101.25} for
// each that the slow client has read, and {"replaced": 12, "live": true} once a second. It takes the texts "stop" and "go".
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
)

//go:embed page.html
var page []byte

const (
	instruments     = 1000
	tick            = 50 * time.Millisecond // prices change in groups
	headerTimeout   = 5 * time.Second
	shutdownTimeout = 10 * time.Second
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	changes := flag.Int("changes", 2000, "`number` of prices that change in a second")
	slow := flag.Int("slow", 100, "`number` of messages that the slow client reads in a second")
	flag.Usage = usage
	flag.Parse()
	switch {
	case flag.NArg() > 0:
		refuse(fmt.Sprintf("expected no arguments, got %q", flag.Args()))
	case *changes < 1:
		refuse(fmt.Sprintf("expected -changes of at least 1, got %d", *changes))
	case *slow < 1:
		refuse(fmt.Sprintf("expected -slow of at least 1, got %d", *slow))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for the shutdown
	if err := run(ctx, os.Stdout, *addr, *changes, *slow); err != nil {
		fmt.Fprintln(os.Stderr, "prices:", err)
		os.Exit(1)
	}
}

func refuse(problem string) {
	fmt.Fprintf(os.Stderr, "prices: %s; -help says more\n", problem)
	os.Exit(2)
}

func usage() {
	fmt.Fprint(flag.CommandLine.Output(), `usage: prices [flags]

Prices is a market of 1,000 instruments. It prints the URL of a page with a live table, beside which a slow client shows what
it has read. Ctrl-C ends it.

`)
	flag.PrintDefaults()
}

// run serves until ctx is done, and then shuts down.
func run(ctx context.Context, stdout io.Writer, addr string, changes, slow int) error {
	m := newMarket()
	sockets := &wsd.Server{Handler: m.show, AcceptOptions: wsd.AcceptOptions{Config: wsd.Config{MaxMessageSize: 1000}}}
	mux := http.NewServeMux()
	mux.Handle("GET /prices", sockets)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}

	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "http://%s/\n", listener.Addr()); err != nil {
		_ = listener.Close()
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var working sync.WaitGroup
	working.Go(func() { m.trade(running, changes) })
	working.Go(func() { m.readSlowly(running, slow) })
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err = <-failed:
	case <-ctx.Done():
		limit, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		err = errors.Join(server.Shutdown(limit), sockets.Shutdown(limit))
	}
	stop()
	working.Wait()
	return errors.Join(err, m.hub.Close())
}

// market is the prices and who looks at them.
type market struct {
	hub *hub.Hub

	mu     sync.Mutex // held while a price is published, so that all who look see prices in one order
	prices [instruments]float64
	live   bool
}

func newMarket() *market {
	m := &market{hub: hub.New(&hub.Options{Slow: hub.Latest}), live: true}
	for i := range m.prices {
		m.prices[i] = float64(1000+rand.IntN(100_000)) / 100
	}
	return m
}

// message is what is sent to those who look.
type message struct {
	All      []float64 `json:"all,omitempty"`
	I        *int      `json:"i,omitempty"`
	Price    float64   `json:"p,omitempty"`
	Slow     float64   `json:"slow,omitempty"`
	Replaced *uint64   `json:"replaced,omitempty"`
	Live     *bool     `json:"live,omitempty"`
}

// tell publishes to a topic.
func (m *market) tell(topic string, what message) {
	msg, err := wsd.JSON(what)
	if err == nil {
		err = m.hub.Publish(context.Background(), topic, msg)
	}
	if err != nil {
		slog.Error("not published", "topic", topic, "error", err)
	}
}

func priceTopic(i int) string { return "prices." + strconv.Itoa(i) }

// trade changes prices until ctx is done.
func (m *market) trade(ctx context.Context, changes int) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	due, second := 0.0, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for due += float64(changes) * tick.Seconds(); due >= 1; due-- {
			m.change(rand.IntN(instruments))
		}
		if time.Since(second) >= time.Second {
			second = time.Now()
			m.tellState()
		}
	}
}

func (m *market) change(i int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.live {
		return
	}
	m.prices[i] = max(1, m.prices[i]+float64(rand.IntN(201)-100)/100)
	m.tell(priceTopic(i), message{I: &i, Price: m.prices[i]})
}

func (m *market) tellState() {
	replaced := m.hub.Stats().Replaced
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tell("state", message{Replaced: &replaced, Live: &m.live})
}

// show is a page's connection, from its beginning to its end.
func (m *market) show(conn *wsd.Conn) {
	if err := m.look(conn); err != nil {
		slog.Error("not shown", "error", err)
		return
	}
	for msg := range conn.Messages() {
		switch order := string(msg.Data); order {
		case "stop", "go":
			m.mu.Lock()
			m.live = order == "go"
			m.mu.Unlock()
			m.tellState()
		default:
			_ = conn.Close(wsd.StatusPolicyViolation, `expected "stop" or "go"`)
		}
	}
}

// look subscribes a connection to everything. It leaves the hub by itself when it ends.
func (m *market) look(conn *wsd.Conn) error {
	member, err := m.hub.Join(conn, "")
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// All prices as they are, and then each that changes: none can change in between.
	all, err := wsd.JSON(message{All: m.prices[:]})
	if err != nil {
		return err
	}
	if err := conn.TrySend(all); err != nil {
		return err
	}
	return member.Subscribe("prices.*", "slow.*", "state")
}

// readSlowly is a client that reads few messages in a second, over a pipe that holds nothing: all that it has not read waits
// at the hub, of each instrument the newest price.
func (m *market) readSlowly(ctx context.Context, messages int) {
	near, far := net.Pipe()
	// A small queue, since what is in it already is sent even if the price has changed.
	server := wsd.NewConn(near, wsd.ServerRole, wsd.Config{SendQueue: 256, WriteTimeout: -1})
	client := wsd.NewConn(far, wsd.ClientRole, wsd.Config{MessageBuffer: -1, PingInterval: -1})
	defer server.CloseNow()
	defer client.CloseNow()
	member, err := m.hub.Join(server, "")
	if err == nil {
		err = member.Subscribe("prices.*")
	}
	if err != nil {
		slog.Error("no slow client", "error", err)
		return
	}
	pause := time.NewTicker(max(time.Second/time.Duration(messages), time.Microsecond))
	defer pause.Stop()
	for {
		msg, err := client.Receive(ctx)
		if err != nil {
			return
		}
		var read message
		if err := msg.Decode(&read); err != nil || read.I == nil {
			slog.Error("not a price", "message", string(msg.Data), "error", err)
			return
		}
		m.tell("slow."+strconv.Itoa(*read.I), message{I: read.I, Slow: read.Price})
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}
