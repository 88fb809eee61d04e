// Package jsrates measures a client in the browser, whichever library it is of: round trips, and messages a second.
package jsrates

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// Conn is a connection of the library.
type Conn interface {
	Send(ctx context.Context, text bool, data []byte) error
	Receive(ctx context.Context) (data []byte, err error)
	Close() error
}

// Result is what one row has taken.
type Result struct {
	Row     string
	N       int // messages
	Seconds float64
}

// Rate returns messages a second.
func (r Result) Rate() float64 { return float64(r.N) / r.Seconds }

// row is one thing that is measured.
type row struct {
	name string
	path string // on the server
	size int    // of a message, in bytes
	text bool
	n    int // messages, where Main is given a scale of 100
	run  func(ctx context.Context, conn Conn, r row) error
}

var rows = []row{
	{"round trip, text of 64 B", "/echo", 64, true, 8000, roundTrips},
	{"round trip, binary of 16 KiB", "/echo", 16 << 10, false, 4000, roundTrips},
	{"echo, text of 64 B", "/echo", 64, true, 20000, echoes},
	{"echo, binary of 64 B", "/echo", 64, false, 20000, echoes},
	{"echo, binary of 64 KiB", "/echo", 64 << 10, false, 1200, echoes},
	{"echo, binary of 1 MiB", "/echo", 1 << 20, false, 100, echoes},
	{"receive, text of 64 B", "/send", 64, true, 30000, receives},
	{"receive, binary of 1 KiB", "/send", 1 << 10, false, 30000, receives},
	{"send, text of 64 B", "/count", 64, true, 40000, sends},
	{"send, binary of 1 KiB", "/count", 1 << 10, false, 40000, sends},
}

// Args is how many of os.Args are for Main.
const Args = 3

// Main measures every row once, over connections to the server at os.Args[1], with os.Args[2] percent of all messages, and
// prints each Result as a line of JSON. Each row has run before: until then a host compiles what runs often.
func Main(dial func(ctx context.Context, url string) (Conn, error)) {
	var percent int
	if _, err := fmt.Sscan(os.Args[2], &percent); err != nil {
		fail(err)
	}
	for _, r := range rows {
		r.n = max(1, r.n*percent/100)
		var result Result
		for range 2 {
			var err error
			if result, err = measure(context.Background(), dial, r); err != nil {
				fail(fmt.Errorf("%s: %w", r.name, err))
			}
		}
		line, err := json.Marshal(result)
		if err != nil {
			fail(err)
		}
		fmt.Println(string(line))
	}
}

func fail(err error) {
	fmt.Println(err)
	os.Exit(1)
}

func measure(ctx context.Context, dial func(ctx context.Context, url string) (Conn, error), r row) (Result, error) {
	kind := "binary"
	if r.text {
		kind = "text"
	}
	conn, err := dial(ctx, fmt.Sprintf("%s%s?plain=1&n=%d&size=%d&kind=%s&wait=1", os.Args[1], r.path, r.n, r.size, kind))
	if err != nil {
		return Result{}, err
	}
	begun := time.Now()
	if err := r.run(ctx, conn, r); err != nil {
		return Result{}, err
	}
	took := time.Since(begun)
	return Result{r.name, r.n, took.Seconds()}, conn.Close()
}

func message(r row) []byte { return []byte(strings.Repeat("x", r.size)) }

func receive(ctx context.Context, conn Conn, size int) error {
	data, err := conn.Receive(ctx)
	if err == nil && len(data) != size {
		err = fmt.Errorf("expected %d bytes, got %d", size, len(data))
	}
	return err
}

func roundTrips(ctx context.Context, conn Conn, r row) error {
	data := message(r)
	for range r.n {
		if err := conn.Send(ctx, r.text, data); err != nil {
			return err
		}
		if err := receive(ctx, conn, r.size); err != nil {
			return err
		}
	}
	return nil
}

func echoes(ctx context.Context, conn Conn, r row) error {
	sent := make(chan error, 1)
	go func() { sent <- sendAll(ctx, conn, r) }()
	for range r.n {
		if err := receive(ctx, conn, r.size); err != nil {
			return err
		}
	}
	return <-sent
}

func sendAll(ctx context.Context, conn Conn, r row) error {
	data := message(r)
	for range r.n {
		if err := conn.Send(ctx, r.text, data); err != nil {
			return err
		}
	}
	return nil
}

// receives asks for messages and receives them.
func receives(ctx context.Context, conn Conn, r row) error {
	if err := conn.Send(ctx, true, []byte("now")); err != nil {
		return err
	}
	for range r.n {
		if err := receive(ctx, conn, r.size); err != nil {
			return err
		}
	}
	return nil
}

// sends sends messages, and waits until the server has counted them.
func sends(ctx context.Context, conn Conn, r row) error {
	if err := sendAll(ctx, conn, r); err != nil {
		return err
	}
	return receive(ctx, conn, len("counted"))
}
