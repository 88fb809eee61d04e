// jspage_test.go has a page whose client is Go put behind another, hidden, frozen, left, come back to, and cut off from the network.

package interop

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// watchServer is the server of a page that runs jsstay. It can go, and come back where it was.
type watchServer struct {
	t     *testing.T
	addr  string
	conns chan *wsd.Conn
	end   func()
}

func startWatchServer(t *testing.T) *watchServer {
	t.Helper()
	s := &watchServer{t: t, addr: fmt.Sprintf("127.0.0.1:%d", freePort(t)), conns: make(chan *wsd.Conn, 100)}
	s.start()
	return s
}

func (s *watchServer) url() string { return "ws://" + s.addr + "/" }

func (s *watchServer) start() {
	s.t.Helper()
	listener, err := net.Listen("tcp", s.addr)
	require.NoError(s.t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := wsd.Accept(w, r, &wsd.AcceptOptions{Origins: []string{"*"}})
		if err == nil {
			s.conns <- conn
		}
	})}
	go func() { _ = server.Serve(listener) }()
	s.end = func() { _ = server.Close() }
	s.t.Cleanup(s.end)
}

// next returns the next connection that the page has made, once it is found to work.
func (s *watchServer) next() *wsd.Conn {
	s.t.Helper()
	select {
	case conn := <-s.conns:
		s.t.Cleanup(conn.CloseNow)
		s.echo(conn, "hello")
		return conn
	case <-time.After(patience):
		require.Fail(s.t, "no connection comes")
		return nil
	}
}

func (s *watchServer) echo(conn *wsd.Conn, text string) {
	s.t.Helper()
	require.NoError(s.t, conn.Send(bounded(s.t), wsd.Text(text)))
	s.expect(conn, text)
}

func (s *watchServer) expect(conn *wsd.Conn, text string) {
	s.t.Helper()
	msg, err := conn.Receive(bounded(s.t))
	require.NoError(s.t, err)
	require.Equal(s.t, text, string(msg.Data))
}

// ended waits for the end of a connection.
func (s *watchServer) ended(conn *wsd.Conn) wsd.CloseEvent {
	s.t.Helper()
	select {
	case <-conn.Closed():
		return conn.CloseEvent()
	case <-time.After(patience):
		require.Fail(s.t, "the connection does not end")
		return wsd.CloseEvent{}
	}
}

// says waits until the page's program has printed a line with a text.
func (p tab) says(text string) {
	p.t.Helper()
	p.await(fmt.Sprintf("globalThis.printed?.includes(%q)", text))
}

// goBack goes to the page before, and does not wait until that is loaded, as a page that was kept is not.
func (p tab) goBack() {
	p.t.Helper()
	history, err := chromedp.Call(p.ctx, page.GetNavigationHistory, cdp.Empty{})
	require.NoError(p.t, err)
	before := page.NavigateToHistoryEntryParams{EntryID: history.Entries[history.CurrentIndex-1].ID}
	_, err = chromedp.Call(p.ctx, page.NavigateToHistoryEntry, before)
	require.NoError(p.t, err)
}

func (p tab) setLifecycle(state page.SetWebLifecycleStateState) {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: state})
	require.NoError(p.t, err)
}

// setWindow changes the state of the page's window, and waits until the page is as visible.
func (p tab) setWindow(state cdpbrowser.WindowState, visibility string) {
	p.t.Helper()
	window, err := chromedp.Call(p.ctx, cdpbrowser.GetWindowForTarget, cdpbrowser.GetWindowForTargetParams{})
	require.NoError(p.t, err)
	change := cdpbrowser.SetWindowBoundsParams{WindowID: window.WindowID, Bounds: &cdpbrowser.Bounds{WindowState: state}}
	_, err = chromedp.Call(p.ctx, cdpbrowser.SetWindowBounds, change)
	require.NoError(p.t, err)
	// Not by await, which looks once a frame: a page that is hidden has none.
	became := func() bool { return evaluate[string](p, "document.visibilityState") == visibility }
	require.Eventually(p.t, became, patience, 10*time.Millisecond)
}

// emulateNetworkConditions is what cdproto has no name for any more. It is the only way to take the network from a page.
var emulateNetworkConditions = cdp.Command[network.OverrideNetworkStateParams, cdp.Empty]{Method: "Network.emulateNetworkConditions"}

func (p tab) setOffline(offline bool) {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, network.Enable, network.EnableParams{})
	require.NoError(p.t, err)
	unlimited := network.OverrideNetworkStateParams{Offline: offline, DownloadThroughput: -1, UploadThroughput: -1}
	_, err = chromedp.Call(p.ctx, emulateNetworkConditions, unlimited)
	require.NoError(p.t, err)
}

// TestJSPage is what happens to a page, and to its connection with it.
func TestJSPage(t *testing.T) {
	files := startJSServer(t, buildJS(t, "jsstay", "build"))
	limit, cancel := context.WithTimeout(t.Context(), jsPatience)
	defer cancel()
	ctx := browserIn(limit, t,
		chromedp.Flag("disable-background-timer-throttling", false), chromedp.Flag("disable-renderer-backgrounding", false),
		chromedp.Flag("disable-backgrounding-occluded-windows", false))
	open := func(t *testing.T, more string) (*watchServer, tab, func()) {
		t.Helper()
		server := startWatchServer(t)
		files.args = []string{server.url()}
		ctx, closeTab := chromedp.NewContext(ctx)
		t.Cleanup(closeTab)
		p := tab{t, ctx}
		p.do(chromedp.Navigate(files.pageURL(t, "page", more)))
		return server, p, closeTab
	}
	// left is how the server sees a page end that is not kept.
	left := func(t *testing.T, server *watchServer, conn *wsd.Conn) {
		t.Helper()
		event := server.ended(conn)
		require.Equal(t, wsd.StatusGoingAway, event.Code)
		require.True(t, event.Clean && !event.Local, "%+v", event)
	}
	const brokenOff = "closed: wsd: the connection ended without a close frame: the browser tells no more than the close code 1006\nconnected\n"
	t.Run("reloaded", func(t *testing.T) {
		server, p, _ := open(t, "")
		conn := server.next()
		p.do(chromedp.Reload())
		left(t, server, conn)
		server.next()
		require.Equal(t, "connected\n", evaluate[string](p, "printed"), "it is another program")
	})
	t.Run("left and come back to", func(t *testing.T) {
		server, p, _ := open(t, "")
		conn := server.next()
		evaluate[any](p, "this.kept = true")
		p.do(chromedp.Navigate(files.URL + "/gotest.js"))
		// The browser keeps the page, and its connection, and answers for it.
		_, err := conn.Ping(bounded(t), nil)
		require.NoError(t, err)
		require.Equal(t, wsd.StateOpen, conn.State())
		p.goBack()
		left(t, server, conn)
		server.next()
		require.Contains(t, evaluate[string](p, "printed"), brokenOff)
		require.True(t, evaluate[bool](p, "this.kept"), "the page goes on where it was")
	})
	t.Run("closed", func(t *testing.T) {
		server, _, closeTab := open(t, "")
		conn := server.next()
		closeTab()
		left(t, server, conn)
	})
	t.Run("worker ended", func(t *testing.T) {
		server, p, _ := open(t, "&worker")
		conn := server.next()
		evaluate[any](p, "worker.terminate()")
		left(t, server, conn)
	})
	t.Run("frozen", func(t *testing.T) {
		server, p, _ := open(t, "")
		conn := server.next()
		p.setLifecycle(page.SetWebLifecycleStateStateFrozen)
		_, err := conn.Ping(bounded(t), nil)
		require.NoError(t, err)
		p.setLifecycle(page.SetWebLifecycleStateStateActive)
		left(t, server, conn)
		server.next()
		require.Contains(t, evaluate[string](p, "printed"), brokenOff)
	})
	t.Run("behind another", func(t *testing.T) {
		server, _, _ := open(t, "")
		conn := server.next()
		other, front, _ := open(t, "")
		other.next()
		_, err := chromedp.Call(front.ctx, page.BringToFront, cdp.Empty{})
		require.NoError(t, err)
		for i := range 100 {
			server.echo(conn, fmt.Sprint(i))
		}
	})
	t.Run("hidden", func(t *testing.T) { // where Chromium runs timers once a second
		server, p, _ := open(t, "")
		conn := server.next()
		p.setWindow(cdpbrowser.WindowStateMinimized, "hidden")
		for i := range 100 {
			server.echo(conn, fmt.Sprint(i))
		}
		for range 3 {
			server.echo(conn, strings.Repeat("more than the browser is to hold ", 100_000))
		}
		p.setWindow(cdpbrowser.WindowStateNormal, "visible")
		server.echo(conn, "seen again")
		require.Equal(t, "connected\n", evaluate[string](p, "printed"), "it is the same connection")
	})
	t.Run("network lost", func(t *testing.T) {
		server, p, _ := open(t, "")
		conn := server.next()
		p.setOffline(true)
		_ = conn.Close(wsd.StatusServiceRestart, "")
		p.says("connected\nclosed: wsd: closed with 1012 (service restart)\n" +
			"wsd: handshake failed: the browser got no connection: the browser is offline (attempt 1")
		p.setOffline(false)
		server.next()
		p.says(")\nconnected\n")
	})
	t.Run("server gone", func(t *testing.T) {
		server, p, _ := open(t, "")
		conn := server.next()
		server.end()
		conn.CloseNow()
		p.says("connected\nclosed: wsd: the connection ended without a close frame: the browser tells no more than the close code 1006\n" +
			"wsd: handshake failed: the browser got no connection: the browser tells no more than the close code 1006 (attempt 1")
		server.start()
		server.next()
		p.says(")\nconnected\n")
	})
}
