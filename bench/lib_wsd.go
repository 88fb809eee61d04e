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
	var all wsdHub
	mux.Handle("/sub", serve(func(conn *wsd.Conn) {
		all.join(conn)
		defer all.leave(conn)
		for range conn.Messages() {
		}
	}))
	mux.Handle("/pub", serve(func(conn *wsd.Conn) {
		for message := range conn.Messages() {
			all.broadcast(message)
		}
	}))
	return http.Serve(listener, mux)
}

// wsdHub knows the subscribers. Connections have queues of their own; no goroutine is needed to write to them.
type wsdHub struct {
	mu          sync.Mutex
	subscribers map[*wsd.Conn]struct{}
}

func (h *wsdHub) join(conn *wsd.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subscribers == nil {
		h.subscribers = make(map[*wsd.Conn]struct{})
	}
	h.subscribers[conn] = struct{}{}
}

func (h *wsdHub) leave(conn *wsd.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subscribers, conn)
}

// A broadcast queues its message everywhere as long as nobody makes it wait for too long. Who has not got it by then gets it
// from a goroutine of its own, and is sent away where the queue stays full.
const (
	broadcastTime = 50 * time.Millisecond
	patience      = 250 * time.Millisecond
)

func (h *wsdHub) broadcast(m wsd.Message) {
	message := wsd.Prepare(m)
	h.mu.Lock()
	defer h.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), broadcastTime)
	defer cancel()
	var late []*wsd.Conn
	for conn := range h.subscribers {
		if err := conn.SendPrepared(ctx, message); errors.Is(err, context.DeadlineExceeded) {
			late = append(late, conn)
		} else if err != nil {
			delete(h.subscribers, conn)
		}
	}
	if len(late) > 0 {
		h.insist(late, message)
	}
}

// insist queues the message for those who are late, all at once, so that they do not wait for each other.
func (h *wsdHub) insist(late []*wsd.Conn, message *wsd.Prepared) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	errs := make([]error, len(late))
	var wg sync.WaitGroup
	for i, conn := range late {
		wg.Go(func() { errs[i] = conn.SendPrepared(ctx, message) })
	}
	wg.Wait()
	for i, conn := range late {
		if errs[i] != nil {
			delete(h.subscribers, conn)
			go conn.CloseNow()
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
