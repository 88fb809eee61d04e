// Clients that come by requests of HTTP/2 or HTTP/3, to a handler.

package suite

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Requests is a listener for [JudgeClients] whose clients come over HTTP/2 or HTTP/3, by extended CONNECT (RFC 8441, RFC
// 9220): it is the handler of their server. The zero value is ready for use.
type Requests struct {
	once  sync.Once
	conns chan net.Conn
	ended chan struct{} // closed by Close
	close sync.Once
}

func (l *Requests) init() {
	l.once.Do(func() { l.conns, l.ended = make(chan net.Conn), make(chan struct{}) })
}

// Accept returns the next client's connection.
func (l *Requests) Accept() (net.Conn, error) {
	l.init()
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

// Close has clients refused with 503.
func (l *Requests) Close() error {
	l.init()
	l.close.Do(func() { close(l.ended) })
	return nil
}

// Addr says nothing.
func (l *Requests) Addr() net.Addr { return carriedAddr{} }

// ServeHTTP hands a client to JudgeClients, and returns when its case has ended.
func (l *Requests) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.init()
	s := &served{w: w, control: http.NewResponseController(w), body: r.Body}
	conn := newCarried(func() {}, s.answer)
	// The request comes first, which the suite reads as that of HTTP/1.1; its answer is what begins the stream.
	request := r.Header.Clone()
	delete(request, ":protocol")
	request.Set("Host", r.Host)
	request.Set("Upgrade", "websocket")
	request.Set("Connection", "Upgrade")
	request.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	head := append([]byte("GET "+r.URL.RequestURI()+" HTTP/1.1\r\n"), headerBytes(request)...)
	select {
	case l.conns <- &asked{carried: conn, request: head}:
	case <-l.ended:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case <-r.Context().Done():
		return
	}
	<-conn.ended
	_ = s.Close()
}

// asked is a connection on which a request waits to be read.
type asked struct {
	*carried
	request []byte
}

func (a *asked) Read(b []byte) (int, error) {
	if len(a.request) > 0 {
		n := copy(b, a.request)
		a.request = a.request[n:]
		return n, nil
	}
	return a.carried.Read(b)
}

// served is a request that the suite answers.
type served struct {
	w       http.ResponseWriter
	control *http.ResponseController
	body    io.ReadCloser

	mu    sync.Mutex
	ended bool // the handler may return: nothing more is written
}

// answer takes the suite's answer, of which nothing is left to be read.
func (s *served) answer(head []byte) ([]byte, io.ReadWriteCloser, error) {
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), nil)
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, nil, net.ErrClosed
	}
	for _, name := range []string{"Sec-Websocket-Extensions", "Sec-Websocket-Protocol"} {
		if v := resp.Header[name]; len(v) > 0 {
			s.w.Header()[name] = v
		}
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		s.w.WriteHeader(resp.StatusCode)
		return nil, nil, errors.New("the client was refused")
	}
	s.w.WriteHeader(http.StatusOK)
	return nil, s, s.control.Flush()
}

func (s *served) Read(b []byte) (int, error) { return s.body.Read(b) }

// SetReadDeadline bounds the reads from now on.
func (s *served) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return net.ErrClosed
	}
	return s.control.SetReadDeadline(t)
}

// Close has nothing more written, and cuts off what is.
func (s *served) Close() error {
	if !s.mu.TryLock() {
		_ = s.control.SetWriteDeadline(time.Unix(1, 0))
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	s.ended = true
	return nil
}

func (s *served) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return 0, net.ErrClosed
	}
	n, err := s.w.Write(b)
	if err == nil {
		err = s.control.Flush()
	}
	return n, err
}
