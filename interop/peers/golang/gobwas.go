// gobwas.go is github.com/gobwas/ws as a peer: frames by hand, as that library is used.

package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/gobwas/httphead"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsflate"
	"github.com/gobwas/ws/wsutil"
)

// alone is the compression that the library has: without context takeover.
var alone = wsflate.Parameters{ServerNoContextTakeover: true, ClientNoContextTakeover: true}

var gobwas = library{
	module: "github.com/gobwas/ws",
	cannot: map[string]string{
		"takeover received":                          "compresses every message on its own",
		"server: compression with a window of 1 KiB": "declines an offer with server_max_window_bits",
		"takeover sent":                              "inflates every message on its own",
	},
	serve: func(w http.ResponseWriter, r *http.Request) {
		extension := wsflate.Extension{Parameters: alone}
		upgrader := ws.HTTPUpgrader{
			Protocol:  func(asked string) bool { return slices.Contains(subprotocols, asked) },
			Negotiate: extension.Negotiate,
		}
		conn, rw, shaken, err := upgrader.Upgrade(r, w)
		if err != nil {
			tell(event{Event: "failed", ID: r.URL.Path, Error: err.Error()})
			return
		}
		s := &gobwasSession{conn: conn, reader: rw.Reader, id: r.URL.Path, state: ws.StateServerSide}
		s.run(shaken)
	},
	connect: func(o order) error {
		dialer := ws.Dialer{Protocols: o.Subprotocols, TLSConfig: trust()}
		if o.Compress {
			dialer.Extensions = []httphead.Option{alone.Option()}
		}
		conn, early, shaken, err := dialer.Dial(context.Background(), o.URL)
		if err != nil {
			return err
		}
		s := &gobwasSession{conn: conn, reader: early, id: o.id(), state: ws.StateClientSide}
		if early == nil {
			s.reader = bufio.NewReader(conn)
		}
		s.run(shaken)
		return nil
	},
}

type gobwasSession struct {
	conn    net.Conn
	reader  *bufio.Reader
	id      string
	state   ws.State
	writing sync.Mutex
	closing bool
	// message is what has come of a fragmented message.
	message []byte
	first   ws.Header
}

func (s *gobwasSession) run(shaken ws.Handshake) {
	defer s.conn.Close()
	extensions := ""
	for _, option := range shaken.Extensions {
		extensions += string(option.Name)
		s.state |= ws.StateExtended
	}
	tell(event{Event: "opened", ID: s.id, Subprotocol: shaken.Protocol, Extensions: extensions})
	for {
		code, reason, err := s.step()
		if err != nil {
			tell(event{Event: "closed", ID: s.id, Code: 1006, Error: err.Error()})
			return
		}
		if code != 0 {
			tell(event{Event: "closed", ID: s.id, Code: int(code), Reason: reason})
			return
		}
	}
}

// step takes one frame. A code other than 0 is that of a close frame.
func (s *gobwasSession) step() (ws.StatusCode, string, error) {
	header, err := ws.ReadHeader(s.reader)
	if err != nil {
		return 0, "", err
	}
	if err := ws.CheckHeader(header, s.state); err != nil {
		return 0, "", err
	}
	if header.Length > maxMessage {
		return 0, "", wsutil.ErrFrameTooLarge
	}
	f := ws.Frame{Header: header, Payload: make([]byte, header.Length)}
	if _, err := io.ReadFull(s.reader, f.Payload); err != nil {
		return 0, "", err
	}
	if f.Header.Masked {
		f = ws.UnmaskFrameInPlace(f)
	}
	switch f.Header.OpCode {
	case ws.OpPing:
		return 0, "", s.write(ws.NewPongFrame(f.Payload))
	case ws.OpPong:
		tell(event{Event: "pong", ID: s.id, Data: string(f.Payload)})
		return 0, "", nil
	case ws.OpClose:
		code, reason := ws.ParseCloseFrameData(f.Payload)
		if code.Empty() {
			code = ws.StatusNoStatusRcvd
		}
		if !s.closing {
			return code, reason, s.write(ws.NewCloseFrame(f.Payload))
		}
		return code, reason, nil
	}
	if f.Header.OpCode != ws.OpContinuation {
		s.first, s.message = f.Header, nil
		s.state |= ws.StateFragmented
	}
	s.message = append(s.message, f.Payload...)
	if !f.Header.Fin {
		return 0, "", nil
	}
	s.state &^= ws.StateFragmented
	data := s.message
	if compressed, err := wsflate.IsCompressed(s.first); err != nil {
		return 0, "", err
	} else if compressed {
		if data, err = wsflate.DefaultHelper.Decompress(data); err != nil {
			return 0, "", err
		}
	}
	return 0, "", obey(s, data, s.first.OpCode == ws.OpText)
}

func (s *gobwasSession) write(f ws.Frame) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.state.ClientSide() {
		f = ws.MaskFrame(f)
	}
	return ws.WriteFrame(s.conn, f)
}

func (s *gobwasSession) send(data []byte, text bool) error {
	f := ws.NewBinaryFrame(data)
	if text {
		f = ws.NewTextFrame(data)
	}
	if s.state.Extended() {
		var err error
		if f, err = wsflate.CompressFrame(f); err != nil {
			return err
		}
	}
	return s.write(f)
}

func (s *gobwasSession) ping(data string) error { return s.write(ws.NewPingFrame([]byte(data))) }

func (s *gobwasSession) close(code int, reason string) error {
	s.closing = true
	var body []byte
	if code != 0 {
		body = ws.NewCloseFrameBody(ws.StatusCode(code), reason)
	}
	return s.write(ws.NewCloseFrame(body))
}

func (s *gobwasSession) abort() { _ = s.conn.Close() }

func (s *gobwasSession) fragments(parts []string) error {
	opcode := ws.OpText
	for i, part := range parts {
		if err := s.write(ws.NewFrame(opcode, i == len(parts)-1, []byte(part))); err != nil {
			return err
		}
		opcode = ws.OpContinuation
	}
	return nil
}
