//go:build linux

package main

// This file is olahol/melody, which broadcasts by itself to all, over gorilla/websocket.

import (
	"net"
	"net/http"
	"sync"

	"github.com/olahol/melody"
)

var melodyLibrary = library{
	name:   "melody",
	module: "github.com/olahol/melody",
	only:   serveHub,
	serve:  serveMelody,
	cannot: wholeOnly,
}

// melodyChannels are the sessions by channel, where there are several: melody itself has no topics.
type melodyChannels struct {
	topics
	mu        sync.RWMutex
	channels  map[string]map[*melody.Session]struct{}
	published int // by the only publisher
}

func (c *melodyChannels) join(s *melody.Session) {
	mine, err := c.mine(s.Request.URL.RawQuery)
	if err != nil {
		_ = s.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, channel := range mine {
		if c.channels[channel] == nil {
			c.channels[channel] = make(map[*melody.Session]struct{})
		}
		c.channels[channel][s] = struct{}{}
	}
}

func (c *melodyChannels) broadcast(message []byte) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for s := range c.channels[c.channel(c.published)] {
		_ = s.WriteBinary(message)
	}
	c.published++
}

func serveMelody(listener net.Listener, r role) error {
	subscribers, publishers := melody.New(), melody.New()
	channels := &melodyChannels{topics: newTopics(r), channels: make(map[string]map[*melody.Session]struct{})}
	for _, m := range []*melody.Melody{subscribers, publishers} {
		m.Config.MaxMessageSize = maxMessage
		m.Upgrader.CheckOrigin = func(*http.Request) bool { return true }
	}
	if channels.groups > 1 {
		subscribers.HandleConnect(channels.join)
	}
	publishers.HandleMessageBinary(func(_ *melody.Session, message []byte) {
		if channels.groups > 1 {
			channels.broadcast(message)
			return
		}
		_ = subscribers.BroadcastBinary(message)
	})
	mux := http.NewServeMux()
	mux.HandleFunc("/sub", func(w http.ResponseWriter, r *http.Request) { _ = subscribers.HandleRequest(w, r) })
	mux.HandleFunc("/pub", func(w http.ResponseWriter, r *http.Request) { _ = publishers.HandleRequest(w, r) })
	return http.Serve(listener, mux)
}
