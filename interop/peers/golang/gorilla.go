// gorilla.go is github.com/gorilla/websocket as a peer.

package main

import (
	"errors"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

var gorilla = library{
	module: "github.com/gorilla/websocket",
	cannot: map[string]string{
		"takeover sent":     "inflates every message on its own",
		"takeover received": "compresses every message on its own",
		"server: compression with a window of 1 KiB": "does not agree to server_max_window_bits",
	},
	serve: func(w http.ResponseWriter, r *http.Request) {
		upgrader := websocket.Upgrader{Subprotocols: subprotocols, EnableCompression: true}
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			tell(event{Event: "failed", ID: r.URL.Path, Error: err.Error()})
			return
		}
		// The upgrader does not tell whether it agreed to compression.
		gorillaSession{conn, r.URL.Path}.run("")
	},
	connect: func(o order) error {
		dialer := websocket.Dialer{Subprotocols: o.Subprotocols, EnableCompression: o.Compress, TLSClientConfig: trust()}
		conn, resp, err := dialer.Dial(o.URL, nil)
		if err != nil {
			return err
		}
		gorillaSession{conn, o.id()}.run(resp.Header.Get("Sec-WebSocket-Extensions"))
		return nil
	},
}

type gorillaSession struct {
	conn *websocket.Conn
	id   string
}

func (s gorillaSession) run(extensions string) {
	defer s.conn.Close()
	tell(event{Event: "opened", ID: s.id, Subprotocol: s.conn.Subprotocol(), Extensions: extensions})
	s.conn.SetReadLimit(maxMessage)
	s.conn.SetPongHandler(func(data string) error {
		tell(event{Event: "pong", ID: s.id, Data: data})
		return nil
	})
	for {
		messageType, data, err := s.conn.ReadMessage()
		if err == nil {
			err = obey(s, data, messageType == websocket.TextMessage)
		}
		if err == nil {
			continue
		}
		closed := event{Event: "closed", ID: s.id, Code: websocket.CloseAbnormalClosure, Error: err.Error()}
		var closeError *websocket.CloseError
		if errors.As(err, &closeError) {
			closed.Code, closed.Reason = closeError.Code, closeError.Text
		}
		tell(closed)
		return
	}
}

func (s gorillaSession) send(data []byte, text bool) error {
	if text {
		return s.conn.WriteMessage(websocket.TextMessage, data)
	}
	return s.conn.WriteMessage(websocket.BinaryMessage, data)
}

func (s gorillaSession) ping(data string) error {
	return s.conn.WriteControl(websocket.PingMessage, []byte(data), time.Time{})
}

func (s gorillaSession) close(code int, reason string) error {
	payload := []byte{}
	if code != 0 {
		payload = websocket.FormatCloseMessage(code, reason)
	}
	return s.conn.WriteControl(websocket.CloseMessage, payload, time.Time{})
}

func (s gorillaSession) abort() { _ = s.conn.Close() }

// fragments writes parts larger than the library's buffer, which makes frames of them, though not just these.
func (s gorillaSession) fragments(parts []string) error {
	w, err := s.conn.NextWriter(websocket.TextMessage)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if _, err := w.Write([]byte(part)); err != nil {
			return err
		}
	}
	return w.Close()
}
