//go:build !js

// stream_test.go checks messages that are read in pieces: of any size, with control messages in between.

package websocket_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	websocket "github.com/seed62836080/wsd/gorilla"
	"github.com/seed62836080/wsd/internal/wiretest"
	"github.com/seed62836080/wsd/wsdtest"
)

// pattern is an endless text that shows what is missing.
type pattern struct{ at int }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'a' + byte(p.at%26+p.at/1000)%26
		p.at++
	}
	return len(b), nil
}

// requirePattern reads size bytes of the pattern and the end.
func requirePattern(t *testing.T, r io.Reader, size int) {
	t.Helper()
	var expected pattern
	got, want := make([]byte, 10000), make([]byte, 10000)
	for left := size; left > 0; {
		n, err := r.Read(got[:min(left, len(got))])
		require.NoError(t, err)
		_, _ = expected.Read(want[:n])
		require.True(t, bytes.Equal(want[:n], got[:n]), "%d bytes before the end", left)
		left -= n
	}
	_, err := r.Read(got)
	require.Equal(t, io.EOF, err)
}

// held returns the bytes of memory in use.
func held() uint64 {
	runtime.GC()
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	return now.HeapAlloc
}

// written returns a writer that tells how much has been written.
func written(tell func(total int)) io.Writer { return &teller{tell: tell} }

type teller struct {
	total int
	tell  func(total int)
}

func (w *teller) Write(p []byte) (int, error) {
	w.total += len(p)
	w.tell(w.total)
	return len(p), nil
}

func TestAMessageOfAnySizeIsNotHeld(t *testing.T) {
	const size = 12 << 20
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		go func() {
			w, err := client.NextWriter(websocket.TextMessage)
			if err == nil {
				_, _ = io.Copy(w, io.LimitReader(new(pattern), size))
				_ = w.Close()
			}
		}()
		before := held()
		_, r, err := server.NextReader()
		require.NoError(t, err)
		var most uint64
		requirePattern(t, io.TeeReader(r, written(func(total int) {
			if total%(2<<20) < 10000 {
				most = max(most, held())
			}
		})), size)
		require.Less(t, most, before+size/4)
	})
}

func TestACompressedMessageIsNotHeldEither(t *testing.T) {
	const size = 900 << 10 // what is compressed is gathered by its sender
	client, server, written := compressing(t, true, true)
	for range 3 {
		go func() {
			w, err := client.NextWriter(websocket.TextMessage)
			if err == nil {
				_, _ = io.Copy(w, io.LimitReader(new(pattern), size))
				_ = w.Close()
			}
		}()
		_, r, err := server.NextReader()
		require.NoError(t, err)
		requirePattern(t, r, size)
	}
	require.Less(t, written.Load(), int64(size))
	require.NoError(t, client.WriteMessage(websocket.TextMessage, []byte("whole")))
	read(t, server, websocket.TextMessage, "whole")
}

func TestPiecesAndWholeMessagesByTurns(t *testing.T) {
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		m := strings.Repeat("m", 300<<10)
		go func() {
			for range 6 {
				_ = client.WriteMessage(websocket.BinaryMessage, []byte(m))
			}
		}()
		for range 2 {
			read(t, server, websocket.BinaryMessage, m)
			_, r, err := server.NextReader()
			require.NoError(t, err)
			var all bytes.Buffer
			n, err := io.Copy(&all, r)
			require.NoError(t, err)
			require.Equal(t, int64(len(m)), n)
			require.True(t, m == all.String())
			_, r, err = server.NextReader()
			require.NoError(t, err)
			_, err = r.Read(make([]byte, 10)) // and the rest is skipped
			require.NoError(t, err)
		}
	})
}

func TestHandlersRunInTheReadOfAMessage(t *testing.T) {
	raw, server := played(t)
	var pings []string
	server.SetPingHandler(func(data string) error {
		pings = append(pings, data)
		return nil
	})
	part := bytes.Repeat([]byte("a"), 100<<10)
	go func() {
		for _, frame := range [][]byte{wiretest.Frame(0x02, part, true), wiretest.Frame(0x89, []byte("p"), true), wiretest.Frame(0x80, part, true)} {
			_, _ = raw.Write(frame)
		}
	}()
	_, r, err := server.NextReader()
	require.NoError(t, err)
	require.Empty(t, pings)
	all, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Len(t, all, 2*len(part))
	require.Equal(t, []string{"p"}, pings)
}

func TestWhatEndsAMessageInTheMiddle(t *testing.T) {
	begin := wiretest.Frame(0x02, make([]byte, 100<<10), true)
	for name, row := range map[string]struct {
		end   func(t *testing.T, raw io.WriteCloser, server *websocket.Conn)
		check func(t *testing.T, err error)
	}{
		"the end of bytes": {
			func(t *testing.T, raw io.WriteCloser, _ *websocket.Conn) { require.NoError(t, raw.Close()) },
			func(t *testing.T, err error) {
				require.Equal(t, &websocket.CloseError{Code: websocket.CloseAbnormalClosure, Text: "unexpected EOF"}, err)
			},
		},
		"a deadline": {
			func(t *testing.T, _ io.WriteCloser, server *websocket.Conn) {
				require.NoError(t, server.SetReadDeadline(time.Now().Add(-time.Second)))
			},
			func(t *testing.T, err error) {
				late, ok := err.(interface{ Timeout() bool })
				require.True(t, ok && late.Timeout(), "%v", err)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			raw, server := played(t)
			go func() { _, _ = raw.Write(begin) }()
			_, r, err := server.NextReader()
			require.NoError(t, err)
			_, err = io.ReadFull(r, make([]byte, 100<<10))
			require.NoError(t, err)
			row.end(t, raw, server)
			_, err = r.Read(make([]byte, 1))
			row.check(t, err)
			_, _, again := server.ReadMessage()
			require.Equal(t, err, again)
		})
	}
}

func TestTheLimitHoldsForPiecesToo(t *testing.T) {
	client, server := inMemory(t, &websocket.Upgrader{}, &websocket.Dialer{})
	server.SetReadLimit(1 << 20)
	go func() {
		w, err := client.NextWriter(websocket.BinaryMessage)
		for err == nil {
			_, err = w.Write(make([]byte, 10000))
		}
	}()
	_, r, err := server.NextReader()
	require.NoError(t, err)
	n, err := io.Copy(io.Discard, r)
	require.Equal(t, websocket.ErrReadLimit, err)
	require.LessOrEqual(t, n, int64(1<<20))
}

// firstBytes keeps the first byte of each write.
type firstBytes struct {
	net.Conn
	written chan byte
}

func (c firstBytes) Write(p []byte) (int, error) {
	select {
	case c.written <- p[0]:
	default: // more than the test looks at
	}
	return c.Conn.Write(p)
}

func TestAMessageAsLongAsTheWriteBufferIsOneFrame(t *testing.T) {
	const size = 60 << 10
	write := func(c *websocket.Conn) {
		w, err := c.NextWriter(websocket.BinaryMessage)
		for i := 0; i < 2 && err == nil; i++ {
			_, err = w.Write(make([]byte, size/2))
		}
		if err == nil {
			_ = w.Close()
		}
	}
	for buffer, first := range map[int]byte{0: 0x02, size - 1: 0x02, size: 0x82} {
		raw, server := playedTo(t, &websocket.Upgrader{WriteBufferSize: buffer})
		go write(server)
		got := make([]byte, 1)
		_, err := raw.Read(got)
		require.NoError(t, err)
		require.Equal(t, first, got[0], "a server's, with a buffer of %d", buffer)

		d := &websocket.Dialer{WriteBufferSize: buffer}
		written := make(chan byte, 2)
		client, _ := over(t, &websocket.Upgrader{}, d, func(handler http.Handler) (string, func()) {
			s := wsdtest.Serve(handler)
			dial := s.Client().Transport.(*http.Transport).DialContext
			d.NetDialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := dial(ctx, network, addr)
				return firstBytes{conn, written}, err
			}
			return "", s.Close
		})
		require.Equal(t, byte('G'), <-written, "of the request")
		go write(client)
		require.Equal(t, first, <-written, "a client's, with a buffer of %d", buffer)
	}
}
