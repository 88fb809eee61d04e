// peer_test.go holds what tests have in common: a peer to play, pairs of connections, transports, and what is measured.

package wsd_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/wiretest"
	"github.com/seed62836080/wsd/wsdtest"
)

// peer plays the other side of a connection frame by frame, with a codec of its own.
type peer struct {
	t   testing.TB
	rwc io.ReadWriteCloser
	// masks says whether the peer is a client.
	masks bool
}

// frame is what a peer sends or gets; payload is unmasked.
type frame struct {
	first   byte // FIN, RSV, opcode
	payload []byte
}

func text(s string) frame        { return frame{0x81, []byte(s)} }
func binaryFrame(b []byte) frame { return frame{0x82, b} }
func ping(s string) frame        { return frame{0x89, []byte(s)} }
func pong(s string) frame        { return frame{0x8A, []byte(s)} }
func closeFrame(code int) frame  { return frame{0x88, closePayload(code, "")} }
func closePayload(code int, reason string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
}

// servedConn returns a server's connection and the client that it serves, in memory.
func servedConn(t testing.TB, cfg wsd.Config) (*wsd.Conn, *peer) {
	a, b := wsdtest.Transport()
	return wsd.NewConn(b, wsd.ServerRole, cfg), &peer{t, a, true}
}

// clientConn returns a client's connection and the server that it is connected to, in memory.
func clientConn(t testing.TB, cfg wsd.Config) (*wsd.Conn, *peer) {
	a, b := wsdtest.Transport()
	return wsd.NewConn(a, wsd.ClientRole, cfg), &peer{t, b, false}
}

// encode returns the bytes of frames.
func (p *peer) encode(frames ...frame) (out []byte) {
	for _, f := range frames {
		out = append(out, encodeFrame(f, p.masks)...)
	}
	return out
}

// send writes frames in one write.
func (p *peer) send(frames ...frame) { p.sendRaw(p.encode(frames...)) }

func (p *peer) sendRaw(b []byte) {
	p.t.Helper()
	_, err := p.rwc.Write(b)
	require.NoError(p.t, err)
}

// receive reads one frame.
func (p *peer) receive() frame {
	p.t.Helper()
	f, err := p.tryReceive()
	require.NoError(p.t, err)
	return f
}

func (p *peer) tryReceive() (frame, error) {
	var head [2]byte
	if _, err := io.ReadFull(p.rwc, head[:]); err != nil {
		return frame{}, err
	}
	if masked := head[1]&0x80 != 0; masked == p.masks {
		return frame{}, errors.New("peer: frame masked the wrong way")
	}
	length := uint64(head[1] & 0x7F)
	switch length {
	case 126:
		var b [2]byte
		if _, err := io.ReadFull(p.rwc, b[:]); err != nil {
			return frame{}, err
		}
		length = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		if _, err := io.ReadFull(p.rwc, b[:]); err != nil {
			return frame{}, err
		}
		length = binary.BigEndian.Uint64(b[:])
	}
	var key [4]byte
	if !p.masks {
		if _, err := io.ReadFull(p.rwc, key[:]); err != nil {
			return frame{}, err
		}
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(p.rwc, payload); err != nil {
		return frame{}, err
	}
	for i := range payload {
		payload[i] ^= key[i&3]
	}
	return frame{head[0], payload}, nil
}

// expectClose reads one frame, a close frame with code, and then the end of the bytes.
func (p *peer) expectClose(code int) {
	p.t.Helper()
	f := p.receive()
	require.Equal(p.t, byte(0x88), f.first, "expected a close frame, got %#x %q", f.first, f.payload)
	require.GreaterOrEqual(p.t, len(f.payload), 2)
	require.Equal(p.t, code, int(binary.BigEndian.Uint16(f.payload)), "reason %q", f.payload[2:])
	p.expectEOF()
}

// expectEOF reads the end of the bytes.
func (p *peer) expectEOF() {
	p.t.Helper()
	rest, err := io.ReadAll(p.rwc)
	require.NoError(p.t, err)
	require.Empty(p.t, rest)
}

func (p *peer) close() { _ = p.rwc.Close() }

func echo(c *wsd.Conn) {
	for m := range c.Messages() {
		if c.Send(context.Background(), m) != nil {
			return
		}
	}
}

// ends ends a connection and its peer when the test ends, and then waits for the goroutines that are started with what it
// returns, so that a test that fails leaves none in its bubble.
func ends(t testing.TB, c *wsd.Conn, p *peer) *sync.WaitGroup {
	background := new(sync.WaitGroup)
	t.Cleanup(func() {
		p.close()
		c.CloseNow()
		background.Wait()
	})
	return background
}

type newPair func(testing.TB, wsd.Config) (*wsd.Conn, *peer)

// eachRole runs a test in a bubble for a server's connection and in one for a client's.
func eachRole(t *testing.T, test func(t *testing.T, pair newPair)) {
	for _, pair := range []newPair{servedConn, clientConn} {
		synctest.Test(t, func(t *testing.T) { test(t, pair) })
	}
}

// swallow is a consumer that answers nothing.
func swallow(c *wsd.Conn) {
	for range c.Messages() {
	}
}

// throttled reads no more than rate bytes a second, of the bubble's time.
type throttled struct {
	io.ReadWriteCloser
	rate int
}

func (th throttled) Read(p []byte) (int, error) {
	n, err := th.ReadWriteCloser.Read(p)
	time.Sleep(time.Duration(n) * time.Second / time.Duration(th.rate))
	return n, err
}

// reads reads frames until one with the given first byte has come, and returns it with how many bytes of messages came
// before it.
func (p *peer) reads(until byte) (f frame, before int, err error) {
	for {
		if f, err = p.tryReceive(); err != nil || f.first == until {
			return f, before, err
		}
		if f.first&0x0F <= 0x02 {
			before += len(f.payload)
		}
	}
}

// sendsEvery sends a frame now and then until the connection ends.
func (p *peer) sendsEvery(pause time.Duration, f frame) {
	for {
		if _, err := p.rwc.Write(p.encode(f)); err != nil {
			return
		}
		if f.first == 0x01 {
			f.first = 0x00 // further fragments
		}
		time.Sleep(pause)
	}
}

// queueMany queues so many bytes of messages.
func queueMany(t *testing.T, c *wsd.Conn, bytes int) {
	for range bytes / 4096 {
		require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, 4096))))
	}
	synctest.Wait() // the writer waits for the peer
}

// noise returns bytes that do not compress.
func noise(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b)
	return b
}

func prepared(m wsd.Message) *wsd.Prepared {
	p, err := wsd.Prepare(m)
	if err != nil {
		panic(err)
	}
	return p
}

// pipeOf returns the two ends of a connection in memory, that of the given role first.
func pipeOf(role wsd.Role, cfg wsd.Config) (near, far *wsd.Conn) {
	client, server := wsdtest.Pipe(cfg, cfg)
	if role == wsd.ClientRole {
		return client, server
	}
	return server, client
}

func encodeFrame(f frame, masked bool) []byte { return wiretest.Frame(f.first, f.payload, masked) }

// tcpPair returns the two ends of a loopback TCP connection.
func tcpPair(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	dialed, accepted := wiretest.Pair(t, "tcp")
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

// memoryListener is a network in memory, which no limit on open files bounds, and suitable for synctest.
type memoryListener struct {
	pair   func() (client, server net.Conn)
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func listenInMemory(pair func() (client, server net.Conn)) *memoryListener {
	return &memoryListener{pair: pair, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *memoryListener) dial(ctx context.Context) (net.Conn, error) {
	client, server := l.pair()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
	case <-ctx.Done():
	}
	return nil, errors.New("nobody listens")
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return memoryConn{}.LocalAddr() }

// memoryConn makes a net.Conn of an end.
type memoryConn struct{ *wsdtest.End }

func (memoryConn) LocalAddr() net.Addr  { return &net.UnixAddr{Name: "memory", Net: "unix"} }
func (memoryConn) RemoteAddr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

// bufferedPair is net.Pipe with buffers.
func bufferedPair() (client, server net.Conn) {
	a, b := wsdtest.Transport()
	return memoryConn{a}, memoryConn{b}
}

// held returns the bytes of heap that are in use.
func held() int64 {
	for range 3 { // what a sync.Pool holds goes with the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// rawRequest is a handshake as bytes, with the lines that change removes and adds.
func rawRequest(remove string, add ...string) string {
	lines := []string{
		"Host: example.com", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: " + exampleKey,
	}
	request := "GET /chat HTTP/1.1\r\n"
	for _, line := range append(lines, add...) {
		if name, _, _ := strings.Cut(line, ":"); name != remove {
			request += line + "\r\n"
		} else {
			remove = "" // only the first, so that it can be replaced
		}
	}
	return request + "\r\n"
}

func echoHandler(opts *wsd.AcceptOptions, results chan<- error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := wsd.Accept(w, r, opts)
		if results != nil {
			results <- err
		}
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for {
			m, err := conn.Receive(context.Background())
			if err != nil {
				return
			}
			if conn.Send(context.Background(), m) != nil {
				return
			}
		}
	})
}

// exchange sends raw bytes to a server and reads the head of the answer.
func exchange(t *testing.T, addr, raw string) (*http.Response, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, raw)
	require.NoError(t, err)
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, &http.Request{Method: http.MethodGet})
	require.NoError(t, err)
	return resp, reader
}

// maskedHello is RFC 6455, section 5.7, "a single-frame masked text message".
const maskedHello = "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"

func requireEcho(t *testing.T, conn *wsd.Conn, text string) {
	t.Helper()
	require.NoError(t, conn.Send(t.Context(), wsd.Text(text)))
	m, err := conn.Receive(t.Context())
	require.NoError(t, err)
	require.Equal(t, text, string(m.Data))
}

// hijacked hands over a connection of the test, with or without buffers.
type hijacked struct {
	*httptest.ResponseRecorder
	conn net.Conn
	rw   *bufio.ReadWriter
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.conn, h.rw, nil }

func handshakeRequest() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for name, value := range map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": exampleKey,
	} {
		r.Header.Set(name, value)
	}
	return r
}

// accepting serves Accept with opts, and tells what it returned. Connections are echoed.
func accepting(t *testing.T, opts *wsd.AcceptOptions) (*httptest.Server, <-chan error) {
	t.Helper()
	results := make(chan error, 16)
	server := httptest.NewServer(echoHandler(opts, results))
	t.Cleanup(server.Close)
	return server, results
}

var errBroken = errors.New("broken")

type brokenWriter struct{ io.ReadWriteCloser }

func (*brokenWriter) Write([]byte) (int, error) { return 0, errBroken }
