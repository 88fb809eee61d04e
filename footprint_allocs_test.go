//go:build !race

// footprint_allocs_test.go counts allocations. Under the race detector, pools forget on purpose.

package wsd_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// Compressed messages allocate nothing on their way out, and on their way in only themselves.
func TestCompressedMessagesAllocateOnlyThemselves(t *testing.T) {
	data := bytes.Repeat([]byte("some text that compresses, "), 100)
	for name, agreed := range map[string]*wsd.Compression{
		"no takeover": {ServerNoContextTakeover: true, ClientNoContextTakeover: true}, "takeover": {},
	} {
		t.Run("sent, "+name, func(t *testing.T) {
			a, b := tcpPair(t)
			defer a.Close()
			go func() { _, _ = io.Copy(io.Discard, a) }()
			c := wsd.NewConn(b, wsd.ServerRole, wsd.Config{Compression: agreed})
			defer c.CloseNow()
			require.Zero(t, testing.AllocsPerRun(2000, func() {
				if err := c.Send(context.Background(), wsd.Binary(data)); err != nil {
					t.Fatal(err)
				}
			}))
		})
		t.Run("both ways, "+name, func(t *testing.T) {
			a, b := tcpPair(t)
			client := wsd.NewConn(a, wsd.ClientRole, wsd.Config{Compression: agreed})
			server := wsd.NewConn(b, wsd.ServerRole, wsd.Config{Compression: agreed})
			defer client.CloseNow()
			defer server.CloseNow()
			go echo(server)
			require.LessOrEqual(t, testing.AllocsPerRun(2000, func() {
				if err := client.Send(context.Background(), wsd.Binary(data)); err != nil {
					t.Fatal(err)
				}
				if _, err := client.Receive(context.Background()); err != nil {
					t.Fatal(err)
				}
			}), 2.0, "the message itself, at each end")
		})
	}
}

// A Trace costs no memory: neither one without functions nor one that only counts.
func TestTraceAllocatesNothing(t *testing.T) {
	var count int
	message := func(*wsd.Conn, wsd.MessageInfo) { count++ }
	for name, trace := range map[string]*wsd.Trace{
		"none": nil, "empty": {}, "counting": {MessageSent: message, MessageReceived: message, QueueFull: func(*wsd.Conn) { count++ }},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := tcpPair(t)
			server := wsd.NewConn(b, wsd.ServerRole, wsd.Config{Trace: trace})
			defer server.CloseNow()
			defer a.Close()
			request, answer := encodeFrame(binaryFrame(make([]byte, 64)), true), make([]byte, 66)
			require.LessOrEqual(t, testing.AllocsPerRun(2000, func() {
				if _, err := a.Write(request); err != nil {
					t.Fatal(err)
				}
				m, err := server.Receive(context.Background())
				if err == nil {
					err = server.Send(context.Background(), m)
				}
				if err == nil {
					_, err = io.ReadFull(a, answer)
				}
				if err != nil {
					t.Fatal(err)
				}
			}), 1.0, "the message itself")
		})
	}
}
