//go:build linux

package main

// This file is olahol/melody, which broadcasts by itself, over gorilla/websocket.

import (
	"net"
	"net/http"

	"github.com/olahol/melody"
)

var melodyLibrary = library{
	name:   "melody",
	module: "github.com/olahol/melody",
	only:   serveHub,
	serve:  serveMelody,
	cannot: wholeOnly,
}

func serveMelody(listener net.Listener, _ role) error {
	subscribers, publishers := melody.New(), melody.New()
	for _, m := range []*melody.Melody{subscribers, publishers} {
		m.Config.MaxMessageSize = maxMessage
		m.Upgrader.CheckOrigin = func(*http.Request) bool { return true }
	}
	publishers.HandleMessageBinary(func(_ *melody.Session, message []byte) {
		_ = subscribers.BroadcastBinary(message)
	})
	mux := http.NewServeMux()
	mux.HandleFunc("/sub", func(w http.ResponseWriter, r *http.Request) { _ = subscribers.HandleRequest(w, r) })
	mux.HandleFunc("/pub", func(w http.ResponseWriter, r *http.Request) { _ = publishers.HandleRequest(w, r) })
	return http.Serve(listener, mux)
}
