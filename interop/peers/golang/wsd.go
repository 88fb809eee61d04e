// wsd.go is wsd itself as a peer: what the others are compared with, and what is behind the proxies.

package main

import (
	"context"
	"net/http"

	"github.com/seed62836080/wsd"
	_ "github.com/seed62836080/wsd/extendedconnect"
)

var wsdLibrary = library{
	module: "github.com/seed62836080/wsd",
	http2:  true,
	serve: func(w http.ResponseWriter, r *http.Request) {
		opts := &wsd.AcceptOptions{Subprotocols: subprotocols}
		opts.Compression = &wsd.Compression{}
		conn, err := wsd.Accept(w, r, opts)
		if err != nil {
			tell(event{Event: "failed", ID: r.URL.Path, Error: err.Error()})
			return
		}
		wsdSession{conn, r.URL.Path}.run()
	},
	connect: func(o order) error {
		opts := &wsd.DialOptions{
			Subprotocols: o.Subprotocols,
			HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: trust()}},
		}
		if o.Compress {
			opts.Compression = &wsd.Compression{}
		}
		conn, _, err := wsd.Dial(context.Background(), o.URL, opts)
		if err != nil {
			return err
		}
		wsdSession{conn, o.id()}.run()
		return nil
	},
}

type wsdSession struct {
	conn *wsd.Conn
	id   string
}

func (s wsdSession) run() {
	tell(event{Event: "opened", ID: s.id, Subprotocol: s.conn.Subprotocol(), Extensions: s.conn.Extensions()})
	for msg := range s.conn.Messages() {
		if err := obey(s, msg.Data, msg.Type == wsd.TextMessage); err != nil {
			tell(event{Event: "error", ID: s.id, Error: err.Error()})
		}
	}
	<-s.conn.Closed()
	end := s.conn.CloseEvent()
	closed := event{Event: "closed", ID: s.id, Code: int(end.Code), Reason: end.Reason}
	if !end.Clean {
		closed.Error = end.Err.Error()
	}
	tell(closed)
}

func (s wsdSession) send(data []byte, text bool) error {
	msg := wsd.Binary(data)
	if text {
		msg.Type = wsd.TextMessage
	}
	return s.conn.Send(context.Background(), msg)
}

func (s wsdSession) ping(data string) error {
	go func() {
		if _, err := s.conn.Ping(context.Background(), []byte(data)); err == nil {
			tell(event{Event: "pong", ID: s.id, Data: data})
		}
	}()
	return nil
}

func (s wsdSession) close(code int, reason string) error {
	if code == 0 {
		code = int(wsd.StatusNoStatus)
	}
	return s.conn.Close(wsd.StatusCode(code), reason)
}

func (s wsdSession) abort() { s.conn.CloseNow() }

func (s wsdSession) fragments(parts []string) error {
	w := s.conn.Writer(context.Background(), wsd.TextMessage, nil)
	for _, part := range parts {
		if _, err := w.Write([]byte(part)); err != nil {
			return err
		}
	}
	return w.Close()
}
