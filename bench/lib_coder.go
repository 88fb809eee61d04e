//go:build linux

package main

// This file is coder/websocket, as its documentation and its chat example use it.

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/coder/websocket"
)

var coderLibrary = library{
	name:   "coder",
	module: "github.com/coder/websocket",
	serve:  serveCoder,
	dial: func(ctx context.Context, url string) (echoClient, error) {
		conn, _, err := websocket.Dial(ctx, url, nil)
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		conn.SetReadLimit(maxMessage)
		return coderClient{conn}, nil
	},
	cannot: func(r role) string {
		if r.Window > 0 {
			return "no window but of 32 KiB"
		}
		return ""
	},
}

// echoCoderInPieces echoes a message while it arrives.
func echoCoderInPieces(ctx context.Context, conn *websocket.Conn) error {
	kind, reader, err := conn.Reader(ctx)
	if err != nil {
		return err
	}
	writer, err := conn.Writer(ctx, kind)
	if err != nil {
		return err
	}
	if _, err := io.Copy(writer, reader); err != nil {
		return err
	}
	return writer.Close()
}

func serveCoder(listener net.Listener, r role) error {
	options := &websocket.AcceptOptions{}
	switch {
	case r.Takeover:
		options.CompressionMode = websocket.CompressionContextTakeover
	case r.Deflate:
		options.CompressionMode = websocket.CompressionNoContextTakeover
	}
	accept := func(w http.ResponseWriter, req *http.Request) (*websocket.Conn, error) {
		conn, err := websocket.Accept(w, req, options)
		if err != nil {
			return nil, err
		}
		conn.SetReadLimit(maxMessage)
		return conn, nil
	}
	ctx := context.Background()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		conn, err := accept(w, req)
		if err != nil {
			return // the HTTP error has been answered
		}
		defer conn.CloseNow()
		for r.Stream {
			if echoCoderInPieces(ctx, conn) != nil {
				return
			}
		}
		for {
			kind, message, err := conn.Read(ctx)
			if err != nil {
				return
			}
			if err := conn.Write(ctx, kind, message); err != nil {
				return
			}
		}
	})

	all := newHub[[]byte](r)
	mux.HandleFunc("/sub", func(w http.ResponseWriter, req *http.Request) {
		conn, err := accept(w, req)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		gone := conn.CloseRead(ctx)
		s, err := all.join(req.URL.RawQuery)
		if err != nil {
			return
		}
		defer all.leave(s)
		// A peer that is slow to read does not hold its own end up: the write ends with the connection.
		s.pump(func(message []byte) error { return conn.Write(gone, websocket.MessageBinary, message) })
	})
	mux.HandleFunc("/pub", func(w http.ResponseWriter, req *http.Request) {
		conn, err := accept(w, req)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for n := 0; ; n++ {
			_, message, err := conn.Read(ctx)
			if err != nil {
				return
			}
			all.broadcast(n, message)
		}
	})
	return http.Serve(listener, mux)
}

type coderClient struct{ conn *websocket.Conn }

func (c coderClient) close() { c.conn.CloseNow() }

func (c coderClient) echo(work *echoWork) error {
	ctx := context.Background()
	return echoBlocking(work, func() ([]byte, error) {
		_, message, err := c.conn.Read(ctx)
		return message, err
	}, func(message []byte) error {
		return c.conn.Write(ctx, websocket.MessageBinary, message)
	})
}
