// What carries a connection in another way than TCP and HTTP/1.1, such as a stream of HTTP/2 or HTTP/3: a server is reached by
// an http.RoundTripper, and clients come by Requests. The suite says what it does over HTTP/1.1 all the same, which is
// translated here.

package suite

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// A carried connection is one whose handshake has another form below. What is written up to the end of the first header goes
// to begin, which returns what is to be read in its place and the stream that follows; then bytes pass as they are.
type carried struct {
	begin func(head []byte) (answer []byte, stream io.ReadWriteCloser, err error)
	head  []byte        // as far as it was written; only Write uses it
	begun chan struct{} // closed by Write once the fields below are set
	stop  func()        // ends a begin that goes on

	answer []byte // what was not read of it
	stream io.ReadWriteCloser
	err    error // why there is no stream

	mu       sync.Mutex
	deadline time.Time
	over     bool
	ended    chan struct{} // closed by Close
}

func newCarried(stop func(), begin func([]byte) ([]byte, io.ReadWriteCloser, error)) *carried {
	return &carried{begin: begin, stop: stop, begun: make(chan struct{}), ended: make(chan struct{})}
}

// hasBegun reports whether the handshake is behind it.
func (c *carried) hasBegun() bool {
	select {
	case <-c.begun:
		return true
	default:
		return false
	}
}

func (c *carried) Write(b []byte) (int, error) {
	written := len(b)
	if !c.hasBegun() {
		c.head = append(c.head, b...)
		end := bytes.Index(c.head, []byte("\r\n\r\n"))
		if end < 0 {
			return written, nil
		}
		b = c.head[end+4:]
		c.answer, c.stream, c.err = c.begin(c.head[:end+4])
		close(c.begun)
		c.mu.Lock()
		over := c.over
		c.mu.Unlock()
		if over && c.stream != nil {
			_ = c.stream.Close()
		}
	}
	if c.stream == nil {
		return 0, errors.Join(c.err, net.ErrClosed)
	}
	if len(b) == 0 {
		return written, nil
	}
	if _, err := c.stream.Write(b); err != nil {
		return 0, err
	}
	return written, nil
}

func (c *carried) Read(b []byte) (int, error) {
	if !c.hasBegun() {
		c.mu.Lock()
		deadline := c.deadline
		c.mu.Unlock()
		wait := time.NewTimer(time.Until(deadline))
		defer wait.Stop()
		select {
		case <-c.begun:
			c.SetReadDeadline(deadline)
		case <-c.ended:
			return 0, net.ErrClosed
		case <-wait.C:
			return 0, os.ErrDeadlineExceeded
		}
	}
	if len(c.answer) > 0 {
		n := copy(b, c.answer)
		c.answer = c.answer[n:]
		return n, nil
	}
	if c.stream == nil {
		return 0, errors.Join(c.err, io.EOF)
	}
	n, err := c.stream.Read(b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
		err = &net.OpError{Op: "read", Net: "stream", Err: err} // as TCP says that it was reset
	}
	return n, err
}

// SetReadDeadline bounds the reads from now on.
func (c *carried) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	c.mu.Unlock()
	if !c.hasBegun() {
		return nil
	}
	switch s := c.stream.(type) {
	case interface{ SetReadDeadline(time.Time) error }:
		return s.SetReadDeadline(t)
	case interface{ SetDeadline(time.Time) error }:
		return s.SetDeadline(t)
	}
	return nil
}

// CloseWrite ends what the suite sends.
func (c *carried) CloseWrite() error {
	if half, ok := c.stream.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (c *carried) Close() error {
	c.mu.Lock()
	again := c.over
	c.over = true
	c.mu.Unlock()
	if again {
		return nil
	}
	close(c.ended)
	c.stop()
	if c.hasBegun() && c.stream != nil {
		return c.stream.Close()
	}
	return nil
}

// The rest of a net.Conn is not used.

func (c *carried) LocalAddr() net.Addr              { return carriedAddr{} }
func (c *carried) RemoteAddr() net.Addr             { return carriedAddr{} }
func (c *carried) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *carried) SetWriteDeadline(time.Time) error { return nil }

type carriedAddr struct{}

func (carriedAddr) Network() string { return "stream" }
func (carriedAddr) String() string  { return "a stream" }

// carry returns a connection whose handshake transport performs, with the server at a URL.
func carry(ctx context.Context, transport http.RoundTripper, server *url.URL) net.Conn {
	ctx, stop := context.WithCancel(ctx)
	return newCarried(stop, func(head []byte) ([]byte, io.ReadWriteCloser, error) {
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
		if err != nil {
			return nil, nil, err
		}
		req.URL = &url.URL{Scheme: strings.Replace(server.Scheme, "ws", "http", 1), Host: server.Host, Path: server.Path, RawQuery: server.RawQuery}
		req.RequestURI, req.Body = "", nil
		resp, err := transport.RoundTrip(req.WithContext(ctx))
		if err != nil {
			return nil, nil, err
		}
		answer := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n", resp.StatusCode, http.StatusText(resp.StatusCode))
		stream, upgraded := resp.Body.(io.ReadWriteCloser)
		if !upgraded || resp.StatusCode != http.StatusSwitchingProtocols {
			_ = resp.Body.Close()
			resp.Header.Set("Content-Length", "0")
			stream = nil
		}
		return append(answer, headerBytes(resp.Header)...), stream, nil
	})
}

func headerBytes(h http.Header) []byte {
	var b bytes.Buffer
	_ = h.Write(&b)
	b.WriteString("\r\n")
	return b.Bytes()
}
