// gws.go is github.com/lxzan/gws as a peer.

package main

import (
	"errors"
	"net/http"
	"strings"

	"github.com/lxzan/gws"
)

var gwsLibrary = library{
	module: "github.com/lxzan/gws",
	cannot: map[string]string{
		"close by the peer without a code":           "always sends a code",
		"absence of a code":                          "tells of code 0 where none came, rather than of 1005",
		"client: takeover received":                  "finds no repetitions any more once its window is full",
		"answer to its close":                        "does not wait for it",
		"server: compression with a window of 1 KiB": "answers an offer of server_max_window_bits=10 with its own 12",
	},
	serve: func(w http.ResponseWriter, r *http.Request) {
		options := &gws.ServerOption{
			ReadMaxPayloadSize: maxMessage,
			CheckUtf8Enabled:   true,
			PermessageDeflate:  gws.PermessageDeflate{Enabled: true, ServerContextTakeover: true, ClientContextTakeover: true},
		}
		// It refuses clients that ask for none of the server's subprotocols.
		if r.Header.Get("Sec-WebSocket-Protocol") != "" {
			options.SubProtocols = subprotocols
		}
		s := &gwsSession{id: r.URL.Path}
		conn, err := gws.NewUpgrader(s, options).Upgrade(w, r)
		if err != nil {
			tell(event{Event: "failed", ID: s.id, Error: err.Error()})
			return
		}
		conn.ReadLoop()
	},
	connect: func(o order) error {
		options := &gws.ClientOption{
			Addr:               o.URL,
			TlsConfig:          trust(),
			ReadMaxPayloadSize: maxMessage,
			CheckUtf8Enabled:   true,
			RequestHeader:      http.Header{},
			PermessageDeflate:  gws.PermessageDeflate{Enabled: o.Compress, ServerContextTakeover: true, ClientContextTakeover: true},
		}
		if len(o.Subprotocols) > 0 {
			options.RequestHeader.Set("Sec-WebSocket-Protocol", strings.Join(o.Subprotocols, ", "))
		}
		s := &gwsSession{id: o.id()}
		conn, resp, err := gws.NewClient(s, options)
		if err != nil {
			return err
		}
		s.extensions = resp.Header.Get("Sec-WebSocket-Extensions")
		conn.ReadLoop()
		return nil
	},
}

// gwsSession is the library's event handler too.
type gwsSession struct {
	conn       *gws.Conn
	id         string
	extensions string
}

func (s *gwsSession) OnOpen(conn *gws.Conn) {
	s.conn = conn
	tell(event{Event: "opened", ID: s.id, Subprotocol: conn.SubProtocol(), Extensions: s.extensions})
}

func (s *gwsSession) OnClose(_ *gws.Conn, err error) {
	closed := event{Event: "closed", ID: s.id, Code: 1006, Error: err.Error()}
	var closeError *gws.CloseError
	if errors.As(err, &closeError) {
		closed.Code, closed.Reason = int(closeError.Code), string(closeError.Reason)
	}
	tell(closed)
}

func (s *gwsSession) OnPing(conn *gws.Conn, payload []byte) { _ = conn.WritePong(payload) }

func (s *gwsSession) OnPong(_ *gws.Conn, payload []byte) {
	tell(event{Event: "pong", ID: s.id, Data: string(payload)})
}

func (s *gwsSession) OnMessage(_ *gws.Conn, message *gws.Message) {
	defer message.Close()
	if err := obey(s, message.Bytes(), message.Opcode == gws.OpcodeText); err != nil {
		tell(event{Event: "error", ID: s.id, Error: err.Error()})
	}
}

func (s *gwsSession) send(data []byte, text bool) error {
	if text {
		return s.conn.WriteMessage(gws.OpcodeText, data)
	}
	return s.conn.WriteMessage(gws.OpcodeBinary, data)
}

func (s *gwsSession) ping(data string) error { return s.conn.WritePing([]byte(data)) }

func (s *gwsSession) close(code int, reason string) error {
	return s.conn.WriteClose(uint16(code), []byte(reason))
}

func (s *gwsSession) abort() { _ = s.conn.NetConn().Close() }

// fragments makes a stream of the parts, which the library cuts into frames of its own size.
func (s *gwsSession) fragments(parts []string) error {
	return s.conn.WriteFile(gws.OpcodeText, strings.NewReader(strings.Join(parts, "")))
}
