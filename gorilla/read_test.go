//go:build !js

// read_test.go checks what reading calls return, and what they do on the way.

package websocket_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	websocket "github.com/seed62836080/wsd/gorilla"
	"github.com/seed62836080/wsd/internal/wiretest"
)

// messages of the lengths at which frames, buffers and ways of sending change.
var messages = []string{"", "a", strings.Repeat("b", 125), strings.Repeat("c", 126), strings.Repeat("d", 5000),
	strings.Repeat("e", 1<<16), strings.Repeat("f", 3<<20)}

func TestMessagesArriveAsTheyWereWritten(t *testing.T) {
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		for _, pair := range [][2]*websocket.Conn{{client, server}, {server, client}} {
			go func() {
				for _, m := range messages {
					_ = pair[0].WriteMessage(websocket.TextMessage, []byte(m))
					_ = pair[0].WriteMessage(websocket.BinaryMessage, []byte(m))
				}
			}()
			for _, m := range messages {
				read(t, pair[1], websocket.TextMessage, m)
				read(t, pair[1], websocket.BinaryMessage, m)
			}
		}
	})
}

func TestReadersReadTheirMessageAlone(t *testing.T) {
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		go func() {
			for _, m := range messages {
				_ = client.WriteMessage(websocket.TextMessage, []byte(m))
			}
		}()
		for _, m := range messages {
			messageType, r, err := server.NextReader()
			require.NoError(t, err)
			require.Equal(t, websocket.TextMessage, messageType)
			p, err := io.ReadAll(r)
			require.NoError(t, err)
			require.True(t, m == string(p), "%d bytes, expected %d", len(p), len(m))
			_, err = r.Read(make([]byte, 1))
			require.Equal(t, io.EOF, err)
		}
	})
}

func TestNextReaderSkipsTheRest(t *testing.T) {
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		go func() {
			for _, m := range messages {
				_ = client.WriteMessage(websocket.BinaryMessage, []byte(m+"!"))
			}
			_ = client.WriteMessage(websocket.BinaryMessage, []byte("last"))
		}()
		var before io.Reader
		for _, m := range messages {
			_, r, err := server.NextReader()
			require.NoError(t, err)
			if before != nil {
				_, err = before.Read(make([]byte, 1))
				require.Equal(t, io.EOF, err, "of a reader whose message has been skipped")
			}
			first := make([]byte, 1)
			_, err = r.Read(first)
			require.NoError(t, err)
			require.Equal(t, (m + "!")[:1], string(first))
			before = r
		}
		read(t, server, websocket.BinaryMessage, "last")
	})
}

func TestAnEmptyMessageIsNotNil(t *testing.T) {
	client, server := overTCP(t, &websocket.Upgrader{}, &websocket.Dialer{})
	require.NoError(t, client.WriteMessage(websocket.TextMessage, nil))
	_, p, err := server.ReadMessage()
	require.NoError(t, err)
	require.NotNil(t, p)
	require.Empty(t, p)
}

func TestReadLimitIsThatOfTheRead(t *testing.T) {
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		go func() {
			for _, m := range []string{"four", "eight...", "nine....."} {
				_ = client.WriteMessage(websocket.TextMessage, []byte(m))
			}
		}()
		server.SetReadLimit(4)
		read(t, server, websocket.TextMessage, "four")
		server.SetReadLimit(8) // now, though the message may have come before
		read(t, server, websocket.TextMessage, "eight...")
		_, _, err := server.ReadMessage()
		require.Equal(t, websocket.ErrReadLimit, err)
		_, _, err = server.ReadMessage()
		require.Equal(t, websocket.ErrReadLimit, err)
		require.Equal(t, websocket.ErrCloseSent, server.WriteMessage(websocket.TextMessage, nil))
		_, _, err = client.ReadMessage()
		require.True(t, websocket.IsCloseError(err, websocket.CloseMessageTooBig), "%v", err)
	})
}

func TestALateReadFailsForGood(t *testing.T) {
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		require.NoError(t, server.SetReadDeadline(time.Now().Add(time.Millisecond)))
		_, _, late := server.ReadMessage()
		var netErr net.Error
		require.True(t, errors.As(late, &netErr) && netErr.Timeout(), "%v", late)
		require.ErrorIs(t, late, os.ErrDeadlineExceeded)
		require.NoError(t, server.SetReadDeadline(time.Time{}))
		require.NoError(t, client.WriteMessage(websocket.TextMessage, []byte("too late")))
		_, _, err := server.ReadMessage()
		require.Equal(t, late, err)
		_, _, err = server.NextReader()
		require.Equal(t, late, err)
		require.NoError(t, server.WriteMessage(websocket.TextMessage, []byte("writing goes on")))
		read(t, client, websocket.TextMessage, "writing goes on")
	})
}

func TestAReadDeadlineIsKeptToTheInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, server := inMemory(t, &websocket.Upgrader{}, &websocket.Dialer{})
		begun := time.Now()
		require.NoError(t, server.SetReadDeadline(begun.Add(time.Minute)))
		_, _, err := server.ReadMessage()
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(begun))
	})
}

func TestALoopThatIgnoresErrorsPanics(t *testing.T) {
	client, server := inMemory(t, &websocket.Upgrader{}, &websocket.Dialer{})
	require.NoError(t, client.Close())
	require.Panics(t, func() {
		for {
			_, _, _ = server.ReadMessage()
		}
	})
}

func TestTheEndOfBytesIsAnAbnormalClosure(t *testing.T) {
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		require.NoError(t, client.WriteMessage(websocket.TextMessage, []byte("last")))
		require.NoError(t, client.Close())
		read(t, server, websocket.TextMessage, "last")
		_, _, err := server.ReadMessage()
		require.Equal(t, &websocket.CloseError{Code: websocket.CloseAbnormalClosure, Text: "unexpected EOF"}, err)
	})
}

func TestReadsAfterCloseSaySo(t *testing.T) {
	onEach(t, func(t *testing.T, _, server *websocket.Conn) {
		waiting := make(chan error)
		go func() {
			_, _, err := server.ReadMessage()
			waiting <- err
		}()
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-waiting, net.ErrClosed)
		_, _, err := server.ReadMessage()
		require.ErrorIs(t, err, net.ErrClosed)
		require.ErrorIs(t, server.Close(), net.ErrClosed)
	})
}

// violations are frames that a client may not send.
var violations = map[string]struct {
	frame []byte
	code  int
}{
	"not masked":           {wiretest.Frame(0x81, []byte("a"), false), websocket.CloseProtocolError},
	"reserved bit":         {wiretest.Frame(0xC1, []byte("a"), true), websocket.CloseProtocolError},
	"reserved opcode":      {wiretest.Frame(0x83, []byte("a"), true), websocket.CloseProtocolError},
	"continuation alone":   {wiretest.Frame(0x80, []byte("a"), true), websocket.CloseProtocolError},
	"long ping":            {wiretest.Frame(0x89, make([]byte, 126), true), websocket.CloseProtocolError},
	"fragmented ping":      {wiretest.Frame(0x09, nil, true), websocket.CloseProtocolError},
	"text that is not":     {wiretest.Frame(0x81, []byte("\xFF"), true), websocket.CloseInvalidFramePayloadData},
	"close code of a byte": {wiretest.Frame(0x88, []byte{3}, true), websocket.CloseProtocolError},
	"close code 1005":      {wiretest.Frame(0x88, []byte{3, 0xED}, true), websocket.CloseProtocolError},
}

func TestViolationsAreRefused(t *testing.T) {
	for name, violation := range violations {
		t.Run(name, func(t *testing.T) {
			raw, server := played(t)
			_, err := raw.Write(violation.frame)
			require.NoError(t, err)
			_, _, err = server.ReadMessage()
			var found *wsd.ProtocolError
			require.ErrorAs(t, err, &found)
			require.True(t, strings.HasPrefix(err.Error(), "websocket: "), err.Error())
			var header [4]byte
			_, err = io.ReadFull(raw, header[:])
			require.NoError(t, err)
			require.Equal(t, byte(0x88), header[0])
			require.Equal(t, violation.code, int(header[2])<<8|int(header[3]))
		})
	}
}

func TestJoinMessages(t *testing.T) {
	client, server := overTCP(t, &websocket.Upgrader{}, &websocket.Dialer{})
	for _, m := range []string{"a", "", "bc"} {
		require.NoError(t, client.WriteMessage(websocket.TextMessage, []byte(m)))
	}
	require.NoError(t, client.Close())
	p, err := io.ReadAll(websocket.JoinMessages(server, ", "))
	require.True(t, websocket.IsCloseError(err, websocket.CloseAbnormalClosure), "%v", err)
	require.Equal(t, "a, , bc, ", string(p))
}

func TestTheThousandthReadOfAFailedConnectionPanics(t *testing.T) {
	client, server := inMemory(t, &websocket.Upgrader{}, &websocket.Dialer{})
	require.NoError(t, client.Close())
	var failed error
	for range 999 {
		_, _, failed = server.ReadMessage()
		require.Error(t, failed)
	}
	require.PanicsWithValue(t, "websocket: repeated read of a connection that has failed: "+failed.Error(), func() {
		_, _, _ = server.NextReader()
	})
}
