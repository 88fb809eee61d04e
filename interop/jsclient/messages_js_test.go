// messages_js_test.go checks that messages of every kind and size survive the way there and back.

package jsclient

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"syscall/js"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

func TestMessagesOfAllSizes(t *testing.T) {
	conn := dial(t, "/echo", nil)
	for _, size := range []int{0, 1, 125, 126, 1000, 65535, 65536, 200_000, 3 << 20} {
		for _, msg := range []wsd.Message{wsd.Text(strings.Repeat("é", size/2)), wsd.Binary(noise(size))} {
			send(t, conn, msg)
			got := receive(t, conn)
			require.Equal(t, msg.Type, got.Type)
			require.True(t, bytes.Equal(msg.Data, got.Data), "%s of %d bytes", msg.Type, size)
		}
	}
}

func noise(size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(b)
	return b
}

// TestBytesAreCopiedOnce counts how often some of a message's bytes go from Go's memory to JavaScript's, or back.
func TestBytesAreCopiedOnce(t *testing.T) {
	conn := dial(t, "/echo", nil)
	copies := watchCopies(t)
	for _, size := range []int{1000, 16 << 10, 64 << 10, 1 << 20} {
		send(t, conn, wsd.Binary(noise(size)))
		require.Len(t, receive(t, conn).Data, size)
		require.Equal(t, 2, copies(), "of %d bytes, there and back", size)
	}
}

// watchCopies returns what tells how many copies of 200 bytes and more, or of none, have been made since it was last asked. Each
// is a call of set of a Uint8Array; node's own are those of a Buffer.
func watchCopies(t *testing.T) (copies func() int) {
	t.Helper()
	watch := js.Global().Get("Function").New(`
		const of = Uint8Array.prototype, set = of.set;
		let copies = 0;
		of.set = function(from, at) {
			if (Object.getPrototypeOf(this) === of && (from.length >= 200 || from.length === 0)) copies++;
			return set.call(this, from, at);
		};
		return {copies() { const n = copies; copies = 0; return n; }, end() { delete of.set; }};
	`).Invoke()
	t.Cleanup(func() { watch.Call("end") })
	return func() int { return watch.Call("copies").Int() }
}

func TestTextOfEveryPlane(t *testing.T) {
	conn := dial(t, "/echo", nil)
	for _, text := range []string{"\x00\n", "ä€", "😀\U0010FFFF", "a\u2028b"} {
		send(t, conn, wsd.Text(text))
		require.Equal(t, text, string(receive(t, conn).Data))
	}
}

// TestByteOrderMark holds that a text is sent as it is, with the mark that JavaScript's decoder takes away.
func TestByteOrderMark(t *testing.T) {
	conn := dial(t, "/hex", nil)
	send(t, conn, wsd.Text("\uFEFFa"))
	require.Equal(t, "efbbbf61", string(receive(t, conn).Data))
}

func TestOrderOfManySenders(t *testing.T) {
	conn := dial(t, "/echo", nil)
	const senders, each = 8, 200
	var group sync.WaitGroup
	for sender := range senders {
		group.Go(func() {
			for i := range each {
				text := strconv.Itoa(sender) + " " + strconv.Itoa(i)
				if conn.Send(context.Background(), wsd.Text(text)) != nil {
					return
				}
			}
		})
	}
	var next [senders]int
	for range senders * each {
		sender, i, _ := strings.Cut(string(receive(t, conn).Data), " ")
		from, err := strconv.Atoi(sender)
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(next[from]), i)
		next[from]++
	}
	group.Wait()
	stats := conn.Stats()
	require.EqualValues(t, senders*each, stats.MessagesSent)
	require.EqualValues(t, senders*each, stats.MessagesReceived)
}

func TestWriter(t *testing.T) {
	conn := dial(t, "/echo", nil)
	for _, kind := range []wsd.MessageType{wsd.TextMessage, wsd.BinaryMessage} {
		whole := []byte(strings.Repeat("0123456789", 70_000))
		w := conn.Writer(t.Context(), kind, nil)
		for piece := range bytes.Lines(bytes.ReplaceAll(whole, []byte("9"), []byte("\n"))) {
			_, err := w.Write(piece)
			require.NoError(t, err)
		}
		require.NoError(t, w.Close())
		got := receive(t, conn)
		require.Equal(t, kind, got.Type)
		require.True(t, bytes.Equal(bytes.ReplaceAll(whole, []byte("9"), []byte("\n")), got.Data))
	}
}

func TestBody(t *testing.T) {
	conn := dial(t, "/echo", &wsd.DialOptions{Config: wsd.Config{StreamAbove: 10_000}})
	data := noise(2 << 20)
	send(t, conn, wsd.Binary(data))
	send(t, conn, wsd.Text("behind"))
	msg := receive(t, conn)
	require.True(t, msg.Streamed())
	whole, err := io.ReadAll(msg.Body())
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, whole))
	require.Equal(t, "behind", string(receive(t, conn).Data))
}

func TestPreparedAndTrySend(t *testing.T) {
	conn := dial(t, "/echo", nil)
	prepared, err := wsd.Prepare(wsd.Text("to many"))
	require.NoError(t, err)
	require.NoError(t, conn.SendPrepared(t.Context(), prepared))
	require.Equal(t, "to many", string(receive(t, conn).Data))
	require.NoError(t, conn.TrySend(wsd.Text("now")))
	require.Equal(t, "now", string(receive(t, conn).Data))
}

// TestSelect is the loop that a program in a browser has.
func TestSelect(t *testing.T) {
	conn := dial(t, "/echo", nil)
	send(t, conn, wsd.Text("end"))
	for {
		select {
		case msg, ok := <-conn.Messages():
			if !ok {
				<-conn.Closed()
				require.True(t, conn.CloseEvent().Clean)
				require.NoError(t, <-conn.Errors())
				return
			}
			require.Equal(t, "end", string(msg.Data))
			require.NoError(t, conn.StartClose(wsd.StatusNormalClosure, ""))
		case <-t.Context().Done():
			t.Fatal("the connection did not end")
		}
	}
}
