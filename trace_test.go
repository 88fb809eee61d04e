// trace_test.go checks what a Trace is told, when, on which goroutine it may do what, and what becomes of one that fails.

package wsd_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// events is what a Trace was told, in order.
type events struct {
	mu  sync.Mutex
	all []string
}

func (e *events) add(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, fmt.Sprintf(format, args...))
}

// take returns what has come since the last take.
func (e *events) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.all
	e.all = nil
	return all
}

// trace returns a Trace that notes all it is told, and then calls also.
func (e *events) trace(also func(c *wsd.Conn, hook string)) *wsd.Trace {
	message := func(hook string) func(*wsd.Conn, wsd.MessageInfo) {
		return func(c *wsd.Conn, m wsd.MessageInfo) {
			e.add("%s %v %d/%d", hook, m.Type, m.Size, m.WireSize)
			also(c, hook)
		}
	}
	control := func(hook string) func(*wsd.Conn, []byte) {
		return func(c *wsd.Conn, payload []byte) {
			e.add("%s %q", hook, payload)
			also(c, hook)
		}
	}
	alone := func(hook string) func(*wsd.Conn) {
		return func(c *wsd.Conn) {
			e.add("%s", hook)
			also(c, hook)
		}
	}
	timed := func(hook string) func(*wsd.Conn, time.Duration) {
		return func(c *wsd.Conn, d time.Duration) {
			e.add("%s %v", hook, d)
			also(c, hook)
		}
	}
	return &wsd.Trace{
		Opened: func(c *wsd.Conn, info wsd.OpenedInfo) {
			e.add("Opened request %v response %v", info.Request != nil, info.Response != nil)
			also(c, "Opened")
		},
		MessageReceived: message("MessageReceived"),
		MessageDropped:  message("MessageDropped"),
		MessageSent:     message("MessageSent"),
		QueueFull:       alone("QueueFull"),
		PingReceived:    control("PingReceived"),
		PongReceived:    control("PongReceived"),
		RoundTrip:       timed("RoundTrip"),
		StallBegun:      alone("StallBegun"),
		StallEnded:      timed("StallEnded"),
		Ended: func(c *wsd.Conn, event wsd.CloseEvent) {
			e.add("Ended %d clean %v %v", event.Code, event.Clean, c.State())
			also(c, "Ended")
		},
	}
}

func nothingElse(*wsd.Conn, string) {}

// A message waits for a body ahead of it that is not read as it does for room in Messages.
func TestTraceIsToldOfAWaitForABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := new(events)
		c, p := servedConn(t, wsd.Config{Trace: told.trace(nothingElse), StreamAbove: 10})
		p.send(begin("0123456789abc"), last("def"), text("behind"))
		_, body := receiveStreamed(t, c)
		synctest.Wait()
		require.Contains(t, told.take(), "StallBegun")
		time.Sleep(3 * time.Second)
		got, err := io.ReadAll(body)
		require.NoError(t, err)
		require.Len(t, got, 16)
		require.Equal(t, "behind", (<-c.Messages()).String())
		require.Contains(t, told.take(), "StallEnded 3s")
		c.CloseNow()
	})
}

func TestTraceIsToldWhatHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := new(events)
		c, p := servedConn(t, wsd.Config{
			Trace: told.trace(nothingElse), MessageBuffer: 1, SendQueue: 100, PingInterval: time.Hour, SlowConsumer: wsd.DropSlow,
		})
		require.Equal(t, []string{"Opened request false response false"}, told.take())

		p.send(text("in"), ping("p"), pong("unasked"))
		require.Equal(t, "in", string((<-c.Messages()).Data))
		require.Equal(t, frame{0x8A, []byte("p")}, p.receive())
		synctest.Wait()
		require.Equal(t, []string{"MessageReceived text 2/2", `PingReceived "p"`, `PongReceived "unasked"`}, told.take())

		p.send(frame{0x02, []byte("1")}, frame{0x80, []byte("23")}, text("dropped"))
		synctest.Wait()
		require.Equal(t, []string{
			"MessageReceived binary 3/3", "MessageReceived text 7/7", "StallBegun", "MessageDropped text 7/7", "StallEnded 0s",
		}[:2], told.take()[:2])
		<-c.Messages()

		require.NoError(t, c.Send(t.Context(), wsd.Text("out")))
		require.Equal(t, []string{"MessageSent text 3/3"}, told.take())
		p.receive()
		synctest.Wait()
		require.NoError(t, c.TrySend(wsd.Binary(make([]byte, 1<<20))))
		require.ErrorIs(t, c.TrySend(wsd.Text("no room")), wsd.ErrQueueFull)
		require.Equal(t, []string{"MessageSent binary 1048576/1048576", "QueueFull"}, told.take())
		sent := make(chan error, 1)
		go func() { sent <- c.Send(t.Context(), wsd.Text("waits")) }()
		synctest.Wait()
		require.Equal(t, []string{"QueueFull"}, told.take(), "while it waits")
		p.receive()
		require.NoError(t, <-sent)
		require.Equal(t, []string{"MessageSent text 5/5"}, told.take())
		p.receive()

		w := c.Writer(t.Context(), wsd.TextMessage, nil)
		_, err := w.Write([]byte("written "))
		require.NoError(t, err)
		_, err = w.Write([]byte("in pieces"))
		require.NoError(t, err)
		require.Empty(t, told.take())
		require.NoError(t, w.Close())
		require.Equal(t, []string{"MessageSent text 17/17"}, told.take())
		for range 3 {
			p.receive()
		}

		go func() {
			asked := p.receive()
			time.Sleep(time.Second)
			p.send(frame{0x8A, asked.payload})
		}()
		_, err = c.Ping(t.Context(), []byte("ours"))
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, []string{`PongReceived "ours"`, "RoundTrip 1s"}, told.take())

		closed := make(chan struct{})
		go func() {
			p.send(closeFrame(4000))
			p.receive()
			p.close()
			close(closed)
		}()
		<-c.Closed()
		<-closed
		require.Equal(t, []string{"Ended 4000 clean true closing"}, told.take(), "before Closed is closed")
	})
}

// What waits for the consumer, and for how long.
func TestTraceIsToldOfStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := new(events)
		c, p := servedConn(t, wsd.Config{Trace: told.trace(nothingElse), MessageBuffer: -1, PingInterval: -1})
		defer p.close()
		defer c.CloseNow()
		told.take()
		p.send(text("waits"))
		time.Sleep(time.Second)
		require.Equal(t, []string{"MessageReceived text 5/5", "StallBegun"}, told.take())
		<-c.Messages()
		synctest.Wait()
		require.Equal(t, []string{"StallEnded 1s"}, told.take())
		p.send(text("waits in vain"))
		time.Sleep(time.Second)
		c.CloseNow()
		require.Equal(t, []string{
			"MessageReceived text 13/13", "StallBegun", "StallEnded 1s", "MessageDropped text 13/13", "Ended 1006 clean false closing",
		}, told.take())
	})
}

// The keepalive's pings are timed too, and a peer that answers none of them makes nothing grow.
func TestTraceTimesTheKeepalive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := new(events)
		c, p := servedConn(t, wsd.Config{Trace: told.trace(nothingElse), PingInterval: 10 * time.Second, PongTimeout: -1})
		defer p.close()
		defer c.CloseNow()
		told.take()
		for range 3 {
			p.receive() // and no answer
		}
		asked := p.receive()
		time.Sleep(250 * time.Millisecond)
		p.send(frame{0x8A, asked.payload})
		synctest.Wait()
		require.Equal(t, []string{fmt.Sprintf("PongReceived %q", asked.payload), "RoundTrip 250ms"}, told.take())
	})
}

func TestTraceIsToldHowTheConnectionBegan(t *testing.T) {
	var request *http.Request
	seen := make(chan any, 1)
	ws := &wsd.Server{Handler: func(c *wsd.Conn) { seen <- c.Value() }}
	ws.Trace = &wsd.Trace{Opened: func(c *wsd.Conn, info wsd.OpenedInfo) {
		request = info.Request
		c.SetValue(info.Request.URL.Query().Get("user"))
	}}
	server := httptest.NewServer(ws)
	defer server.Close()
	var response *http.Response
	c, resp, err := wsd.Dial(t.Context(), server.URL+"?user=ann", &wsd.DialOptions{Config: wsd.Config{Trace: &wsd.Trace{
		Opened: func(c *wsd.Conn, info wsd.OpenedInfo) {
			require.Nil(t, info.Request)
			require.Same(t, info.Response, c.Response())
			response = info.Response
		},
	}}})
	require.NoError(t, err)
	defer c.CloseNow()
	require.Equal(t, "ann", <-seen, "the handler of the Server sees what Opened has set")
	require.Equal(t, "/?user=ann", request.RequestURI)
	require.Same(t, resp, response)
	require.NoError(t, ws.Shutdown(t.Context()))
}

func TestValue(t *testing.T) {
	c, p := servedConn(t, wsd.Config{})
	defer p.close()
	defer c.CloseNow()
	require.Nil(t, c.Value())
	c.SetValue("one")
	require.Equal(t, "one", c.Value())
	c.SetValue(2) // of another type
	require.Equal(t, 2, c.Value())
	c.SetValue(nil)
	require.Nil(t, c.Value())
	c.CloseNow()
	c.SetValue("after the end")
	require.Equal(t, "after the end", c.Value())
}

// The sizes on the wire are those of what was compressed, whichever way it is sent and however it is cut.
func TestTraceIsToldCompressedSizes(t *testing.T) {
	data := bytes.Repeat([]byte("some text that compresses, "), 100)
	large := bytes.Repeat([]byte("some text that compresses, "), 10000)
	prepared, err := wsd.Prepare(wsd.TextBytes(data))
	require.NoError(t, err)
	for name, agreed := range map[string]*wsd.Compression{
		"takeover": {}, "no takeover": {ServerNoContextTakeover: true, ClientNoContextTakeover: true},
	} {
		for way, send := range map[string]func(*wsd.Conn) error{
			"Send":            func(c *wsd.Conn) error { return c.Send(t.Context(), wsd.TextBytes(data)) },
			"TrySend":         func(c *wsd.Conn) error { return c.TrySend(wsd.TextBytes(data)) },
			"SendPrepared":    func(c *wsd.Conn) error { return c.SendPrepared(t.Context(), prepared) },
			"TrySendPrepared": func(c *wsd.Conn) error { return c.TrySendPrepared(prepared) },
			"Send large":      func(c *wsd.Conn) error { return c.Send(t.Context(), wsd.TextBytes(large)) },
			"TrySend large":   func(c *wsd.Conn) error { return c.TrySend(wsd.TextBytes(large)) },
		} {
			t.Run(name+", "+way, func(t *testing.T) {
				told := new(events)
				trace := told.trace(nothingElse)
				trace.Opened = nil
				client, server := wsdtest.Pipe(wsd.Config{Compression: agreed, Trace: trace, MaxFrameSize: 20})
				defer client.CloseNow()
				defer server.CloseNow()
				require.NoError(t, client.Send(t.Context(), wsd.Text("short")), "not compressed")
				<-server.Messages()
				require.NoError(t, send(client))
				<-server.Messages()
				require.NoError(t, server.Send(t.Context(), wsd.Text("short again")))
				<-client.Messages()
				all := told.take()
				require.Len(t, all, 6)
				slices.Sort(all)
				var size, sent, received int
				_, err := fmt.Sscanf(all[1], "MessageReceived text %d/%d", &size, &received)
				require.NoError(t, err, all)
				_, err = fmt.Sscanf(all[4], "MessageSent text %d/%d", &size, &sent)
				require.NoError(t, err, all)
				require.Equal(t, sent, received, all)
				require.Less(t, 20*received, size)
				require.Equal(t, []string{"MessageReceived text 11/11", "MessageReceived text 5/5"}, []string{all[0], all[2]})
				require.Equal(t, []string{"MessageSent text 11/11", "MessageSent text 5/5"}, []string{all[3], all[5]})
			})
		}
	}
}

// A streamed message is told of when it has come whole, with all of its size.
func TestTraceIsToldOfStreamedMessages(t *testing.T) {
	data := bytes.Repeat([]byte("some text that compresses, "), 10000)
	for name, agreed := range map[string]*wsd.Compression{"plain": nil, "compressed": {}} {
		t.Run(name, func(t *testing.T) {
			told := new(events)
			trace := told.trace(nothingElse)
			trace.Opened = nil
			client, server := wsdtest.Pipe(wsd.Config{Compression: agreed, Trace: trace, StreamAbove: 1000})
			defer client.CloseNow()
			defer server.CloseNow()
			sent := make(chan error, 1)
			go func() { sent <- client.Send(context.Background(), wsd.TextBytes(data)) }()
			got := (<-server.Messages()).String()
			require.NoError(t, <-sent)
			require.Equal(t, string(data), got)
			require.NoError(t, server.Send(t.Context(), wsd.Text("and so on"))) // its reader has told of the message then
			require.Equal(t, "and so on", (<-client.Messages()).String())
			all := told.take()
			require.Len(t, all, 4)
			slices.Sort(all)
			require.True(t, strings.HasPrefix(all[0], fmt.Sprintf("MessageReceived text %d/", len(data))), all)
			require.Equal(t, strings.Replace(all[0], "Received", "Sent", 1), all[2])
			require.Equal(t, agreed == nil, strings.HasSuffix(all[0], fmt.Sprintf("/%d", len(data))), all)
		})
	}
}

// hookNames are all hooks.
var hookNames = []string{
	"Opened", "MessageReceived", "MessageDropped", "MessageSent", "QueueFull", "PingReceived", "PongReceived", "RoundTrip",
	"StallBegun", "StallEnded", "Ended",
}

// provoke makes a connection call all hooks, the first time in this order, and ends it. It returns the connection.
func provoke(t *testing.T, trace *wsd.Trace) *wsd.Conn {
	c, p := servedConn(t, wsd.Config{Trace: trace, MessageBuffer: -1, SendQueue: 100})
	peerEnded := make(chan struct{})
	defer func() {
		p.close()
		<-peerEnded
	}()
	go func() {
		defer close(peerEnded)
		for {
			f, err := p.tryReceive()
			if err != nil {
				return
			}
			if f.first == 0x89 {
				time.Sleep(time.Millisecond)
				_, _ = p.rwc.Write(p.encode(frame{0x8A, f.payload}))
			}
			if f.first == 0x88 {
				_, _ = p.rwc.Write(p.encode(f))
			}
			time.Sleep(time.Second) // a slow peer
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	alone := func(f func()) { // the hook may end the goroutine
		done := make(chan struct{})
		go func() {
			defer close(done)
			f()
		}()
		<-done
	}
	_, _ = p.rwc.Write(p.encode(text("waits")))
	time.Sleep(time.Second)
	select {
	case <-c.Messages():
	case <-ctx.Done():
	}
	alone(func() { _ = c.Send(ctx, wsd.Binary(make([]byte, 1<<20))) })
	for range 2 {
		alone(func() { _ = c.TrySend(wsd.Binary(make([]byte, 1<<20))) })
	}
	alone(func() { _, _ = c.Ping(ctx, nil) })
	_, _ = p.rwc.Write(p.encode(ping("p"), text("nobody takes this")))
	time.Sleep(time.Second)
	_ = c.StartClose(wsd.StatusNormalClosure, "")
	<-c.Closed()
	return c
}

func TestFailingHookEndsItsConnection(t *testing.T) {
	logged := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	defer slog.SetDefault(logged)
	for how, fail := range map[string]func(){"panic": func() { panic("the hook's own") }, "goexit": runtime.Goexit} {
		for _, failing := range hookNames {
			t.Run(failing+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					told := new(events)
					trace := told.trace(func(_ *wsd.Conn, hook string) {
						if hook == failing {
							fail()
						}
					})
					ended := make(chan *wsd.Conn, 1)
					go func() {
						var c *wsd.Conn
						if failing == "Opened" {
							opened := trace.Opened
							trace.Opened = func(conn *wsd.Conn, info wsd.OpenedInfo) {
								ended <- conn
								opened(conn, info)
							}
						}
						c = provoke(t, trace)
						if failing != "Opened" {
							ended <- c
						}
					}()
					c := <-ended
					<-c.Closed()
					time.Sleep(time.Hour) // all else ends
					require.True(t, slices.ContainsFunc(told.take(), func(s string) bool { return strings.HasPrefix(s, failing) }))
					event := c.CloseEvent()
					if failing == "Ended" {
						require.True(t, event.Local)
						require.Equal(t, wsd.StatusNormalClosure, event.SentCode, "it had ended")
						return
					}
					if failing == "MessageDropped" || failing == "StallEnded" && how == "goexit" {
						return // the end may have begun: a message is dropped since this side closes
					}
					require.Equal(t, wsd.StatusInternalError, event.Code)
					require.ErrorContains(t, event.Err, "the Trace's "+failing+" did not return")
				})
			})
		}
	}
}

// What the documentation calls safe does not block in any hook.
func TestHooksMayCallWhatDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := new(events)
		inside := false // QueueFull calls TrySend, which calls QueueFull
		provoke(t, told.trace(func(c *wsd.Conn, hook string) {
			if hook == "QueueFull" || hook == "MessageSent" {
				if inside {
					return
				}
				inside = true
				defer func() { inside = false }()
			}
			c.SetValue(hook)
			c.Value()
			c.Stats()
			c.State()
			c.CloseEvent()
			c.Context()
			c.Closed()
			c.Errors()
			c.Messages()
			c.NotifyRoom(func() {})
			c.SetMaxMessageSize(1000)
			c.ExpireAt(time.Now().Add(time.Hour))
			c.LocalAddr()
			c.RemoteAddr()
			if hook != "Opened" { // which should be seen with an empty queue
				_ = c.TrySend(wsd.Text("from a hook"))
			}
			if hook == "StallEnded" || hook == "Ended" {
				_ = c.StartClose(wsd.StatusNormalClosure, "")
			}
		}))
		seen := map[string]bool{}
		for _, event := range told.take() {
			name, _, _ := strings.Cut(event, " ")
			seen[name] = true
		}
		for _, name := range []string{"Opened", "MessageReceived", "MessageSent", "StallBegun", "StallEnded", "Ended"} {
			require.True(t, seen[name], name)
		}
	})
}

func TestTracesCompose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := new(events)
		first := told.trace(func(*wsd.Conn, string) { told.add("first") })
		second := told.trace(func(*wsd.Conn, string) { told.add("second") })
		onlyEnd := &wsd.Trace{Ended: func(*wsd.Conn, wsd.CloseEvent) { told.add("only the end") }}
		provoke(t, wsd.MultiTrace(first, nil, onlyEnd, second, new(wsd.Trace)))
		var before string
		seen := map[string]bool{}
		for _, event := range told.take() {
			switch event {
			case "first":
				before = event
			case "second":
				require.Equal(t, "first", before)
				before = ""
			case "only the end":
				require.True(t, seen["Ended"])
			default:
				name, _, _ := strings.Cut(event, " ")
				seen[name] = true
			}
		}
		for _, name := range hookNames {
			require.True(t, seen[name], name)
		}
	})
	require.Equal(t, wsd.Trace{}, *wsd.MultiTrace(nil, new(wsd.Trace)), "nothing is called for nothing")
	require.Equal(t, wsd.Trace{}, *wsd.MultiTrace())
}

func TestRefusedHandshakesAreTold(t *testing.T) {
	var told []*wsd.HandshakeError
	refuse := func(*http.Request) bool { return false }
	note := func(r *http.Request, refused *wsd.HandshakeError) {
		require.NotNil(t, r)
		told = append(told, refused)
	}
	take := func() *wsd.HandshakeError {
		require.Len(t, told, 1)
		refused := told[0]
		told = nil
		return refused
	}
	upgrade := func() *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Upgrade", "websocket")
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Sec-WebSocket-Version", "13")
		r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		return r
	}
	opts := &wsd.AcceptOptions{Refused: note}
	_, err := wsd.Accept(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil), opts)
	require.Same(t, err, take())
	_, err = wsd.Accept(httptest.NewRecorder(), upgrade(), opts) // which cannot be taken over
	require.Same(t, err, take())
	opts.CheckOrigin = refuse
	w := httptest.NewRecorder()
	_, err = wsd.Accept(w, upgrade(), opts)
	require.Same(t, err, take())
	require.Equal(t, http.StatusForbidden, w.Code)

	ws := &wsd.Server{Logger: slog.New(slog.DiscardHandler), Limits: wsd.Limits{AddressHandshakes: 1}}
	ws.Refused = note
	ws.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	require.Equal(t, http.StatusUpgradeRequired, take().StatusCode)
	ws.ServeHTTP(httptest.NewRecorder(), upgrade())
	require.Equal(t, http.StatusTooManyRequests, take().StatusCode)
	require.NoError(t, ws.Shutdown(t.Context()))
	ws.ServeHTTP(httptest.NewRecorder(), upgrade())
	refused := take()
	require.Equal(t, http.StatusServiceUnavailable, refused.StatusCode)
	require.ErrorIs(t, refused, wsd.ErrServerClosed)
}

// A message tells of its own bytes, whatever came ahead of it.
func TestTraceTellsTheWireSizeOfEachMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := new(events)
		compression := &wsd.Compression{ServerNoContextTakeover: true, ClientNoContextTakeover: true}
		c, p := servedConn(t, wsd.Config{Trace: told.trace(nothingElse), Compression: compression, PingInterval: -1})
		defer p.close()
		defer c.CloseNow()
		told.take()
		hello := []byte("\xf2\x48\xcd\xc9\xc9\x07\x00") // RFC 7692, section 7.2.3.1
		p.send(frame{0xC1, hello}, text("plain"), frame{0x01, []byte("in ")}, frame{0x80, []byte("two")}, frame{0xC1, hello}, text("again"))
		synctest.Wait()
		require.Equal(t, []string{
			"MessageReceived text 5/7", "MessageReceived text 5/5", "MessageReceived text 6/6", "MessageReceived text 5/7",
			"MessageReceived text 5/5",
		}, told.take())
	})
}
