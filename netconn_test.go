// netconn_test.go tests a connection as a stream of bytes. That it is a net.Conn by the rules is tested in interop, with
// golang.org/x/net/nettest.

package wsd_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// Bytes come as they went, both ways at once, whatever is streamed or compressed.
func TestNetConnCarriesBytes(t *testing.T) {
	data := []byte(strings.Repeat("0123456789\u20ac\U0001F600", 50_000))
	for _, kind := range []wsd.MessageType{wsd.TextMessage, wsd.BinaryMessage} {
		for _, cfg := range []wsd.Config{{}, {StreamAbove: 1000}, {StreamAbove: 1000, Compression: &wsd.Compression{}}} {
			eachTransport(t, cfg, func(t *testing.T, client, server *wsd.Conn) {
				a, b := wsd.NetConn(client, kind), wsd.NetConn(server, kind)
				failed := make(chan error, 4)
				for _, sides := range [][2]net.Conn{{a, b}, {b, a}} {
					go func() {
						_, err := sides[0].Write(data)
						failed <- err
					}()
					go func() {
						got := make([]byte, len(data))
						_, err := io.ReadFull(sides[1], got)
						if err == nil && !bytes.Equal(data, got) {
							err = errors.New("other bytes than were sent")
						}
						failed <- err
					}()
				}
				for range 4 {
					require.NoError(t, <-failed)
				}
				require.NoError(t, a.Close())
				_, err := b.Read(make([]byte, 1))
				require.Equal(t, io.EOF, err)
			})
		}
	}
}

// Text can be cut anywhere between Writes.
func TestNetConnText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{})
		ends(t, c, p)
		stream := wsd.NetConn(c, wsd.TextMessage)
		const data = "a\u20ac\U0001F600b\u00e4"
		go func() {
			n, err := io.Copy(stream, iotest.OneByteReader(strings.NewReader(data)))
			if n != int64(len(data)) || err != nil {
				t.Error(n, err)
			}
		}()
		for _, character := range data {
			require.Equal(t, text(string(character)), p.receive())
		}
		n, err := stream.Write([]byte("\xFF"))
		require.ErrorIs(t, err, wsd.ErrInvalidMessage)
		require.Zero(t, n)
		_, err = stream.Write([]byte("goes on"))
		require.NoError(t, err)
		require.Equal(t, text("goes on"), p.receive())
	})
}

// An empty message is not a read of no bytes, and messages have no bounds.
func TestNetConnReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, streamed)
		ends(t, c, p)
		stream := wsd.NetConn(c, wsd.BinaryMessage)
		p.send(binaryFrame(nil), binaryFrame([]byte("abc")), binaryFrame(nil), begin(""), more("0123456789"), more("def"), last(""))
		n, err := stream.Read(nil)
		require.NoError(t, err)
		require.Zero(t, n)
		got := make([]byte, 16)
		n, err = stream.Read(got[:2])
		require.NoError(t, err)
		require.Equal(t, "ab", string(got[:n]))
		_, err = io.ReadFull(stream, got[n:])
		require.NoError(t, err)
		require.Equal(t, "abc0123456789def", string(got))
		n, err = stream.Write(nil)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func TestNetConnEnds(t *testing.T) {
	for name, row := range map[string]struct {
		frames []frame
		want   func(t *testing.T, err error)
	}{
		"normal":     {[]frame{closeFrame(1000)}, func(t *testing.T, err error) { require.Equal(t, io.EOF, err) }},
		"going away": {[]frame{closeFrame(1001)}, func(t *testing.T, err error) { require.Equal(t, io.EOF, err) }},
		"failed": {[]frame{closeFrame(1011)}, func(t *testing.T, err error) {
			var closed *wsd.CloseError
			require.ErrorAs(t, err, &closed)
			require.Equal(t, wsd.StatusInternalError, closed.Code)
		}},
		"a message of the other type": {[]frame{text("text")}, func(t *testing.T, err error) {
			require.ErrorContains(t, err, "expected binary messages, got text")
		}},
		"a streamed message of the other type": {[]frame{{0x01, []byte("text of more than ten bytes")}}, func(t *testing.T, err error) {
			require.ErrorContains(t, err, "expected binary messages, got text")
		}},
		"in the middle of a message": {[]frame{begin(""), more(""), closeFrame(1000)}, func(t *testing.T, err error) {
			require.Equal(t, io.EOF, err, "of which nothing was delivered")
		}},
		"in the middle of a streamed message": {[]frame{begin("01234567"), more("89abc"), closeFrame(1000)}, func(t *testing.T, err error) {
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := servedConn(t, streamed)
				ends(t, c, p)
				stream := wsd.NetConn(c, wsd.BinaryMessage)
				p.send(binaryFrame([]byte("ahead")))
				p.send(row.frames...)
				got, err := io.ReadAll(stream)
				if err == nil {
					err = io.EOF
				}
				require.Equal(t, "ahead", string(got[:5]))
				row.want(t, err)
				_, again := stream.Read(got)
				if err != io.EOF {
					require.ErrorContains(t, again, err.Error())
				}
				f := p.receive()
				require.Equal(t, byte(0x88), f.first)
				if strings.Contains(name, "other type") {
					require.Equal(t, closePayload(1003, "expected binary messages, got text"), f.payload)
				}
				_, err = stream.Write([]byte("late"))
				require.ErrorIs(t, err, wsd.ErrClosed)
			})
		})
	}
}

// Deadlines end calls, and harm neither stream.
func TestNetConnDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{StreamAbove: 10, PingInterval: -1, BodyTimeout: -1, WriteTimeout: -1})
		ends(t, c, p)
		stream := wsd.NetConn(c, wsd.BinaryMessage)
		timesOut := func(after time.Duration, call func() (int, error)) int {
			t.Helper()
			start := time.Now()
			n, err := call()
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			var timeout net.Error
			require.ErrorAs(t, err, &timeout)
			require.True(t, timeout.Timeout())
			require.Equal(t, after, time.Since(start))
			return n
		}
		buffer := make([]byte, 100)
		read := func() (int, error) { return stream.Read(buffer) }
		require.NoError(t, stream.SetReadDeadline(time.Now().Add(time.Minute)))
		timesOut(time.Minute, read)
		timesOut(0, read)
		require.NoError(t, stream.SetReadDeadline(time.Now().Add(time.Hour)))
		time.AfterFunc(time.Second, func() { _ = stream.SetReadDeadline(time.Now()) })
		timesOut(time.Second, read)
		require.NoError(t, stream.SetReadDeadline(time.Now().Add(time.Minute)))
		p.send(begin("01234567"), more("89abc"))
		n, err := io.ReadFull(stream, buffer[:13])
		require.NoError(t, err)
		require.Equal(t, "0123456789abc", string(buffer[:n]))
		timesOut(time.Minute, read) // in the middle of a message
		require.NoError(t, stream.SetReadDeadline(time.Now().Add(-time.Second)))
		p.send(more("def"))
		synctest.Wait()
		timesOut(0, read)
		require.NoError(t, stream.SetDeadline(time.Time{}))
		n, err = stream.Read(buffer)
		require.NoError(t, err)
		require.Equal(t, "def", string(buffer[:n]))

		sent := bytes.Repeat([]byte("0123456789"), 100_000)
		require.NoError(t, stream.SetWriteDeadline(time.Now().Add(time.Minute)))
		n = timesOut(time.Minute, func() (int, error) { return stream.Write(sent) })
		require.Less(t, n, len(sent))
		require.NoError(t, stream.SetDeadline(time.Time{}))
		var got []byte
		for len(got) < n {
			got = append(got, p.receive().payload...)
		}
		require.True(t, bytes.Equal(sent[:n], got), "what was counted arrives, and no more")
		_, err = stream.Write([]byte("unharmed"))
		require.NoError(t, err)
		require.Equal(t, binaryFrame([]byte("unharmed")), p.receive())
	})
}

// Close returns at once, and what was written arrives ahead of the close frame.
func TestNetConnCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{PingInterval: -1})
		ends(t, c, p)
		stream := wsd.NetConn(c, wsd.BinaryMessage)
		_, err := stream.Write(make([]byte, 40_000))
		require.NoError(t, err)
		failed := make(chan error, 3)
		for range 2 {
			go func() { _, err := stream.Read(make([]byte, 1)); failed <- err }()
		}
		go func() { _, err := stream.Write(make([]byte, 1_000_000)); failed <- err }()
		synctest.Wait()
		start := time.Now()
		require.NoError(t, stream.Close())
		for range 3 {
			require.ErrorIs(t, <-failed, net.ErrClosed)
		}
		require.NoError(t, stream.Close())
		require.Zero(t, time.Since(start))
		require.ErrorIs(t, stream.SetDeadline(time.Time{}), net.ErrClosed)
		_, err = stream.Read(nil)
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = stream.Write(nil)
		require.ErrorIs(t, err, net.ErrClosed)
		received := 0
		f := p.receive()
		for ; f.first == 0x82; f = p.receive() {
			received += len(f.payload)
		}
		require.GreaterOrEqual(t, received, 40_000)
		require.Equal(t, closeFrame(1000), f)
		p.send(closeFrame(1000))
		<-c.Closed()
		require.True(t, c.CloseEvent().Clean)
	})
}

func TestNetConnHasAddresses(t *testing.T) {
	c, p := servedConn(t, wsd.Config{})
	ends(t, c, p)
	stream := wsd.NetConn(c, wsd.BinaryMessage)
	require.NotNil(t, stream.LocalAddr())
	require.NotEmpty(t, stream.RemoteAddr().Network())
	require.NotEmpty(t, stream.RemoteAddr().String())
}
