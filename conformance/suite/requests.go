// Clients that come by requests of HTTP/2 or HTTP/3.

package suite

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"sync"
)

// Requests is a listener for [JudgeClients] whose clients come over HTTP/2 or HTTP/3, by extended CONNECT (RFC 8441, RFC
// 9220), to a server that calls Serve. The zero value is ready for use.
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

// Serve hands the client that has sent r to JudgeClients, and returns when its case has ended. It calls answer at most once,
// with what is to be answered. For the status 200, answer returns the stream behind it, which Serve closes. That needs a
// SetReadDeadline, and a CloseWrite that ends what the suite sends and lets it read on: http.Handlers of net/http have none
// over HTTP/2, http3.HTTPStreamer gives one over HTTP/3. Write must return once Close is called.
func (l *Requests) Serve(r *http.Request, answer func(status int, header http.Header) (io.ReadWriteCloser, error)) {
	l.init()
	a := &answering{answer: answer}
	conn := newCarried(func() {}, a.begin)
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
		<-conn.ended
		a.end()
	case <-l.ended:
		_, _ = answer(http.StatusServiceUnavailable, http.Header{})
	case <-r.Context().Done():
	}
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

// answering is how a request is answered, which is over when Serve returns.
type answering struct {
	answer func(int, http.Header) (io.ReadWriteCloser, error)

	mu   sync.Mutex // held while answer runs
	over bool
}

func (a *answering) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
}

// begin takes the suite's answer, of which nothing is left to be read.
func (a *answering) begin(head []byte) ([]byte, io.ReadWriteCloser, error) {
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), nil)
	if err != nil {
		return nil, nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return nil, nil, net.ErrClosed
	}
	for _, name := range []string{"Connection", "Upgrade", "Sec-Websocket-Accept"} { // which are of HTTP/1.1
		resp.Header.Del(name)
	}
	status := resp.StatusCode
	if status == http.StatusSwitchingProtocols {
		status = http.StatusOK
	}
	stream, err := a.answer(status, resp.Header)
	return nil, stream, err
}
