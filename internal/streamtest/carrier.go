// Package streamtest is what WebSockets have to pass that are carried by streams, as those of HTTP/2 and HTTP/3: the rules of
// a connection's life, and a soak, both in a short form. Streams share a connection with others, end by half, and are reset.
package streamtest

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/extended"
	"github.com/seed62836080/wsd/internal/wiretest"
)

// Server is the handler at the other end of a Carrier. The zero value is ready for use.
type Server struct {
	mu       sync.Mutex
	expected map[string]http.HandlerFunc // by paths
}

// ServeHTTP does what the test expects of a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	serve := s.expected[r.URL.Path]
	s.mu.Unlock()
	if serve == nil {
		http.NotFound(w, r)
		return
	}
	serve(w, r)
}

func (s *Server) expect(path string, serve http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.expected == nil {
		s.expected = make(map[string]http.HandlerFunc)
	}
	s.expected[path] = serve
}

func (s *Server) forget(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.expected, path)
}

// Carrier carries connections between a client and a server.
type Carrier struct {
	URL       string            // ws or wss, where Server is served by extended CONNECT
	Transport http.RoundTripper // performs handshakes with it, as wsd.DialOptions.HTTPClient wants it
	Server    *Server

	last atomic.Int64 // number of a path
}

// open has serve handle the request that dial makes.
func (c *Carrier) open(serve http.HandlerFunc, dial func(url string) error) error {
	path := fmt.Sprintf("/%d", c.last.Add(1))
	c.Server.expect(path, serve)
	defer c.Server.forget(path)
	return dial(c.URL + path)
}

func (c *Carrier) dialOptions(cfg wsd.Config) *wsd.DialOptions {
	return &wsd.DialOptions{Config: cfg, HTTPClient: &http.Client{Transport: c.Transport}}
}

// pair returns both ends of a connection.
func (c *Carrier) pair(ctx context.Context, clients, servers wsd.Config) (client, server *wsd.Conn, err error) {
	accepted := make(chan *wsd.Conn, 1)
	err = c.open(func(w http.ResponseWriter, r *http.Request) {
		if conn, err := wsd.Accept(w, r, &wsd.AcceptOptions{Config: servers}); err == nil {
			accepted <- conn
		}
	}, func(url string) (err error) {
		client, _, err = wsd.Dial(ctx, url, c.dialOptions(clients))
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return client, <-accepted, nil
}

// served returns a server's connection and the client that it serves.
func (c *Carrier) served(t testing.TB, cfg wsd.Config) (*wsd.Conn, *peer) {
	t.Helper()
	accepted := make(chan *wsd.Conn, 1)
	p := &peer{t: t, masks: true}
	require.NoError(t, c.open(func(w http.ResponseWriter, r *http.Request) {
		if conn, err := wsd.Accept(w, r, &wsd.AcceptOptions{Config: cfg}); err == nil {
			accepted <- conn
		}
	}, func(url string) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http"+strings.TrimPrefix(url, "ws"), nil)
		if err != nil {
			return err
		}
		req.Header = http.Header{
			"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
		}
		resp, err := c.Transport.RoundTrip(req)
		if err != nil {
			return err
		}
		p.takes(resp.Body.(io.ReadWriteCloser))
		return nil
	}))
	return ended(t, <-accepted, p)
}

// dialed returns a client's connection and the server that it is connected to.
func (c *Carrier) dialed(t testing.TB, cfg wsd.Config) (*wsd.Conn, *peer) {
	t.Helper()
	taken := make(chan io.ReadWriteCloser, 1)
	p := &peer{t: t, over: make(chan struct{})}
	var conn *wsd.Conn
	require.NoError(t, c.open(func(w http.ResponseWriter, r *http.Request) {
		connect := extended.Of(r)
		stream, err := connect.Take(w, 0)
		if err == nil && connect.Keep != nil {
			connect.Keep(p.over)
		}
		taken <- stream
	}, func(url string) (err error) {
		conn, _, err = wsd.Dial(t.Context(), url, c.dialOptions(cfg))
		return err
	}))
	p.takes(<-taken)
	return ended(t, conn, p)
}

// ended has nothing left behind the test.
func ended(t testing.TB, conn *wsd.Conn, p *peer) (*wsd.Conn, *peer) {
	t.Cleanup(func() {
		conn.CloseNow()
		p.reset()
	})
	return conn, p
}

// peer plays the other side of a connection frame by frame.
type peer struct {
	t     testing.TB
	rwc   io.ReadWriteCloser
	in    *bufio.Reader
	masks bool // it is a client

	once sync.Once
	over chan struct{} // closed when the stream of a server is; nil for a client
}

// frame is what a peer sends or gets.
type frame struct {
	first   byte // FIN, RSV, opcode
	payload string
	key     [4]byte // that it came masked with
}

func text(s string) frame        { return frame{first: 0x81, payload: s} }
func ping(s string) frame        { return frame{first: 0x89, payload: s} }
func pong(s string) frame        { return frame{first: 0x8A, payload: s} }
func closeFrame(code int) frame  { return frame{first: 0x88, payload: closePayload(code, "")} }
func reserved(opcode byte) frame { return frame{first: 0x80 | opcode} }

func closePayload(code int, reason string) string {
	return string(append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...))
}

func (p *peer) takes(stream io.ReadWriteCloser) { p.rwc, p.in = stream, bufio.NewReader(stream) }

// send writes frames in one write.
func (p *peer) send(frames ...frame) {
	p.t.Helper()
	var all []byte
	for _, f := range frames {
		all = append(all, wiretest.Frame(f.first, []byte(f.payload), p.masks)...)
	}
	p.sendRaw(all)
}

func (p *peer) sendRaw(b []byte) {
	p.t.Helper()
	_, err := p.rwc.Write(b)
	require.NoError(p.t, err)
}

// receive reads one frame.
func (p *peer) receive() (f frame) {
	p.t.Helper()
	head := p.read(2)
	require.NotEqual(p.t, p.masks, head[1]&0x80 != 0, "a frame is masked the wrong way")
	length := uint64(head[1] & 0x7F)
	switch length {
	case 126:
		length = uint64(binary.BigEndian.Uint16(p.read(2)))
	case 127:
		length = binary.BigEndian.Uint64(p.read(8))
	}
	f.first = head[0]
	if !p.masks {
		copy(f.key[:], p.read(4))
	}
	payload := p.read(int(length))
	for i := range payload {
		payload[i] ^= f.key[i&3]
	}
	f.payload = string(payload)
	return f
}

func (p *peer) read(n int) []byte {
	p.t.Helper()
	b := make([]byte, n)
	_, err := io.ReadFull(p.in, b)
	require.NoError(p.t, err)
	return b
}

// expect reads one frame and compares it.
func (p *peer) expect(want frame) {
	p.t.Helper()
	got := p.receive()
	require.Equal(p.t, want.first, got.first, "%q", got.payload)
	require.Equal(p.t, want.payload, got.payload)
}

// expectClose reads one frame, a close frame with that code.
func (p *peer) expectClose(code int) {
	p.t.Helper()
	f := p.receive()
	require.Equal(p.t, byte(0x88), f.first, "%q", f.payload)
	require.GreaterOrEqual(p.t, len(f.payload), 2)
	require.Equal(p.t, closePayload(code, ""), f.payload[:2], "%q", f.payload[2:])
}

// end ends what this side sends.
func (p *peer) end() {
	if half, ok := p.rwc.(interface{ CloseWrite() error }); ok && p.masks {
		_ = half.CloseWrite()
		return
	}
	p.close()
}

// reset resets the stream, unless it has ended.
func (p *peer) reset() {
	_ = p.rwc.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Unix(1, 0))
	p.close()
}

func (p *peer) close() {
	p.once.Do(func() {
		_ = p.rwc.Close()
		if p.over != nil {
			close(p.over)
		}
	})
}
