//go:build linux

package main

// This file is wsd, as its documentation uses it.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/seed62836080/wsd"
	hubs "github.com/seed62836080/wsd/hub"
)

var wsdLibrary = library{
	name:   wsdName,
	module: "github.com/seed62836080/wsd",
	serve:  serveWSD,
	dial: func(ctx context.Context, url string) (echoClient, error) {
		conn, _, err := wsd.Dial(ctx, url, nil)
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		return wsdClient{conn}, nil
	},
	cannot: canAll,
}

func serveWSD(listener net.Listener, r role) error {
	var options wsd.AcceptOptions
	if r.Deflate {
		options.Compression = &wsd.Compression{
			ServerNoContextTakeover: !r.Takeover,
			ClientNoContextTakeover: !r.Takeover,
			ClientMaxWindowBits:     r.Window,
		}
	}
	options.ReceiveRate.Messages = r.Pace
	if r.Stream {
		options.StreamAbove = 64 << 10 // and Send passes on what comes
	}
	serve := func(handler func(*wsd.Conn)) *wsd.Server {
		return &wsd.Server{Handler: handler, AcceptOptions: options}
	}
	ctx := context.Background()
	mux := http.NewServeMux()
	mux.Handle("/", serve(func(conn *wsd.Conn) {
		for message := range conn.Messages() {
			if conn.Send(ctx, message) != nil {
				return
			}
			message.Release()
		}
	}))
	if r.Work == serveHub {
		serveTopics(mux, serve, r, nil)
		return http.Serve(listener, mux)
	}
	for _, way := range loopPaths {
		mux.Handle(way.path, serve(way.echo))
	}
	mux.Handle(inboxPath, serveInbox(options))
	all := wsdHub{topics: newTopics(r), channels: make(map[string]map[*wsdSubscriber]struct{})}
	subscribers := serve(nil)
	mux.HandleFunc("/sub", func(w http.ResponseWriter, req *http.Request) {
		query := req.URL.RawQuery
		_ = subscribers.Serve(w, req, nil, func(conn *wsd.Conn) {
			s, err := all.join(conn, query)
			if err != nil {
				return
			}
			defer all.leave(s)
			for range conn.Messages() {
			}
		})
	})
	mux.Handle("/pub", serve(func(conn *wsd.Conn) {
		n := 0
		for message := range conn.Messages() {
			if all.broadcast(n, message) != nil {
				return
			}
			n++
		}
	}))
	return http.Serve(listener, mux)
}

// serveTopics is the broadcast by package hub, with a broker, or two of which one has the subscribers.
func serveTopics(mux *http.ServeMux, serve func(func(*wsd.Conn)) *wsd.Server, r role, brokers []hubs.Broker) {
	// References to as many messages as wait for a subscriber of the other libraries, however large they are.
	options := hubs.Options{Slow: hubs.Close, Backlog: hubQueue << 20}
	if r.Latest {
		options = hubs.Options{Slow: hubs.Latest}
	}
	if len(brokers) > 0 {
		options.Broker = brokers[0]
	}
	all, near := newTopics(r), hubs.New(&options)
	far := near
	if len(brokers) > 1 {
		options.Broker = brokers[1]
		far = hubs.New(&options)
	}
	subscribers := serve(nil)
	mux.HandleFunc("/sub", func(w http.ResponseWriter, req *http.Request) {
		query := req.URL.RawQuery
		_ = subscribers.Serve(w, req, nil, func(conn *wsd.Conn) {
			mine := []string{all.pattern()}
			member, err := far.Join(conn, "")
			if err == nil && all.groups > 1 {
				mine, err = all.mine(query)
			}
			if err != nil || member.Subscribe(mine...) != nil {
				return
			}
			for range conn.Messages() {
			}
		})
	})
	mux.HandleFunc("/ready", func(http.ResponseWriter, *http.Request) {
		for before := -1; before < far.Stats().Subscriptions; time.Sleep(joinTime) {
			before = far.Stats().Subscriptions
		}
	})
	mux.Handle("/pub", serve(func(conn *wsd.Conn) {
		n := 0
		for message := range conn.Messages() {
			if near.Publish(context.Background(), all.of(n), message) != nil {
				return
			}
			n++
		}
	}))
}

// loopLibrary is wsd without package hub.
var loopLibrary = library{
	name:   loopName,
	module: wsdLibrary.module,
	only:   serveHub,
	serve: func(listener net.Listener, r role) error {
		r.Work = serveBroadcast
		return serveWSD(listener, r)
	},
	cannot: canAll,
}

// wsdHub knows the subscribers. Connections have queues of their own: only those whose queue is full need a goroutine to
// write to them.
type wsdHub struct {
	topics
	mu       sync.Mutex
	channels map[string]map[*wsdSubscriber]struct{}
}

// wsdSubscriber is one of them.
type wsdSubscriber struct {
	conn *wsd.Conn
	late *wsdLate // nil while its queue has room
	mine []string // its channels; nil once it is gone
}

// wsdLate is what a subscriber has whose queue was full: what is to be sent to it from then on.
type wsdLate struct{ queue chan *wsd.Prepared }

// patience is how long a subscriber that is late has for a message before it is sent away.
const patience = 5 * time.Second

func (h *wsdHub) join(conn *wsd.Conn, query string) (*wsdSubscriber, error) {
	mine, err := h.mine(query)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &wsdSubscriber{conn: conn, mine: mine}
	for _, channel := range mine {
		if h.channels[channel] == nil {
			h.channels[channel] = make(map[*wsdSubscriber]struct{})
		}
		h.channels[channel][s] = struct{}{}
	}
	return s, nil
}

func (h *wsdHub) leave(s *wsdSubscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(s)
}

// remove is called with the lock held.
func (h *wsdHub) remove(s *wsdSubscriber) {
	if s.mine == nil {
		return
	}
	if s.late != nil {
		close(s.late.queue)
	}
	for _, channel := range s.mine {
		delete(h.channels[channel], s)
	}
	s.mine = nil
}

// broadcast queues the n-th message for every subscriber of its topic. Whose queue stays full is sent away.
func (h *wsdHub) broadcast(n int, m wsd.Message) error {
	message, err := wsd.Prepare(m)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.channels[h.channel(n)] {
		if s.late != nil {
			select {
			case s.late.queue <- message:
			default:
				h.remove(s)
				go s.conn.CloseNow()
			}
			continue
		}
		switch err := s.conn.TrySendPrepared(message); {
		case errors.Is(err, wsd.ErrQueueFull):
			s.late = &wsdLate{make(chan *wsd.Prepared, hubQueue)}
			s.late.queue <- message
			go s.late.pump(s.conn)
		case err != nil:
			h.remove(s)
		}
	}
	return nil
}

// pump sends what is queued to one that is late, until that takes too long or the hub closes the queue.
func (l *wsdLate) pump(conn *wsd.Conn) {
	for message := range l.queue {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := conn.SendPrepared(ctx, message)
		cancel()
		if err != nil {
			conn.CloseNow()
			return
		}
	}
}

type wsdClient struct{ conn *wsd.Conn }

func (c wsdClient) close() { c.conn.CloseNow() }

func (c wsdClient) echo(work *echoWork) error {
	ctx := context.Background()
	for range work.inflight {
		if err := c.conn.Send(ctx, wsd.Binary(work.send())); err != nil {
			return err
		}
	}
	for message := range c.conn.Messages() {
		more, err := work.received(message.Data)
		message.Release()
		switch {
		case err != nil:
			return err
		case more:
			if err := c.conn.Send(ctx, wsd.Binary(work.send())); err != nil {
				return err
			}
		case work.done():
			return nil
		}
	}
	return c.conn.CloseEvent().Err
}
