//go:build linux

package main

// This file is lxzan/gws, with its own server, its callbacks on the reading goroutine, and its Broadcaster.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"

	"github.com/lxzan/gws"
)

var gwsLibrary = library{
	name:   "gws",
	module: "github.com/lxzan/gws",
	serve:  serveGWS,
	dial: func(_ context.Context, url string) (echoClient, error) {
		client := &gwsClient{}
		conn, _, err := gws.NewClient(client, &gws.ClientOption{
			Addr: url, ReadMaxPayloadSize: maxMessage, WriteMaxPayloadSize: maxMessage, Logger: gwsSilence{},
		})
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		client.conn = conn
		return client, nil
	},
	cannot: wholeOnly,
}

// gwsSilence keeps from the log that load clients close their connections with a reset.
type gwsSilence struct{}

func (gwsSilence) Error(...any) {}

// gwsHandler's session tells what a connection is for.
type gwsHandler struct {
	gws.BuiltinEventHandler
	topics
	mu        sync.RWMutex
	channels  map[string]map[*gws.Conn]struct{}
	published int // by the only publisher
}

const gwsURL = "url"

// mineOf are the channels of a connection, none of a publisher's.
func (h *gwsHandler) mineOf(conn *gws.Conn) []string {
	asked, _ := conn.Session().Load(gwsURL)
	u, _ := asked.(*url.URL)
	if u == nil || u.Path != "/sub" {
		return nil
	}
	mine, err := h.mine(u.RawQuery)
	if err != nil {
		conn.NetConn().Close()
	}
	return mine
}

func serveGWS(listener net.Listener, r role) error {
	options := &gws.ServerOption{
		ReadMaxPayloadSize:  maxMessage,
		WriteMaxPayloadSize: maxMessage,
		Logger:              gwsSilence{},
		PermessageDeflate: gws.PermessageDeflate{
			Enabled:               r.Deflate,
			ServerContextTakeover: r.Takeover,
			ClientContextTakeover: r.Takeover,
			// The windows that the others have as well.
			ServerMaxWindowBits: 15,
			ClientMaxWindowBits: cmp.Or(r.Window, 15),
		},
	}
	if r.Work != serveBroadcast && r.Work != serveHub {
		return gws.NewServer(gwsEcho{}, options).RunListener(listener)
	}
	options.Authorize = func(req *http.Request, session gws.SessionStorage) bool {
		session.Store(gwsURL, req.URL)
		return true
	}
	return gws.NewServer(&gwsHandler{topics: newTopics(r), channels: make(map[string]map[*gws.Conn]struct{})}, options).RunListener(listener)
}

type gwsEcho struct{ gws.BuiltinEventHandler }

func (gwsEcho) OnMessage(conn *gws.Conn, message *gws.Message) {
	defer message.Close()
	conn.WriteMessage(message.Opcode, message.Bytes())
}

func (h *gwsHandler) OnOpen(conn *gws.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, channel := range h.mineOf(conn) {
		if h.channels[channel] == nil {
			h.channels[channel] = make(map[*gws.Conn]struct{})
		}
		h.channels[channel][conn] = struct{}{}
	}
}

func (h *gwsHandler) OnClose(conn *gws.Conn, _ error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, channel := range h.mineOf(conn) {
		delete(h.channels[channel], conn)
	}
}

func (h *gwsHandler) OnMessage(_ *gws.Conn, message *gws.Message) {
	defer message.Close()
	// The broadcast outlives this call, the message's buffer does not.
	b := gws.NewBroadcaster(message.Opcode, append([]byte(nil), message.Bytes()...))
	defer b.Close()
	h.mu.RLock()
	defer h.mu.RUnlock()
	for conn := range h.channels[h.channel(h.published)] {
		b.Broadcast(conn)
	}
	h.published++
}

// gwsClient is a client's connection and its event handler.
type gwsClient struct {
	gws.BuiltinEventHandler
	conn *gws.Conn
	work *echoWork
	err  error
	over bool
}

func (c *gwsClient) close() { c.conn.NetConn().Close() }

func (c *gwsClient) echo(work *echoWork) error {
	c.work = work
	for range work.inflight {
		if err := c.conn.WriteMessage(gws.OpcodeBinary, work.send()); err != nil {
			return err
		}
	}
	c.conn.ReadLoop()
	return c.err
}

func (c *gwsClient) OnMessage(conn *gws.Conn, message *gws.Message) {
	defer message.Close()
	if c.over {
		return
	}
	more, err := c.work.received(message.Bytes())
	if err == nil && more {
		err = conn.WriteMessage(gws.OpcodeBinary, c.work.send())
	}
	if c.err = err; err != nil || !more && c.work.done() {
		c.over = true
		conn.NetConn().Close() // ends ReadLoop
	}
}

func (c *gwsClient) OnClose(_ *gws.Conn, err error) {
	if !c.over {
		c.err = errors.Join(c.err, err)
	}
}
