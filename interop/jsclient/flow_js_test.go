// flow_js_test.go checks what happens when one side is slower than the other, of which a browser knows little.

package jsclient

import (
	"cmp"
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"syscall/js"
	"testing"
	"time"
	_ "unsafe" // for linkname

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// TestSendWaitsForTheBrowser holds that a peer that does not read makes Send wait, and that the browser holds no more than
// was allowed meanwhile.
func TestSendWaitsForTheBrowser(t *testing.T) {
	requireSendWaits(t, "/deaf", 256<<10, func(*wsd.Conn) {})
}

// Without a SendQueue the browser may hold a MiB.
func TestSendWaitsByDefault(t *testing.T) {
	held := requireSendWaits(t, "/deaf", 0, func(*wsd.Conn) {})
	require.Greater(t, held, 1<<20)
}

// An answer goes to the browser from the call that sends it, and waits all the same.
func TestAnswersWaitForTheBrowser(t *testing.T) {
	requireSendWaits(t, "/send?n=1000&size=10", 256<<10, func(conn *wsd.Conn) {
		_, err := conn.Receive(t.Context())
		require.NoError(t, err)
	})
}

// requireSendWaits sends messages, each behind a call of before, to a peer that does not read. It returns how many bytes the
// browser holds in the end.
func requireSendWaits(t *testing.T, path string, sendQueue int, before func(*wsd.Conn)) (held int) {
	socket := watchSocket(t)
	conn := dial(t, path, &wsd.DialOptions{Config: wsd.Config{SendQueue: sendQueue}})
	const size = 31 << 10 // below the size of those that a canceled Send leaves in pieces
	source, data := rand.NewChaCha8([32]byte{}), wsd.Binary(make([]byte, size))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sent := 0
	waits := time.AfterFunc(time.Second, cancel)
	for ; sent < 1000; sent++ { // 31 MiB, more than sockets hold
		_, _ = source.Read(data.Data) // or it could be compressed
		before(conn)
		if conn.Send(ctx, data) != nil {
			break
		}
		waits.Reset(time.Second)
	}
	require.ErrorIs(t, ctx.Err(), context.Canceled, "after %d messages a Send waits", sent)
	held = socket().Get("bufferedAmount").Int()
	require.LessOrEqual(t, held, cmp.Or(sendQueue, 1<<20)+size+100)
	require.ErrorIs(t, conn.TrySend(data), wsd.ErrQueueFull)
	return held
}

func TestWriteTimeout(t *testing.T) {
	conn := dial(t, "/deaf", &wsd.DialOptions{Config: wsd.Config{WriteTimeout: 100 * time.Millisecond}})
	data := wsd.Binary(noise(256 << 10))
	for conn.Send(t.Context(), data) == nil {
	}
	<-conn.Closed()
	require.ErrorIs(t, conn.CloseEvent().Err, wsd.ErrWriteTimeout)
}

// TestSlowPeerIsNoDeadPeer holds that WriteTimeout and CloseTimeout count only time in which nothing goes on.
func TestSlowPeerIsNoDeadPeer(t *testing.T) {
	path, ended := record(t, "/slow?")
	conn := dial(t, path, &wsd.DialOptions{Config: wsd.Config{
		SendQueue: 64 << 10, WriteTimeout: 2 * time.Second, CloseTimeout: 2 * time.Second,
	}})
	data := wsd.Binary(noise(512 << 10))
	for range 40 { // which take longer than either
		send(t, conn, data)
	}
	require.NoError(t, conn.Close(wsd.StatusNormalClosure, ""))
	require.Equal(t, recorded{Code: wsd.StatusNormalClosure, Clean: true}, ended())
}

func TestMoreThanMayWaitEndsTheConnection(t *testing.T) {
	for _, path := range []string{"/send?n=5000&size=10&", "/send?n=40&size=1000000&"} {
		path, ended := record(t, path)
		conn := dial(t, path, &wsd.DialOptions{Config: wsd.Config{MessageBuffer: 16}})
		<-conn.Context().Done() // nothing is received
		<-conn.Closed()
		event := conn.CloseEvent()
		require.ErrorIs(t, event.Err, wsd.ErrSlowConsumer)
		require.EqualValues(t, 4008, event.SentCode)
		require.EqualValues(t, 4008, event.Code)
		require.True(t, event.Local, "%+v", event) // not always clean: node does not await the answer behind much else
		require.ErrorIs(t, <-conn.Errors(), wsd.ErrSlowConsumer)
		require.Equal(t, recorded{4008, "messages are not being received", true}, ended())
		got := 0
		for range conn.Messages() {
			got++
		}
		require.Equal(t, 16, got, "what Messages holds can still be received")
	}
}

// TestABurstIsNotSlow holds that what a consumer is about to receive may come at once.
func TestABurstIsNotSlow(t *testing.T) {
	conn := dial(t, "/send?n=1000&size=100&", nil)
	first := receive(t, conn)
	time.Sleep(300 * time.Millisecond) // the rest comes, and waits
	for i := 1; i < 1000; i++ {
		require.Len(t, receive(t, conn).Data, len(first.Data))
	}
	require.NoError(t, conn.Close(wsd.StatusNormalClosure, ""))
}

func TestDropSlow(t *testing.T) {
	conn := dial(t, "/send?n=5000&size=10&end=1&", &wsd.DialOptions{Config: wsd.Config{SlowConsumer: wsd.DropSlow, MessageBuffer: 16}})
	require.ErrorIs(t, <-conn.Errors(), wsd.ErrSlowConsumer)
	<-conn.Closed()
	require.True(t, conn.CloseEvent().Clean, "%+v", conn.CloseEvent())
	stats := conn.Stats()
	require.EqualValues(t, 5000, stats.MessagesReceived)
	require.EqualValues(t, 5000-16, stats.MessagesDropped)
}

func TestCloseSlow(t *testing.T) {
	path, ended := record(t, "/send?n=100&size=10&")
	config := wsd.Config{SlowConsumer: wsd.CloseSlow, StallTimeout: 20 * time.Millisecond}
	conn := dial(t, path, &wsd.DialOptions{Config: config})
	<-conn.Closed()
	require.ErrorIs(t, conn.CloseEvent().Err, wsd.ErrSlowConsumer)
	require.EqualValues(t, 4013, ended().Code)
}

// functions are those of Go that JavaScript can call.
//
//go:linkname functions syscall/js.funcs
var functions map[uint32]func(js.Value, []js.Value) any

// TestEverythingIsReleased counts goroutines and functions over a thousand connections with every kind of end.
func TestEverythingIsReleased(t *testing.T) {
	const rounds, together = 84, 12
	one := func(kind int) {
		ctx := context.Background()
		switch kind % 6 {
		case 0:
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			if conn, _, err := wsd.Dial(ctx, server("/hang"), nil); err == nil {
				conn.CloseNow()
			}
			return
		case 1:
			if conn, _, err := wsd.Dial(ctx, server("/nothing-here"), nil); err == nil {
				conn.CloseNow()
			}
			return
		case 5: // in the middle of sends that wait for the browser
			conn, _, err := wsd.Dial(ctx, server("/echo?plain=1"), &wsd.DialOptions{Config: wsd.Config{SendQueue: 1 << 10}})
			if err != nil {
				t.Error(err)
				return
			}
			for range kind {
				_ = conn.Send(ctx, wsd.Binary(make([]byte, 5<<10)))
			}
			conn.CloseNow()
			return
		}
		conn, _, err := wsd.Dial(ctx, server("/close?code=1000"), nil)
		if err != nil {
			t.Error(err)
			return
		}
		switch kind % 6 {
		case 2:
			_ = conn.Close(wsd.StatusNormalClosure, "")
		case 3:
			conn.CloseNow()
		case 4:
			_ = conn.Send(ctx, wsd.Text("now"))
			<-conn.Closed()
		}
	}
	goroutines, funcs := runtime.NumGoroutine(), len(functions)
	for range rounds {
		var group sync.WaitGroup
		for kind := range together {
			group.Go(func() { one(kind) })
		}
		group.Wait()
	}
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+1 }, 5*time.Second, 10*time.Millisecond)
	require.Equal(t, funcs, len(functions))
}

// watchSocket returns what gives the WebSocket that is made next.
func watchSocket(t *testing.T) func() js.Value {
	t.Helper()
	plain := js.Global().Get("WebSocket")
	made := js.Undefined()
	construct := js.FuncOf(func(_ js.Value, args []js.Value) any {
		made = plain.New(args[0], args[1])
		return made
	})
	js.Global().Set("WebSocket", construct)
	t.Cleanup(func() {
		js.Global().Set("WebSocket", plain)
		construct.Release()
	})
	return func() js.Value { return made }
}
