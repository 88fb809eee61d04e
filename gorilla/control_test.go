// control_test.go checks who handles and who sends control messages, and when.

package websocket_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	websocket "github.com/seed62836080/wsd/gorilla"
	"github.com/seed62836080/wsd/internal/wiretest"
)

func soon() time.Time { return time.Now().Add(time.Minute) }

func TestHandlersRunInTheReadingCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := inMemory(t, &websocket.Upgrader{}, &websocket.Dialer{})
		var seen []string // without a lock: the race detector would tell of another goroutine
		server.SetPingHandler(func(data string) error {
			seen = append(seen, "ping "+data)
			return nil
		})
		server.SetPongHandler(func(data string) error {
			seen = append(seen, "pong "+data)
			return nil
		})
		require.NoError(t, client.WriteControl(websocket.PingMessage, []byte("1"), soon()))
		require.NoError(t, client.WriteControl(websocket.PongMessage, []byte("2"), soon()))
		require.NoError(t, client.WriteMessage(websocket.TextMessage, []byte("a")))
		require.NoError(t, client.WriteMessage(websocket.PingMessage, []byte("3")))
		require.NoError(t, client.WriteMessage(websocket.TextMessage, []byte("b")))
		synctest.Wait()
		require.Empty(t, seen, "handled though nobody reads")
		read(t, server, websocket.TextMessage, "a")
		require.Equal(t, []string{"ping 1", "pong 2"}, seen)
		read(t, server, websocket.TextMessage, "b")
		require.Equal(t, []string{"ping 1", "pong 2", "ping 3"}, seen)
	})
}

func TestPingsAreAnsweredByReading(t *testing.T) {
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		var answers []string
		client.SetPongHandler(func(data string) error {
			answers = append(answers, data)
			return nil
		})
		require.NoError(t, client.WriteControl(websocket.PingMessage, []byte("who"), soon()))
		require.NoError(t, client.WriteMessage(websocket.TextMessage, []byte("go on")))
		read(t, server, websocket.TextMessage, "go on")
		require.NoError(t, server.WriteMessage(websocket.TextMessage, []byte("done")))
		read(t, client, websocket.TextMessage, "done")
		require.Equal(t, []string{"who"}, answers)
	})
}

func TestControlMessagesBetweenFragments(t *testing.T) {
	raw, server := played(t)
	var pings []string
	server.SetPingHandler(func(data string) error {
		pings = append(pings, data)
		return nil
	})
	for _, frame := range [][]byte{
		wiretest.Frame(0x01, []byte("a"), true), wiretest.Frame(0x89, []byte("p"), true), wiretest.Frame(0x80, []byte("b"), true),
	} {
		_, err := raw.Write(frame)
		require.NoError(t, err)
	}
	read(t, server, websocket.TextMessage, "ab")
	require.Equal(t, []string{"p"}, pings)
}

func TestAnErrorOfAHandlerEndsReading(t *testing.T) {
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		mine := errors.New("mine")
		server.SetPingHandler(func(string) error { return mine })
		require.NoError(t, client.WriteControl(websocket.PingMessage, nil, soon()))
		_, _, err := server.ReadMessage()
		require.Equal(t, mine, err)
		_, _, err = server.ReadMessage()
		require.Equal(t, mine, err)
	})
}

func TestTheDefaultAnswersAClose(t *testing.T) {
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		require.NoError(t, client.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4001, "bye"), soon()))
		_, _, err := server.ReadMessage()
		require.Equal(t, &websocket.CloseError{Code: 4001, Text: "bye"}, err)
		_, _, err = client.ReadMessage()
		require.Equal(t, &websocket.CloseError{Code: 4001}, err)
		for _, c := range []*websocket.Conn{client, server} {
			require.Equal(t, websocket.ErrCloseSent, c.WriteMessage(websocket.TextMessage, []byte("more")))
			require.Equal(t, websocket.ErrCloseSent, c.WriteControl(websocket.PingMessage, nil, soon()))
			_, err = c.NextWriter(websocket.TextMessage)
			require.Equal(t, websocket.ErrCloseSent, err)
		}
	})
}

func TestACloseWithoutACode(t *testing.T) {
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		require.NoError(t, client.WriteMessage(websocket.CloseMessage, nil))
		var code int
		server.SetCloseHandler(func(c int, text string) error {
			code = c
			return nil
		})
		_, _, err := server.ReadMessage()
		require.Equal(t, &websocket.CloseError{Code: websocket.CloseNoStatusReceived}, err)
		require.Equal(t, websocket.CloseNoStatusReceived, code)
		require.NoError(t, server.WriteMessage(websocket.TextMessage, []byte("not closed here")))
		read(t, client, websocket.TextMessage, "not closed here")
	})
}

func TestMessagesComeBehindACloseOfOnesOwn(t *testing.T) {
	onEach(t, func(t *testing.T, client, server *websocket.Conn) {
		require.NoError(t, server.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), soon()))
		for range 100 {
			require.NoError(t, client.WriteMessage(websocket.TextMessage, []byte("more")))
		}
		for range 100 {
			read(t, server, websocket.TextMessage, "more")
		}
		_, _, err := client.ReadMessage()
		require.True(t, websocket.IsCloseError(err, 1000))
		_, _, err = server.ReadMessage()
		require.True(t, websocket.IsCloseError(err, 1000))
	})
}

func TestWhatNoControlMessageCanBe(t *testing.T) {
	client, _ := inMemory(t, &websocket.Upgrader{}, &websocket.Dialer{})
	require.ErrorContains(t, client.WriteControl(websocket.TextMessage, nil, soon()), "bad write message type")
	require.ErrorContains(t, client.WriteControl(websocket.PingMessage, make([]byte, 126), soon()), "invalid control frame")
	require.ErrorContains(t, client.WriteMessage(websocket.PingMessage, make([]byte, 126)), "invalid control frame")
	var late net.Error
	require.ErrorAs(t, client.WriteControl(websocket.PingMessage, nil, time.Now().Add(-time.Second)), &late)
	require.True(t, late.Timeout())
	require.NoError(t, client.WriteControl(websocket.PingMessage, nil, soon()), "a late control message harms no other")
}

func TestCloseCodesThatMayNotBeSentAreMended(t *testing.T) {
	for payload, code := range map[string]int{
		string(websocket.FormatCloseMessage(1006, "x")): websocket.CloseInternalServerErr,
		"\x03\xED":     websocket.CloseInternalServerErr, // 1005
		"\x00\x01":     websocket.CloseInternalServerErr,
		"\x03":         websocket.CloseNoStatusReceived,
		"\x03\xE8\xFF": websocket.CloseNormalClosure,
		string(websocket.FormatCloseMessage(1014, "")): 1014,
	} {
		client, server := inMemory(t, &websocket.Upgrader{}, &websocket.Dialer{})
		require.NoError(t, client.WriteControl(websocket.CloseMessage, []byte(payload), soon()))
		_, _, err := server.ReadMessage()
		require.True(t, websocket.IsCloseError(err, code), "%q: %v", payload, err)
	}
}

// A control message that the peer does not take is late, and so is every other; messages are not harmed.
func TestAControlMessageThatIsNotTakenIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := inMemory(t, &websocket.Upgrader{}, &websocket.Dialer{})
		go func() { _ = client.WriteMessage(websocket.BinaryMessage, make([]byte, 1<<20)) }()
		synctest.Wait()
		begun := time.Now()
		err := client.WriteControl(websocket.PingMessage, []byte("p"), begun.Add(3*time.Second))
		var late net.Error
		require.ErrorAs(t, err, &late)
		require.True(t, late.Timeout())
		require.Equal(t, 3*time.Second, time.Since(begun))
		read(t, server, websocket.BinaryMessage, strings.Repeat("\x00", 1<<20))
	})
}
