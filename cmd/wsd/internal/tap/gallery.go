// gallery.go is the page: the last frames, kept in memory, for a browser on this machine.

package tap

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/tty"
)

const (
	mostEvents = 100_000  // that are kept
	mostBytes  = 32 << 20 // of their payloads and handshakes
	mostInOne  = 2_000    // events in one message to the page
	pageBeat   = 50 * time.Millisecond
)

//go:embed page.html
var page []byte

// gallery keeps the last events. It is safe for concurrent use.
type gallery struct {
	token string

	mu     sync.Mutex // guards all below
	events []*Event   // the last ones, of which the first has the number first
	first  int
	bytes  int
	more   chan struct{} // closed and replaced when there are more
}

func newGallery() *gallery {
	token := make([]byte, 16)
	_, _ = rand.Read(token) // never fails
	return &gallery{token: hex.EncodeToString(token), more: make(chan struct{})}
}

// add keeps an event, whose payload is copied.
func (g *gallery) add(e *Event) {
	kept := *e
	kept.data = append([]byte(nil), e.data...)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = append(g.events, &kept)
	g.bytes += kept.weight()
	for len(g.events) > mostEvents || g.bytes > mostBytes {
		g.bytes -= g.events[0].weight()
		g.events[0] = nil
		g.events = g.events[1:]
		g.first++
	}
	close(g.more)
	g.more = make(chan struct{})
}

// weight is how many bytes an event keeps.
func (e *Event) weight() int { return len(e.data) + len(e.Request) + len(e.Response) + len(e.Problem) }

// from returns events from a number on, the number of the first of them, and what is closed when there are more.
func (g *gallery) from(number int) (events []*Event, first int, more <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	first = max(number, g.first)
	events = g.events[min(first-g.first, len(g.events)):]
	events = events[:min(len(events), mostInOne)]
	return events, first, g.more
}

// serve serves the page on 127.0.0.1 alone, and returns its address and what ends that.
func (g *gallery) serve(port int) (stop func(), address string, err error) {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, "", err
	}
	ws := &wsd.Server{Handler: g.show}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{token}/{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'")
		w.Header().Set("Referrer-Policy", "no-referrer") // the token is in the address
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(page)
	})
	mux.Handle("GET /{token}/events", ws)
	web := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		// A page elsewhere can have a name of its own lead here, but not say that it is this address.
		if subtle.ConstantTimeCompare([]byte(token), []byte(g.token)) == 0 || r.Host != listener.Addr().String() {
			http.NotFound(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})}
	go func() { _ = web.Serve(listener) }()
	return func() {
		limit, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = web.Shutdown(limit)
		_ = ws.Shutdown(limit)
	}, fmt.Sprintf("http://%s/%s/", listener.Addr(), g.token), nil
}

// summary is an event as the page lists it.
type summary struct {
	N       int    `json:"n"`
	Conn    int    `json:"c"`
	Event   string `json:"e"`
	From    string `json:"f,omitempty"`
	Time    string `json:"t"`
	Op      string `json:"o,omitempty"`
	Length  string `json:"l,omitempty"`
	Flags   string `json:"g,omitempty"`
	Text    string `json:"p,omitempty"`
	Problem string `json:"x,omitempty"`
}

func summarize(n int, e *Event) summary {
	s := summary{N: n, Conn: e.Conn, Event: e.Event, From: e.From, Time: e.Time.Format("15:04:05.000000"), Problem: tty.Safe(e.Problem)}
	switch e.Event {
	case "open":
		first, _, _ := strings.Cut(e.Request, "\r\n")
		status, _, _ := strings.Cut(e.Response, "\r\n")
		s.Text = tty.Safe(e.Remote + "  " + first + "  " + status)
	case "frame":
		s.Op, s.Length, s.Flags, s.Text = shortName(e.opcode()), fmt.Sprint(e.Length), e.flags(), string(e.appendPreview(nil, 160))
		if e.Inflated > 0 {
			s.Length += " / " + fmt.Sprint(e.Inflated)
		}
	}
	return s
}

// detail is one event in full.
type detail struct {
	Detail int    `json:"detail"`
	Kind   string `json:"kind"` // text or hex
	Text   string `json:"text"`
	Cut    bool   `json:"cut"`
}

// detail returns an event in full, as far as it is kept.
func (g *gallery) detail(n int) detail {
	events, first, _ := g.from(n)
	if first != n || len(events) == 0 {
		return detail{Detail: n, Kind: "text", Text: "This frame is no longer kept."}
	}
	e := events[0]
	switch {
	case e.Event == "open":
		return detail{Detail: n, Kind: "text", Text: tty.Safe(strings.ReplaceAll(e.Request+e.Response, "\r\n", "\n"))}
	case e.opcode() == wsd.OpClose:
		return detail{Detail: n, Kind: "text", Text: string(e.appendPreview(nil, 200))}
	case utf8.Valid(e.data) && !strings.Contains(string(e.data), "\x00"):
		return detail{Detail: n, Kind: "text", Text: tty.Safe(string(e.data)), Cut: e.Cut}
	}
	return detail{Detail: n, Kind: "hex", Text: tty.Hex(e.data, 16<<10), Cut: e.Cut}
}

// show sends a page what there is and what comes, no faster than it takes it, and answers its questions.
func (g *gallery) show(conn *wsd.Conn) {
	ctx := conn.Context()
	next := 0
	beat := time.NewTicker(pageBeat) // gathers what comes
	defer beat.Stop()
	for {
		events, first, more := g.from(next)
		if len(events) > 0 {
			batch := make([]summary, len(events))
			for i, e := range events {
				batch[i] = summarize(first+i, e)
			}
			next = first + len(events)
			if conn.SendJSON(ctx, batch) != nil {
				return
			}
			more = nil // there may be more already
		}
		select {
		case m, ok := <-conn.Messages():
			if !ok || !g.reply(conn, m) {
				return
			}
		case <-more:
			<-beat.C
		case <-beat.C:
		}
	}
}

// reply answers a question of the page.
func (g *gallery) reply(conn *wsd.Conn, m wsd.Message) bool {
	var question struct {
		Detail *int `json:"detail"`
	}
	if json.Unmarshal(m.Data, &question) != nil || question.Detail == nil {
		return true
	}
	return conn.SendJSON(conn.Context(), g.detail(*question.Detail)) == nil
}
