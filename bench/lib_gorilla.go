//go:build linux

package main

// This file is gorilla/websocket, as its documentation and its chat example use it.

import (
	"compress/flate"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

var gorillaLibrary = library{
	name:   "gorilla",
	module: "github.com/gorilla/websocket",
	serve:  serveGorilla,
	dial: func(ctx context.Context, url string) (echoClient, error) {
		conn, _, err := websocket.DefaultDialer.DialContext(ctx, url, nil)
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		conn.SetReadLimit(maxMessage)
		return gorillaClient{conn}, nil
	},
	cannot: func(r role) string {
		if r.Takeover {
			return "no context takeover"
		}
		return ""
	},
}

// echoGorillaInPieces echoes a message while it arrives.
func echoGorillaInPieces(conn *websocket.Conn) error {
	kind, reader, err := conn.NextReader()
	if err != nil {
		return err
	}
	writer, err := conn.NextWriter(kind)
	if err != nil {
		return err
	}
	if _, err := io.Copy(writer, reader); err != nil {
		return err
	}
	return writer.Close()
}

func serveGorilla(listener net.Listener, r role) error {
	upgrader := websocket.Upgrader{
		WriteBufferPool:   &sync.Pool{},
		EnableCompression: r.Deflate,
	}
	upgrade := func(w http.ResponseWriter, req *http.Request) (*websocket.Conn, error) {
		conn, err := upgrader.Upgrade(w, req, nil)
		if err != nil {
			return nil, err
		}
		conn.SetReadLimit(maxMessage)
		return conn, conn.SetCompressionLevel(flate.BestSpeed)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		conn, err := upgrade(w, req)
		if err != nil {
			return // the HTTP error has been answered
		}
		defer conn.Close()
		for r.Stream {
			if echoGorillaInPieces(conn) != nil {
				return
			}
		}
		for {
			kind, message, err := conn.ReadMessage()
			if err != nil {
				return
			}
			if err := conn.WriteMessage(kind, message); err != nil {
				return
			}
		}
	})

	all := newHub[*websocket.PreparedMessage](r)
	mux.HandleFunc("/sub", func(w http.ResponseWriter, req *http.Request) {
		conn, err := upgrade(w, req)
		if err != nil {
			return
		}
		defer conn.Close()
		s, err := all.join(req.URL.RawQuery)
		if err != nil {
			return
		}
		defer all.leave(s)
		go func() {
			defer conn.Close()
			s.pump(func(message *websocket.PreparedMessage) error { return conn.WritePreparedMessage(message) })
		}()
		for {
			if _, _, err := conn.NextReader(); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/pub", func(w http.ResponseWriter, req *http.Request) {
		conn, err := upgrade(w, req)
		if err != nil {
			return
		}
		defer conn.Close()
		for n := 0; ; n++ {
			kind, data, err := conn.ReadMessage()
			if err != nil {
				return
			}
			message, err := websocket.NewPreparedMessage(kind, data)
			if err != nil {
				return
			}
			all.broadcast(n, message)
		}
	})
	return http.Serve(listener, mux)
}

type gorillaClient struct{ conn *websocket.Conn }

func (c gorillaClient) close() { c.conn.Close() }

func (c gorillaClient) echo(work *echoWork) error {
	return echoBlocking(work, func() ([]byte, error) {
		_, message, err := c.conn.ReadMessage()
		return message, err
	}, func(message []byte) error {
		return c.conn.WriteMessage(websocket.BinaryMessage, message)
	})
}
