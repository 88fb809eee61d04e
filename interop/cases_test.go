// cases_test.go is what wsd and a peer have to manage between them, whoever is the server.

package interop

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// testCase is one line of the table.
type testCase struct {
	name    string
	section string // of RFC 6455, or of the RFC named with it
	run     func(t *testing.T, with opener)
}

var cases = []testCase{
	{"text", "5.6", func(t *testing.T, with opener) {
		l := with.open(t, options{})
		for _, text := range []string{
			"", "Hi", "h\u00e9llo, \u4e16\u754c \U0001F310", "\x00\u0080\u07ff\u0800\ufffd\uffff\U00010000\U0010ffff",
			strings.Repeat("\u20ac", 65536/3),
		} {
			echo(l, wsd.Text(text))
		}
	}},
	{"binary", "5.6", func(t *testing.T, with opener) {
		l := with.open(t, options{})
		for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536, 65537} {
			echo(l, wsd.Binary(noise(size)))
		}
	}},
	{"1 MiB", "5.2", func(t *testing.T, with opener) {
		l := with.open(t, options{})
		echo(l, wsd.Binary(noise(1<<20)))
		echo(l, wsd.Text(strings.Repeat("0123456789abcdef", 1<<16)))
	}},
	{"1,000 messages at once", "5.4", func(t *testing.T, with opener) {
		l := with.open(t, options{})
		const messages = 1000
		sent := make(chan error, 1)
		go func() {
			for i := range messages {
				if err := l.Send(l.ctx, wsd.Text(strconv.Itoa(i))); err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		for i := range messages {
			require.Equal(t, strconv.Itoa(i), string(l.receive().Data))
		}
		require.NoError(t, <-sent)
	}},
	{"fragments sent", "5.4", func(t *testing.T, with opener) {
		l := with.open(t, options{})
		whole := "one \u20ac two " + strings.Repeat("x", 70000) + " three"
		w := l.Writer(l.ctx, wsd.TextMessage, nil)
		// The second piece begins in the middle of a character, and pings go between the pieces.
		for _, piece := range []string{whole[:5], whole[5:20], whole[20:40000], whole[40000:]} {
			_, err := io.WriteString(w, piece)
			require.NoError(t, err)
			_, err = l.Ping(l.ctx, nil)
			require.NoError(t, err)
		}
		require.NoError(t, w.Close())
		require.Equal(t, wsd.Text(whole), l.receive())
	}},
	{"fragments received", "5.4", func(t *testing.T, with opener) {
		with.needs(t, "fragments received")
		l := with.open(t, options{})
		// Larger than the frames of the libraries that cut by themselves.
		const parts, size = 3, 200_000
		l.order("fragments", map[string]any{"parts": parts, "size": size})
		require.Equal(t, wsd.Text(strings.Repeat("a", size)+strings.Repeat("b", size)+strings.Repeat("c", size)), l.receive())
		echo(l, wsd.Text("after"))

		// That those were fragments shows where none are allowed.
		l = with.open(t, options{Config: wsd.Config{MaxFragments: 1}})
		l.order("fragments", map[string]any{"parts": parts, "size": size})
		fails(l, wsd.StatusPolicyViolation)
	}},
	{"ping by wsd", "5.5.2", func(t *testing.T, with opener) {
		l := with.open(t, options{})
		for _, payload := range [][]byte{nil, []byte("payload"), noise(125)} {
			_, err := l.Ping(l.ctx, payload)
			require.NoError(t, err)
		}
		echo(l, wsd.Text("after"))
	}},
	{"ping by the peer", "5.5.3", func(t *testing.T, with opener) {
		with.needs(t, "ping by the peer")
		l := with.open(t, options{})
		l.order("ping", map[string]any{"data": "payload"})
		require.Equal(t, "payload", l.told("pong").Data)
		echo(l, wsd.Text("after"))
	}},
	{"subprotocol", "1.9", func(t *testing.T, with opener) {
		l := with.open(t, options{ask: []string{"unknown.v9", "wsd.v2"}, speak: []string{"wsd.v1", "wsd.v2"}})
		require.Equal(t, "wsd.v2", l.Subprotocol())
		require.Equal(t, "wsd.v2", l.opened.Subprotocol)
		echo(l, wsd.Text("agreed"))
		l = with.open(t, options{speak: []string{"wsd.v1"}})
		require.Empty(t, l.Subprotocol())
		require.Empty(t, l.opened.Subprotocol)
		echo(l, wsd.Text("none"))
	}},
	{"compression", "RFC 7692, 7.2", func(t *testing.T, with opener) {
		// Noise, in letters so that it is text: alone it hardly shrinks, and not at all in a compressed stream that
		// has seen it.
		l := with.open(t, deflate(wsd.Compression{}))
		message := wsd.Text(letters(2 << 10))
		shrinks(l, message, "takeover sent", "takeover received")
		echo(l, wsd.Binary(noise(100_000)))
		echo(l, wsd.Text(""))
		echo(l, wsd.Text("short"))
		echo(l, wsd.Text(strings.Repeat("large and alike ", 1<<16)))
	}},
	{"compression without takeover", "RFC 7692, 7.1.1", func(t *testing.T, with opener) {
		with.needs(t, "compression without takeover")
		l := with.open(t, deflate(wsd.Compression{ServerNoContextTakeover: true, ClientNoContextTakeover: true}))
		shrinks(l, wsd.Text(strings.Repeat("alike in itself ", 256)), "compression sent", "compression received")
		echo(l, wsd.Binary(noise(100_000)))
		echo(l, wsd.Text(""))
	}},
	{"compression with a window of 1 KiB", "RFC 7692, 7.1.2", func(t *testing.T, with opener) {
		with.needs(t, "compression with a window of 1 KiB")
		opts := deflate(wsd.Compression{ServerMaxWindowBits: 10, ClientMaxWindowBits: 10})
		l := with.open(t, opts)
		require.Contains(t, l.Extensions(), "permessage-deflate")
		for range 3 {
			echo(l, wsd.Text(strings.Repeat(letters(700), 100)))
			echo(l, wsd.Binary(noise(100_000)))
		}
	}},
	{"close by wsd", "7.1.2", func(t *testing.T, with opener) {
		for _, end := range []struct {
			code   wsd.StatusCode
			reason string
		}{
			{wsd.StatusNormalClosure, ""},
			{wsd.StatusGoingAway, "going"},
			{wsd.StatusInternalError, strings.Repeat("\u20ac", 41)}, // 123 bytes, as much as fits
			{3000, "a library's"},
			{4999, "an application's"},
		} {
			l := with.open(t, options{})
			echo(l, wsd.Text("before"))
			require.NoError(t, l.Close(end.code, end.reason))
			require.True(t, l.CloseEvent().Clean)
			told := l.told("closed")
			require.Equal(t, end.code, wsd.StatusCode(told.Code))
			if l.can("reason of a close") {
				require.Equal(t, end.reason, told.Reason)
			}
			require.Empty(t, errorsOf(l))
		}
	}},
	{"close by wsd without a code", "7.1.5", func(t *testing.T, with opener) {
		l := with.open(t, options{})
		require.NoError(t, l.Close(wsd.StatusNoStatus, ""))
		require.True(t, l.CloseEvent().Clean)
		told := l.told("closed")
		if l.can("absence of a code") {
			require.Equal(t, wsd.StatusNoStatus, wsd.StatusCode(told.Code))
		}
		require.Empty(t, told.Reason)
	}},
	{"close by the peer", "7.1.3", func(t *testing.T, with opener) {
		for _, end := range []struct {
			code   wsd.StatusCode
			reason string
		}{
			{wsd.StatusNormalClosure, ""},
			{3456, "a library's \u20ac"},
			{4999, strings.Repeat("r", 123)},
		} {
			l := with.open(t, options{})
			l.order("close", map[string]any{"code": end.code, "reason": end.reason})
			event := l.ended()
			require.Equal(t, end.code, event.Code)
			require.Equal(t, end.reason, event.Reason)
			require.True(t, event.Clean)
			require.Empty(t, errorsOf(l))
			told := l.told("closed")
			if l.can("answer to its close") {
				require.Equal(t, end.code, wsd.StatusCode(told.Code), "what the peer says that it was answered with")
			}
		}
	}},
	{"close by the peer without a code", "7.1.5", func(t *testing.T, with opener) {
		with.needs(t, "close by the peer without a code")
		l := with.open(t, options{})
		l.order("close", nil)
		event := l.ended()
		require.Equal(t, wsd.StatusNoStatus, event.Code)
		require.True(t, event.Clean)
		l.told("closed")
	}},
	{"end by wsd without a close", "7.1.7", func(t *testing.T, with opener) {
		l := with.open(t, options{})
		echo(l, wsd.Text("before"))
		l.CloseNow()
		told := l.told("closed")
		if l.can("absence of a close") {
			require.Equal(t, wsd.StatusAbnormalClosure, wsd.StatusCode(told.Code))
		}
	}},
	{"end by the peer without a close", "7.1.7", func(t *testing.T, with opener) {
		l := with.open(t, options{})
		l.order("abort", nil)
		event := l.ended()
		require.Equal(t, wsd.StatusAbnormalClosure, event.Code)
		require.False(t, event.Clean)
		require.Len(t, errorsOf(l), 1)
		_, err := l.Receive(l.ctx)
		require.ErrorIs(t, err, wsd.ErrClosed)
	}},
	{"message too big", "7.4.1", func(t *testing.T, with opener) {
		l := with.open(t, options{Config: wsd.Config{MaxMessageSize: 1000}})
		l.order("say", map[string]any{"size": 1000})
		require.Len(t, l.receive().Data, 1000)
		l.order("say", map[string]any{"size": 1001})
		fails(l, wsd.StatusMessageTooBig)
	}},
}

// echo sends a message and expects it back.
func echo(l *link, msg wsd.Message) {
	l.t.Helper()
	require.NoError(l.t, l.Send(l.ctx, msg))
	got := l.receive()
	require.Equal(l.t, msg.Type, got.Type)
	// Not require.Equal, which would print it.
	require.True(l.t, bytes.Equal(msg.Data, got.Data), "%d bytes came back as %d others", len(msg.Data), len(got.Data))
}

// fails expects wsd to have failed the connection with code, and the peer to have read that.
func fails(l *link, code wsd.StatusCode) {
	l.t.Helper()
	event := l.ended()
	require.Equal(l.t, code, event.Code)
	var violation *wsd.ProtocolError
	require.ErrorAs(l.t, event.Err, &violation)
	require.Equal(l.t, code, violation.Code)
	require.Equal(l.t, code, wsd.StatusCode(l.told("closed").Code))
}

// errorsOf returns what Errors has at the end.
func errorsOf(l *link) []error {
	var all []error
	for err := range l.Errors() {
		all = append(all, err)
	}
	return all
}

func deflate(c wsd.Compression) options {
	return options{Config: wsd.Config{Compression: &c}, counting: true}
}

// shrinks has a message echoed often and expects it to take a fraction of its size on the wire, both ways, but for the
// directions in which the peer cannot do that.
func shrinks(l *link, msg wsd.Message, sent, received string) {
	l.t.Helper()
	const rounds = 32
	require.Contains(l.t, l.Extensions(), "permessage-deflate")
	in, out := l.wire.in.Load(), l.wire.out.Load()
	for range rounds {
		echo(l, msg)
	}
	limit := int64(rounds * len(msg.Data) / 3)
	if l.can(sent) {
		require.Less(l.t, l.wire.out.Load()-out, limit, "bytes sent")
	}
	if l.can(received) {
		require.Less(l.t, l.wire.in.Load()-in, limit, "bytes received")
	}
}

// source makes noise of the same kind in every run.
var source = struct {
	sync.Mutex
	*rand.ChaCha8
}{ChaCha8: rand.NewChaCha8([32]byte{})}

func noise(size int) []byte {
	b := make([]byte, size)
	source.Lock()
	defer source.Unlock()
	_, _ = source.Read(b)
	return b
}

// letters is noise in letters.
func letters(size int) string {
	b := noise(size)
	for i, c := range b {
		b[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[c%64]
	}
	return string(b)
}
