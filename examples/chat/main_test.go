// main_test.go runs the example's server: who may enter, who hears what, whom a room does not wait for, and the shutdown.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// start runs the server, and returns its page's URL, and what a signal does: it ends the server and waits for it.
func start(t *testing.T) (url string, interrupt func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, w, "127.0.0.1:0") }()
	line := make([]byte, 64)
	n, err := r.Read(line)
	require.NoError(t, err)
	interrupt = func() error {
		cancel()
		err := <-ended
		ended <- err
		return err
	}
	t.Cleanup(func() { require.NoError(t, interrupt()) })
	return strings.TrimSpace(string(line[:n])), interrupt
}

// member is somebody in a room.
type member struct {
	*wsd.Conn
	t *testing.T
}

func enter(t *testing.T, url, room, name string) member {
	t.Helper()
	return enterWith(t, wsd.Config{Compression: &wsd.Compression{}}, url, room, name)
}

func enterWith(t *testing.T, config wsd.Config, url, room, name string) member {
	t.Helper()
	conn, _, err := wsd.Dial(t.Context(), url+"rooms/"+room+"?name="+name, &wsd.DialOptions{
		Config: config,
		Header: http.Header{"Origin": {strings.TrimSuffix(url, "/")}}, // as the page
	})
	require.NoError(t, err)
	t.Cleanup(conn.CloseNow)
	return member{conn, t}
}

func (m member) hears(from, text string) {
	m.t.Helper()
	msg, err := m.Receive(m.t.Context())
	require.NoError(m.t, err)
	var l line
	require.NoError(m.t, msg.Decode(&l))
	require.Equal(m.t, line{from, text}, l)
}

func TestWhatIsSaidGoesToTheRoom(t *testing.T) {
	url, _ := start(t)
	ann := enter(t, url, "tea", "ann")
	ann.hears("", "ann comes in")
	bob := enter(t, url, "tea", "bob")
	bob.hears("", "bob comes in")
	ann.hears("", "bob comes in")
	cyd := enter(t, url, "coffee", "cyd")
	cyd.hears("", "cyd comes in")

	long := strings.Repeat("is it ready? ", 50) // long enough to be compressed
	require.NoError(t, ann.Send(t.Context(), wsd.Text(long)))
	ann.hears("ann", long)
	bob.hears("ann", long)
	longest := strings.Repeat("\U0001F375", maxText) // four bytes and two UTF-16 code units each
	require.NoError(t, bob.Send(t.Context(), wsd.Text(longest)))
	ann.hears("bob", longest)
	bob.hears("bob", longest)
	require.NoError(t, cyd.Send(t.Context(), wsd.Text("nobody here?")))
	cyd.hears("cyd", "nobody here?")

	require.NoError(t, bob.Close(wsd.StatusNormalClosure, ""))
	ann.hears("", "bob leaves")
}

func TestWhoIsRefused(t *testing.T) {
	url, _ := start(t)
	for name, test := range map[string]struct {
		path, origin, says string
		status             int
	}{
		"no name":        {"rooms/tea", "", "say your name", http.StatusBadRequest},
		"a blank name":   {"rooms/tea?name=+", "", "say your name", http.StatusBadRequest},
		"a long name":    {"rooms/tea?name=" + strings.Repeat("n", maxName+1), "", "at most 40", http.StatusBadRequest},
		"a long room":    {"rooms/" + strings.Repeat("r", maxName+1) + "?name=eve", "", "at most 40", http.StatusBadRequest},
		"a foreign page": {"rooms/tea?name=eve", "https://elsewhere.example", "Origin", http.StatusForbidden},
	} {
		header := http.Header{}
		if test.origin != "" {
			header.Set("Origin", test.origin)
		}
		_, resp, err := wsd.Dial(t.Context(), url+test.path, &wsd.DialOptions{Header: header})
		require.ErrorContains(t, err, test.says, name)
		require.Equal(t, test.status, resp.StatusCode, name)
	}
}

func TestWhoIsShownOut(t *testing.T) {
	url, _ := start(t)
	for name, test := range map[string]struct {
		msg  wsd.Message
		code wsd.StatusCode
	}{
		"binary": {wsd.Binary([]byte{1}), wsd.StatusUnsupportedData},
		"long":   {wsd.Text(strings.Repeat("x", maxText+1)), wsd.StatusMessageTooBig},
		"longer": {wsd.Text(strings.Repeat("x", 5*maxText)), wsd.StatusMessageTooBig},
	} {
		eve := enter(t, url, name, "eve")
		eve.hears("", "eve comes in")
		require.NoError(t, eve.Send(t.Context(), test.msg))
		_, err := eve.Receive(t.Context())
		var closed *wsd.CloseError
		require.ErrorAs(t, err, &closed, name)
		require.Equal(t, test.code, closed.Code, name)
	}
}

func TestARoomDoesNotWaitForWhoDoesNotRead(t *testing.T) {
	c := newChat(time.Second / 4)
	c.server.AcceptOptions.CloseTimeout = time.Second / 4
	server := httptest.NewServer(c.routes())
	defer server.Close()
	url := server.URL + "/"
	// Nobody receives, so that its connection stops reading. What is compressed would be too little to matter.
	deaf := enterWith(t, wsd.Config{}, url, "tea", "deaf")
	ann := enter(t, url, "tea", "ann")
	ann.hears("", "ann comes in")
	text := strings.Repeat("\U0001F375", maxText)
	for left := false; !left; { // until the kernel and the queues of both sides are full
		require.NoError(t, ann.Send(t.Context(), wsd.Text(text)))
		msg, err := ann.Receive(t.Context())
		require.NoError(t, err)
		var l line
		require.NoError(t, msg.Decode(&l))
		left = l == line{Text: "deaf leaves"}
	}
	for range deaf.Messages() { // what had been sent to it
	}
	<-deaf.Closed()
	require.NoError(t, c.rooms.Close())
	require.NoError(t, c.server.Shutdown(t.Context()))
	require.Equal(t, wsd.StatusAbnormalClosure, deaf.CloseEvent().Code)
}

// With twenty members that do not read, a line reaches the others at once: in the bubble, no time passes until it is there.
func TestALineReachesTheOthersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChat(patience)
		server := wsdtest.Serve(c.routes())
		defer func() { require.NoError(t, c.rooms.Close()) }()
		defer server.Close()
		var conns []*wsd.Conn
		defer func() {
			for _, conn := range conns {
				conn.CloseNow()
			}
		}()
		comeIn := func(name string, config wsd.Config) member {
			conn, _, err := server.Dial(t.Context(), "/rooms/tea?name="+name, &wsd.DialOptions{Config: config})
			require.NoError(t, err)
			conns = append(conns, conn)
			synctest.Wait()
			return member{conn, t}
		}
		for i := range 20 {
			comeIn(fmt.Sprint("deaf", i), wsd.Config{MessageBuffer: -1})
		}
		ann := comeIn("ann", wsd.Config{})
		ann.hears("", "ann comes in")
		bob := comeIn("bob", wsd.Config{})
		bob.hears("", "bob comes in")
		ann.hears("", "bob comes in")

		text := strings.Repeat("\U0001F375", maxText)
		begun := time.Now()
		for range 200 { // lines of 4 KB are more than the queues of the deaf hold
			require.NoError(t, ann.Send(t.Context(), wsd.Text(text)))
			bob.hears("ann", text)
			ann.hears("ann", text)
			require.Equal(t, begun, time.Now())
		}
		time.Sleep(2 * patience) // then the deaf have to go, and a line says so of each
		for range 20 {
			msg, err := bob.Receive(t.Context())
			require.NoError(t, err)
			require.Regexp(t, "deaf[0-9]+ leaves", msg)
		}
		require.Equal(t, begun.Add(2*patience), time.Now())
	})
}

func TestShutdown(t *testing.T) {
	url, interrupt := start(t)
	var members []member
	for _, name := range []string{"ann", "bob"} {
		members = append(members, enter(t, url, "tea", name))
	}
	for _, m := range members {
		go func() {
			for range m.Messages() {
			}
		}()
	}
	require.NoError(t, interrupt())
	for _, m := range members {
		<-m.Closed()
		require.Equal(t, wsd.StatusGoingAway, m.CloseEvent().Code)
		require.True(t, m.CloseEvent().Clean)
	}
}

func TestPage(t *testing.T) {
	url, _ := start(t)
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), fmt.Sprintf(`id="text" maxlength="%d"`, maxText))
	for _, id := range []string{"name", "room"} {
		require.Contains(t, string(body), fmt.Sprintf(`id=%q maxlength="%d"`, id, maxName))
	}
	require.NotRegexp(t, `(src|href)="(https?:)?//`, string(body), "the page must not need anything from elsewhere")
}
