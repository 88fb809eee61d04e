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
		serveTopics(mux, serve)
		return http.Serve(listener, mux)
	}
	for _, way := range loopPaths {
		mux.Handle(way.path, serve(way.echo))
	}
	mux.Handle(inboxPath, serveInbox(options))
	var all wsdHub
	mux.Handle("/sub", serve(func(conn *wsd.Conn) {
		all.join(conn)
		defer all.leave(conn)
		for range conn.Messages() {
		}
	}))
	mux.Handle("/pub", serve(func(conn *wsd.Conn) {
		for message := range conn.Messages() {
			if all.broadcast(message) != nil {
				return
			}
		}
	}))
	return http.Serve(listener, mux)
}

// topic is what all subscribe to.
const topic = "all"

// serveTopics is the broadcast by package hub.
func serveTopics(mux *http.ServeMux, serve func(func(*wsd.Conn)) *wsd.Server) {
	// References to as many messages as wait for a subscriber of the other libraries, however large they are.
	h := hubs.New(&hubs.Options{Slow: hubs.Close, Backlog: hubQueue << 20})
	mux.Handle("/sub", serve(func(conn *wsd.Conn) {
		member, err := h.Join(conn, "")
		if err != nil || member.Subscribe(topic) != nil {
			return
		}
		for range conn.Messages() {
		}
	}))
	mux.Handle("/pub", serve(func(conn *wsd.Conn) {
		for message := range conn.Messages() {
			if h.Publish(context.Background(), topic, message) != nil {
				return
			}
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
	mu          sync.Mutex
	subscribers map[*wsd.Conn]*wsdLate
}

// wsdLate is what a subscriber has whose queue was full: what is to be sent to it from then on.
type wsdLate struct{ queue chan *wsd.Prepared }

// patience is how long a subscriber that is late has for a message before it is sent away.
const patience = 5 * time.Second

func (h *wsdHub) join(conn *wsd.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subscribers == nil {
		h.subscribers = make(map[*wsd.Conn]*wsdLate)
	}
	h.subscribers[conn] = nil
}

func (h *wsdHub) leave(conn *wsd.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(conn)
}

// remove is called with the lock held.
func (h *wsdHub) remove(conn *wsd.Conn) {
	if late := h.subscribers[conn]; late != nil {
		close(late.queue)
	}
	delete(h.subscribers, conn)
}

// broadcast queues a message for every subscriber. Whose queue stays full is sent away.
func (h *wsdHub) broadcast(m wsd.Message) error {
	message, err := wsd.Prepare(m)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for conn, late := range h.subscribers {
		if late != nil {
			select {
			case late.queue <- message:
			default:
				h.remove(conn)
				go conn.CloseNow()
			}
			continue
		}
		switch err := conn.TrySendPrepared(message); {
		case errors.Is(err, wsd.ErrQueueFull):
			late := &wsdLate{make(chan *wsd.Prepared, hubQueue)}
			late.queue <- message
			h.subscribers[conn] = late
			go late.pump(conn)
		case err != nil:
			h.remove(conn)
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
