// Chat is a server with rooms: what is said in a room goes to everyone in it. It is the example for handlers that need
// the request, to know who is asking, and for rooms as topics of package hub, which waits for nobody who is slow.
//
//	go run ./examples/chat [-addr 127.0.0.1:8080]
//
// Once the server listens, the first line on standard output is the URL of a page to chat from. The socket of a room is
// at /rooms/ROOM?name=NAME: it takes texts of up to 1,000 characters, and sends lines in JSON.
package main

import (
	"context"
	_ "embed"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
)

//go:embed page.html
var page []byte

const (
	headerTimeout = 5 * time.Second
	// shutdownTimeout is longer than headerTimeout and wsd's CloseTimeout, so that all but peers that read slowly can end
	// on their own.
	shutdownTimeout = 10 * time.Second
	// patience is how old the oldest line may be that waits for a member: then it has to go.
	patience = 5 * time.Second

	// The longest that names, of people and of rooms, and what is said may be, in characters. The page has the same limits,
	// in UTF-16 code units, of which a text never has fewer than characters.
	maxName = 40
	maxText = 1000
)

// options fit messages that people type. Without context takeover a line is compressed once for a whole room.
var options = wsd.AcceptOptions{Config: wsd.Config{
	MaxMessageSize: maxText * utf8.UTFMax,
	Compression:    &wsd.Compression{ServerNoContextTakeover: true, ClientNoContextTakeover: true},
}}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	flag.Usage = usage
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "chat: expected no arguments, got %q; -help says more\n", flag.Args())
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for the shutdown
	if err := run(ctx, os.Stdout, *addr); err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprint(flag.CommandLine.Output(), `usage: chat [flags]

Chat is a server with rooms: what is said in a room goes to everyone in it. It prints the URL of a page to chat from; open
that twice to talk to yourself. Ctrl-C ends it.

`)
	flag.PrintDefaults()
}

// run serves until ctx is done, and then shuts down.
func run(ctx context.Context, stdout io.Writer, addr string) error {
	c := newChat(patience)
	server := &http.Server{Handler: c.routes(), ReadHeaderTimeout: headerTimeout}

	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "http://%s/\n", listener.Addr()); err != nil {
		_ = listener.Close()
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}

	limit, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	// http.Server calls this when its own shutdown begins, and does not wait for it: that is what the call below is for.
	server.RegisterOnShutdown(func() { _ = c.server.Shutdown(limit) })
	return errors.Join(server.Shutdown(limit), c.server.Shutdown(limit), c.rooms.Close())
}

// chat holds the rooms and who is in them.
type chat struct {
	server wsd.Server // knows all connections, so that they end with the program
	rooms  *hub.Hub
}

func newChat(patience time.Duration) *chat {
	// Up to 1 MiB waits for a member whose network stalls, which is some seconds of a busy room.
	c := &chat{rooms: hub.New(&hub.Options{Slow: hub.Close, Patience: patience})}
	c.server.AcceptOptions = options
	return c
}

// topicOf is the topic of a room, whose name may have dots and blanks.
func topicOf(room string) string { return "room." + base64.RawURLEncoding.EncodeToString([]byte(room)) }

// routes are the rooms and the page.
func (c *chat) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /rooms/{room}", c.enter)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	})
	return mux
}

// line is what members are sent.
type line struct {
	From string `json:"from,omitempty"` // empty for lines from the room itself
	Text string `json:"text"`
}

// enter turns a request into a member of a room.
func (c *chat) enter(w http.ResponseWriter, r *http.Request) {
	// A cookie or a token would be checked here too: a refusal is an answer like any other.
	room, name := r.PathValue("room"), strings.TrimSpace(r.FormValue("name"))
	if name == "" {
		http.Error(w, "say your name: /rooms/ROOM?name=NAME", http.StatusBadRequest)
		return
	}
	if utf8.RuneCountInString(name) > maxName || utf8.RuneCountInString(room) > maxName {
		http.Error(w, fmt.Sprintf("expected names of at most %d characters", maxName), http.StatusBadRequest)
		return
	}
	if err := c.server.Serve(w, r, nil, func(conn *wsd.Conn) { c.talk(conn, room, name) }); err != nil {
		slog.Info("refused", "name", name, "error", err)
	}
}

// talk is a member's time in a room.
func (c *chat) talk(conn *wsd.Conn, room, name string) {
	topic := topicOf(room)
	member, err := c.rooms.Join(conn, name)
	if err == nil {
		err = member.Subscribe(topic)
	}
	if err != nil {
		slog.Info("not let in", "name", name, "error", err)
		_ = conn.Close(wsd.StatusTryAgainLater, "the room is closed")
		return
	}
	c.tell(topic, line{Text: name + " comes in"})
	for msg := range conn.Messages() {
		if msg.Type != wsd.TextMessage {
			_ = conn.Close(wsd.StatusUnsupportedData, "expected text")
			break
		}
		if n := utf8.RuneCount(msg.Data); n > maxText {
			_ = conn.Close(wsd.StatusMessageTooBig, fmt.Sprintf("expected at most %d characters, got %d", maxText, n))
			break
		}
		c.tell(topic, line{From: name, Text: string(msg.Data)})
	}
	member.Leave() // it would by itself, but the others are to be told behind that
	c.tell(topic, line{Text: name + " leaves"})

	<-conn.Closed() // from here on CloseEvent is complete
	slog.Info("left", "name", name, "room", room, "event", conn.CloseEvent())
}

// tell sends a line to everyone in a room. It waits for nobody.
func (c *chat) tell(topic string, l line) {
	msg, err := wsd.JSON(l)
	if err == nil {
		err = c.rooms.Publish(context.Background(), topic, msg)
	}
	if err != nil && !errors.Is(err, hub.ErrClosed) {
		slog.Error("not sent", "topic", topic, "error", err)
	}
}
