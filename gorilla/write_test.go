// write_test.go checks that messages are written whole, by their deadlines, and what ends the writing.

package websocket_test

import (
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	websocket "github.com/seed62836080/wsd/gorilla"
)

func TestAnyNumberMayWriteAtATime(t *testing.T) {
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		const writers, each = 8, 30
		var all sync.WaitGroup
		for i := range writers {
			all.Go(func() {
				for j := range each {
					text := strings.Repeat(strconv.Itoa(i), 1+j*4000)
					switch j % 4 {
					case 0:
						_ = client.WriteMessage(websocket.TextMessage, []byte(text))
					case 1:
						_ = client.WriteJSON(text)
					case 2:
						_ = client.WriteControl(websocket.PingMessage, []byte(text[:1]), soon())
						_ = client.WriteMessage(websocket.BinaryMessage, []byte(text))
					case 3:
						pm, _ := websocket.NewPreparedMessage(websocket.TextMessage, []byte(text))
						_ = client.WritePreparedMessage(pm)
					}
				}
			})
		}
		for range writers * each {
			_, p, err := server.ReadMessage()
			require.NoError(t, err)
			text := strings.Trim(string(p), "\"\n")
			require.Equal(t, strings.Repeat(text[:1], len(text)), text)
		}
		all.Wait()
	})
}

func TestNextWriterMakesOneMessage(t *testing.T) {
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		for _, m := range messages {
			go func() {
				w, err := client.NextWriter(websocket.TextMessage)
				if err != nil {
					return
				}
				for piece := range 7 {
					_, _ = io.WriteString(w, m[len(m)*piece/7:len(m)*(piece+1)/7])
				}
				_ = w.Close()
				_ = client.WriteControl(websocket.PingMessage, nil, soon())
				w, _ = client.NextWriter(websocket.BinaryMessage)
				_, _ = io.Copy(w, strings.NewReader(m))
				_ = w.Close()
			}()
			read(t, server, websocket.TextMessage, m)
			read(t, server, websocket.BinaryMessage, m)
		}
	})
}

func TestAWriterEndsOnce(t *testing.T) {
	client, server := inMemory(t, &websocket.Upgrader{}, &websocket.Dialer{})
	first, err := client.NextWriter(websocket.TextMessage)
	require.NoError(t, err)
	_, err = io.WriteString(first, "first")
	require.NoError(t, err)
	second, err := client.NextWriter(websocket.TextMessage) // closes the first
	require.NoError(t, err)
	read(t, server, websocket.TextMessage, "first")
	_, err = io.WriteString(first, "more")
	require.ErrorContains(t, err, "write closed")
	require.ErrorContains(t, first.Close(), "write closed")
	require.NoError(t, second.Close())
	require.ErrorContains(t, second.Close(), "write closed")
	read(t, server, websocket.TextMessage, "")
}

func TestAMessageInPiecesDoesNotDelayOthers(t *testing.T) {
	client, server := inMemory(t, &websocket.Upgrader{}, &websocket.Dialer{})
	w, err := client.NextWriter(websocket.TextMessage)
	require.NoError(t, err)
	_, err = io.WriteString(w, "in pieces")
	require.NoError(t, err)
	require.NoError(t, client.WriteMessage(websocket.TextMessage, []byte("whole")))
	require.NoError(t, w.Close())
	read(t, server, websocket.TextMessage, "whole")
	read(t, server, websocket.TextMessage, "in pieces")
}

func TestControlMessagesFromWriters(t *testing.T) {
	client, server := inMemory(t, &websocket.Upgrader{}, &websocket.Dialer{})
	w, err := client.NextWriter(websocket.PingMessage)
	require.NoError(t, err)
	_, err = io.WriteString(w, "p")
	require.NoError(t, err)
	require.NoError(t, w.Close())
	w, err = client.NextWriter(websocket.CloseMessage)
	require.NoError(t, err)
	_, err = w.Write(make([]byte, 126))
	require.ErrorContains(t, err, "invalid control frame")
	w, err = client.NextWriter(websocket.CloseMessage)
	require.NoError(t, err)
	_, err = w.Write(websocket.FormatCloseMessage(4000, ""))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	var pings []string
	server.SetPingHandler(func(data string) error {
		pings = append(pings, data)
		return nil
	})
	_, _, err = server.ReadMessage()
	require.True(t, websocket.IsCloseError(err, 4000), "%v", err)
	require.Equal(t, []string{"p"}, pings)
}

// waysToWrite are all calls that a write deadline bounds.
var waysToWrite = map[string]func(c *websocket.Conn) error{
	"messages": func(c *websocket.Conn) error { return c.WriteMessage(websocket.BinaryMessage, make([]byte, 1000)) },
	"large messages": func(c *websocket.Conn) error {
		return c.WriteMessage(websocket.BinaryMessage, make([]byte, 1<<20))
	},
	"JSON": func(c *websocket.Conn) error { return c.WriteJSON(strings.Repeat("a", 1000)) },
	"prepared messages": func(c *websocket.Conn) error {
		pm, err := websocket.NewPreparedMessage(websocket.BinaryMessage, make([]byte, 10000))
		if err != nil {
			return err
		}
		return c.WritePreparedMessage(pm)
	},
	"a writer": func(c *websocket.Conn) error {
		w, err := c.NextWriter(websocket.BinaryMessage)
		if err != nil {
			return err
		}
		for range 100 {
			if _, err = w.Write(make([]byte, 1000)); err != nil {
				return err
			}
		}
		return w.Close()
	},
}

func TestALateWriteFailsForGood(t *testing.T) {
	for name, write := range waysToWrite {
		for where, connect := range everywhere {
			t.Run(name+" over "+where, func(t *testing.T) {
				client, _ := connect(t, &websocket.Upgrader{}, &websocket.Dialer{})
				var err error
				for err == nil { // until the peer's buffers are full
					require.NoError(t, client.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
					err = write(client)
				}
				var late net.Error
				require.True(t, errors.As(err, &late) && late.Timeout(), "%v", err)
				require.NoError(t, client.SetWriteDeadline(time.Time{}))
				require.Equal(t, err, client.WriteMessage(websocket.TextMessage, nil))
			})
		}
	}
}

func TestADeadlineThatHasPassed(t *testing.T) {
	onEach(t, func(t *testing.T, client, _ *websocket.Conn) {
		require.NoError(t, client.SetWriteDeadline(time.Now().Add(-time.Second)))
		err := client.WriteMessage(websocket.TextMessage, nil)
		var late net.Error
		require.True(t, errors.As(err, &late) && late.Timeout(), "%v", err)
		require.NoError(t, client.SetWriteDeadline(time.Time{}))
		require.Equal(t, err, client.WriteMessage(websocket.TextMessage, nil))
	})
}

func TestADeadlineOfControlMessagesIsTheirsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := inMemory(t, &websocket.Upgrader{}, &websocket.Dialer{})
		require.NoError(t, client.SetWriteDeadline(time.Now().Add(time.Second)))
		require.NoError(t, client.WriteMessage(websocket.TextMessage, []byte("a")))
		time.Sleep(time.Minute)
		require.NoError(t, client.WriteControl(websocket.PongMessage, nil, soon()), "the deadline of messages has passed")
		require.NoError(t, client.SetWriteDeadline(time.Time{}))
		time.Sleep(time.Hour)
		require.NoError(t, client.WriteMessage(websocket.TextMessage, []byte("b")), "that of the control message has passed")
		read(t, server, websocket.TextMessage, "a")
		read(t, server, websocket.TextMessage, "b")
	})
}

func TestTextHasToBeUTF8(t *testing.T) {
	client, server := inMemory(t, &websocket.Upgrader{}, &websocket.Dialer{})
	require.ErrorContains(t, client.WriteMessage(websocket.TextMessage, []byte("\xFF")), "not UTF-8")
	_, err := websocket.NewPreparedMessage(websocket.TextMessage, []byte("\xFF"))
	require.ErrorContains(t, err, "not UTF-8")
	require.NoError(t, client.WriteMessage(websocket.BinaryMessage, []byte("\xFF")))
	read(t, server, websocket.BinaryMessage, "\xFF")
}

func TestWhatNoMessageCanBe(t *testing.T) {
	client, _ := inMemory(t, &websocket.Upgrader{}, &websocket.Dialer{})
	require.ErrorContains(t, client.WriteMessage(3, nil), "bad write message type")
	_, err := client.NextWriter(0)
	require.ErrorContains(t, err, "bad write message type")
	_, err = websocket.NewPreparedMessage(11, nil)
	require.ErrorContains(t, err, "bad write message type")
	_, err = websocket.NewPreparedMessage(websocket.PingMessage, make([]byte, 126))
	require.ErrorContains(t, err, "invalid control frame")
	require.Error(t, client.SetCompressionLevel(10))
	require.Error(t, client.SetCompressionLevel(-3))
	require.NoError(t, client.SetCompressionLevel(-2))
}

func TestWhatWasWrittenIsSentBeforeClose(t *testing.T) {
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		const count = 60 // more than a pipe takes at once, so that some wait
		for range count {
			require.NoError(t, client.WriteMessage(websocket.BinaryMessage, make([]byte, 1000)))
		}
		require.NoError(t, client.Close())
		for range count {
			read(t, server, websocket.BinaryMessage, strings.Repeat("\x00", 1000))
		}
	})
}

func TestCloseWakesWhoWrites(t *testing.T) {
	for name, write := range waysToWrite {
		for where, connect := range everywhere {
			t.Run(name+" over "+where, func(t *testing.T) {
				client, _ := connect(t, &websocket.Upgrader{}, &websocket.Dialer{})
				begun, failed := make(chan struct{}, 1), make(chan error)
				go func() {
					var err error
					for err == nil {
						err = write(client)
						select {
						case begun <- struct{}{}:
						default:
						}
					}
					failed <- err
				}()
				if name != "large messages" { // of which the first does not fit
					<-begun
				}
				require.NoError(t, client.Close())
				require.Error(t, <-failed)
				require.ErrorIs(t, client.WriteMessage(websocket.TextMessage, nil), net.ErrClosed)
			})
		}
	}
}

func TestWritingToAPeerThatIsGone(t *testing.T) {
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		require.NoError(t, server.Close())
		var err error
		for err == nil {
			err = client.WriteMessage(websocket.BinaryMessage, make([]byte, 1000))
		}
		require.NotErrorIs(t, err, net.ErrClosed, "this side has not closed")
		require.Equal(t, err, client.WriteMessage(websocket.BinaryMessage, nil))
	})
}

func TestJSON(t *testing.T) {
	client, server := inMemory(t, &websocket.Upgrader{}, &websocket.Dialer{})
	type value struct{ A, B string }
	sent := value{"a", strings.Repeat("b", 100000)}
	go func() {
		_ = client.WriteJSON(sent)
		_ = websocket.WriteJSON(client, 1)
		_ = client.WriteMessage(websocket.TextMessage, []byte("not JSON"))
		_ = client.WriteMessage(websocket.TextMessage, nil)
		_ = client.WriteMessage(websocket.TextMessage, []byte("2"))
	}()
	var got value
	require.NoError(t, server.ReadJSON(&got))
	require.Equal(t, sent, got)
	read(t, server, websocket.TextMessage, "1\n")
	require.Error(t, server.ReadJSON(&got))
	require.Equal(t, io.ErrUnexpectedEOF, server.ReadJSON(&got))
	var number int
	require.NoError(t, websocket.ReadJSON(server, &number))
	require.Equal(t, 2, number)
	require.Error(t, client.WriteJSON(func() {}))
	require.NoError(t, client.WriteJSON("goes on"))
	read(t, server, websocket.TextMessage, "\"goes on\"\n")
}

func TestPreparedMessages(t *testing.T) {
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		data := []byte("prepared")
		pm, err := websocket.NewPreparedMessage(websocket.TextMessage, data)
		require.NoError(t, err)
		copy(data, "changed!")
		for range 2 {
			require.NoError(t, client.WritePreparedMessage(pm))
			read(t, server, websocket.TextMessage, "prepared")
		}
		var pings []string
		server.SetPingHandler(func(data string) error {
			pings = append(pings, data)
			return nil
		})
		ping, err := websocket.NewPreparedMessage(websocket.PingMessage, []byte("p"))
		require.NoError(t, err)
		require.NoError(t, client.WritePreparedMessage(ping))
		bye, err := websocket.NewPreparedMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1001, ""))
		require.NoError(t, err)
		require.NoError(t, client.WritePreparedMessage(bye))
		_, _, err = server.ReadMessage()
		require.True(t, websocket.IsCloseError(err, 1001))
		require.Equal(t, []string{"p"}, pings)
	})
}
