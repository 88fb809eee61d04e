// node.go is one node of the cluster.

package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/hub/natsbroker"
)

//go:embed page.html
var page []byte

const (
	room            = "room.lobby"
	headerTimeout   = 5 * time.Second
	shutdownTimeout = 10 * time.Second

	// dead is for how long a node must be silent until those who were there are no longer shown.
	dead = 5 * time.Second
	// election is for how long what is said, or was said before, waits for the nodes to elect another leader when that of
	// history is killed. They take up to ten seconds.
	election = 20 * time.Second

	// The longest that names and what is said may be, in characters. The page has the same limits.
	maxName = 40
	maxText = 1000
)

// notSaid is how word begins of a line that was not kept.
const notSaid = "not said, as too few nodes are there: "

// newSecret is what the nodes of this cluster show each other.
var newSecret = rand.Text()

// node is a node.
type node struct {
	settings
	hub    *hub.Hub
	server wsd.Server
}

// line is what is published.
type line struct {
	From string `json:"from"`
	Text string `json:"text"`
}

// news is what a page is sent. Only what has happened is set.
type news struct {
	At    *hub.Position   `json:"at,omitempty"`   // with Line: from where to go on after a while
	Line  json.RawMessage `json:"line,omitempty"` // what was said
	Moved bool            `json:"moved,omitempty"`
	Here  []hub.Presence  `json:"here,omitempty"` // who is there
	Gap   bool            `json:"gap,omitempty"`  // some lines are gone
	Error string          `json:"error,omitempty"`
}

// beNode runs a node until its standard input ends.
func beNode(told string) error {
	n := &node{}
	if err := json.Unmarshal([]byte(told), &n.settings); err != nil {
		return err
	}
	opts := &natsbroker.Options{Prefix: "chat", Dead: dead, Timeout: election, Dir: n.Dir}
	if len(n.Routes) > 1 {
		opts.Listen, opts.Routes, opts.Secret = n.Routes[n.Number-1], n.Routes, n.Secret
	}
	opts.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError + 1})) // nodes come and go here
	broker, err := natsbroker.Embedded(opts)
	if err != nil {
		return err
	}
	n.hub = hub.New(&hub.Options{
		Broker: broker, Slow: hub.Close, Frame: frame,
		History:  []hub.History{{Topics: "room.*", Messages: 500}},
		Presence: []string{"room.*"},
	})
	err = n.serve()
	return errors.Join(err, n.hub.Close(), broker.Close())
}

// frame makes news of what is published: of a line with its position, or that somebody has come or gone.
func frame(topic string, at hub.Position, msg wsd.Message) wsd.Message {
	told := news{At: &at, Line: json.RawMessage(msg.Data)}
	if strings.HasPrefix(topic, "presence.") {
		told = news{Moved: true}
	}
	framed, err := wsd.JSON(told)
	if err != nil {
		slog.Error("not sent", "topic", topic, "error", err)
	}
	return framed
}

func (n *node) serve() error {
	n.server.Origins = n.Pages // pages of other nodes come here when theirs is gone
	n.server.MaxMessageSize = maxText * utf8.UTFMax
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws", n.enter)
	mux.HandleFunc("GET /nodes", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"number": n.Number, "nodes": n.Pages})
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}
	listener, err := net.Listen("tcp", n.Pages[n.Number-1])
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	fmt.Println("ready")
	over := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	select {
	case err := <-failed:
		return err
	case <-over:
	}
	limit, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	server.RegisterOnShutdown(func() { _ = n.server.Shutdown(limit) })
	return errors.Join(server.Shutdown(limit), n.server.Shutdown(limit))
}

// enter turns a request into a member of the room, who goes on from where the page says that it was.
func (n *node) enter(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimSpace(r.FormValue("name"))
	if name == "" || utf8.RuneCountInString(name) > maxName {
		http.Error(w, fmt.Sprintf("expected ?name=NAME of up to %d characters", maxName), http.StatusBadRequest)
		return
	}
	seq, _ := strconv.ParseUint(r.FormValue("seq"), 10, 64)
	from := hub.Position{Epoch: r.FormValue("epoch"), Seq: seq}
	if err := n.server.Serve(w, r, nil, func(conn *wsd.Conn) { n.talk(conn, name, from) }); err != nil {
		slog.Info("refused", "name", name, "error", err)
	}
}

// talk is a member's time here.
func (n *node) talk(conn *wsd.Conn, name string, from hub.Position) {
	if err := n.join(conn, name, from); err != nil {
		slog.Error("not joined", "name", name, "error", err)
		_ = conn.Close(wsd.StatusTryAgainLater, "the cluster is not there")
		return
	}
	for msg := range conn.Messages() {
		var said struct {
			Text string `json:"text"`
			Who  bool   `json:"who"`  // it wants to know who is there
			Kill bool   `json:"kill"` // it wants this node to die
		}
		if err := json.Unmarshal(msg.Data, &said); err != nil || utf8.RuneCountInString(said.Text) > maxText {
			_ = conn.Close(wsd.StatusPolicyViolation, "expected {text}, {who} or {kill}")
			return
		}
		switch {
		case said.Kill:
			die()
		case said.Who:
			n.tellWho(conn)
		default:
			n.say(conn, line{name, said.Text})
		}
	}
}

func (n *node) join(conn *wsd.Conn, name string, from hub.Position) error {
	member, err := n.hub.Join(conn, name)
	if err != nil {
		return err
	}
	err = member.SubscribeFrom(room, from)
	var gap *hub.Gap
	if errors.As(err, &gap) {
		if err := send(conn, news{Gap: true}); err != nil {
			return err
		}
		err = member.SubscribeFrom(room, gap.First)
	}
	if err != nil {
		return err
	}
	if err := member.Subscribe("presence." + room); err != nil {
		return err
	}
	n.tellWho(conn)
	return nil
}

func (n *node) tellWho(conn *wsd.Conn) {
	if here, err := n.hub.Presence(conn.Context(), room); err == nil {
		_ = send(conn, news{Here: here})
	}
}

// say publishes a line. It fails while too few nodes are there to keep it.
func (n *node) say(conn *wsd.Conn, l line) {
	msg, err := wsd.JSON(l)
	if err == nil {
		err = n.hub.Publish(conn.Context(), room, msg)
	}
	if errors.Is(err, hub.ErrBroker) {
		_ = send(conn, news{Error: notSaid + l.Text})
	} else if err != nil {
		slog.Error("not said", "error", err)
	}
}

func send(conn *wsd.Conn, n news) error {
	msg, err := wsd.JSON(n)
	if err != nil {
		return err
	}
	return conn.Send(conn.Context(), msg)
}

// die is kill -9 of this node.
func die() {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill()
	}
	select {}
}
