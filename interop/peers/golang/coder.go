// coder.go is github.com/coder/websocket as a peer.

package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/coder/websocket"
)

var coder = library{
	module: "github.com/coder/websocket",
	cannot: map[string]string{
		"server: compression with a window of 1 KiB": "declines an offer with server_max_window_bits",
	},
	serve: func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
			Subprotocols:    subprotocols,
			CompressionMode: websocket.CompressionContextTakeover,
		})
		if err != nil {
			tell(event{Event: "failed", ID: r.URL.Path, Error: err.Error()})
			return
		}
		// Accept writes what it agreed to into the header of its answer.
		coderSession{conn, r.URL.Path}.run(w.Header().Get("Sec-WebSocket-Extensions"))
	},
	connect: func(o order) error {
		mode := websocket.CompressionDisabled
		if o.Compress {
			mode = websocket.CompressionContextTakeover
		}
		conn, resp, err := websocket.Dial(context.Background(), o.URL, &websocket.DialOptions{
			Subprotocols:    o.Subprotocols,
			CompressionMode: mode,
			HTTPClient:      &http.Client{Transport: &http.Transport{TLSClientConfig: trust()}},
		})
		if err != nil {
			return err
		}
		coderSession{conn, o.id()}.run(resp.Header.Get("Sec-WebSocket-Extensions"))
		return nil
	},
}

type coderSession struct {
	conn *websocket.Conn
	id   string
}

// errEnded stops a session whose end has been told of.
var errEnded = errors.New("ended")

func (s coderSession) run(extensions string) {
	tell(event{Event: "opened", ID: s.id, Subprotocol: s.conn.Subprotocol(), Extensions: extensions})
	s.conn.SetReadLimit(maxMessage)
	for {
		messageType, data, err := s.conn.Read(context.Background())
		if err == nil {
			err = obey(s, data, messageType == websocket.MessageText)
		}
		switch {
		case err == errEnded:
			return
		case err != nil:
			closed := event{Event: "closed", ID: s.id, Code: int(websocket.StatusAbnormalClosure), Error: err.Error()}
			var closeError websocket.CloseError
			if errors.As(err, &closeError) {
				closed.Code, closed.Reason = int(closeError.Code), closeError.Reason
			}
			tell(closed)
			_ = s.conn.CloseNow()
			return
		}
	}
}

func (s coderSession) send(data []byte, text bool) error {
	if text {
		return s.conn.Write(context.Background(), websocket.MessageText, data)
	}
	return s.conn.Write(context.Background(), websocket.MessageBinary, data)
}

// ping sends a ping with a payload of the library's making, and waits for its pong, which a Read has to find.
func (s coderSession) ping(data string) error {
	go func() {
		if s.conn.Ping(context.Background()) == nil {
			tell(event{Event: "pong", ID: s.id, Data: data})
		}
	}()
	return nil
}

// close waits for the peer's close frame too, and does not tell what was in it.
func (s coderSession) close(code int, reason string) error {
	closed := event{Event: "closed", ID: s.id, Code: code, Reason: reason}
	if code == 0 {
		closed.Code = int(websocket.StatusNoStatusRcvd)
	}
	if err := s.conn.Close(websocket.StatusCode(closed.Code), reason); err != nil {
		closed.Code, closed.Error = int(websocket.StatusAbnormalClosure), err.Error()
	}
	tell(closed)
	return errEnded
}

func (s coderSession) abort() { _ = s.conn.CloseNow() }

// fragments writes parts larger than the library's buffer, which makes frames of them, though not just these.
func (s coderSession) fragments(parts []string) error {
	w, err := s.conn.Writer(context.Background(), websocket.MessageText)
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
