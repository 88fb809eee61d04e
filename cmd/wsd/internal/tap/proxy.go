// proxy.go passes connections on, byte by byte.

package tap

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/seed62836080/wsd/cmd/wsd/internal/client"
)

// handshakeTime bounds how long a request, and an answer, may take.
const handshakeTime = 30 * time.Second

// proxy is the verb at work.
type proxy struct {
	target   *url.URL
	security *tls.Config // towards the target
	keepHost bool
	sinks    *sinks

	mu   sync.Mutex // guards all below
	last int        // the number of the last connection
}

// serve takes connections until ctx is done, and waits until all are over.
func (p *proxy) serve(ctx context.Context, listener net.Listener) error {
	var connections sync.WaitGroup
	defer connections.Wait()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	for {
		raw, err := listener.Accept()
		switch {
		case err == nil:
			connections.Go(func() { p.connection(ctx, raw) })
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // too many open files, say
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

func (p *proxy) number() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	return p.last
}

// connection passes one connection on.
func (p *proxy) connection(ctx context.Context, raw net.Conn) {
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { interrupt(raw) })
	defer stop()
	_ = raw.SetReadDeadline(time.Now().Add(handshakeTime))
	from := bufio.NewReaderSize(raw, maxHead)
	request, err := readHead(from)
	if err != nil {
		return // somebody who asks for nothing
	}
	_ = raw.SetReadDeadline(time.Time{})
	if ctx.Err() != nil {
		return
	}
	upgrades := request.upgrades()
	if err := request.direct(p.target, p.keepHost); err != nil {
		answer(raw, "400 Bad Request", err.Error())
		return
	}
	if !upgrades {
		request.close() // so that the next request comes on a connection of its own, and is directed, too
	}
	server, err := p.dial(ctx)
	if err != nil {
		answer(raw, "502 Bad Gateway", "wsd tap cannot connect to "+p.target.Host+": "+client.Describe(err))
		p.sinks.problem(raw.RemoteAddr().String(), client.Describe(err))
		return
	}
	defer server.Close()
	stopServer := context.AfterFunc(ctx, func() { interrupt(server) })
	defer stopServer()
	if _, err := io.WriteString(server, request.String()); err != nil {
		answer(raw, "502 Bad Gateway", "wsd tap: "+err.Error())
		return
	}
	back := bufio.NewReaderSize(server, maxHead)
	if !upgrades {
		relay(raw, from, server, back, nil, nil)
		return
	}
	response, err := p.answer(raw, server, back)
	if err != nil {
		p.sinks.problem(raw.RemoteAddr().String(), "no answer to the handshake: "+err.Error())
		return
	}
	o := newObserver(p.sinks, p.number(), raw.RemoteAddr().String(), request, response)
	if response.status() != 101 {
		relay(raw, from, server, back, nil, nil)
		o.end("")
		return
	}
	problem := relay(raw, from, server, back, o.client.feed, o.server.feed)
	if ctx.Err() != nil {
		problem = "wsd tap was interrupted"
		goodbye(raw, o.server, false)
		goodbye(server, o.client, true)
	}
	o.end(problem)
}

// interrupt ends the reading of a connection, so that its last bytes can still be written.
func interrupt(conn net.Conn) { _ = conn.SetReadDeadline(time.Unix(1, 0)) }

// goodbye closes one end with the closing handshake, 1001, as far as what was passed on to it ended with a frame.
func goodbye(to net.Conn, d *direction, masked bool) {
	if d.reader.cut() != "" || d.reader.lost {
		return
	}
	frame := []byte{0x88, 2, 0x03, 0xe9}
	if masked {
		frame = []byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9} // a key of zeros hides nothing, and nothing is secret here
	}
	_ = to.SetDeadline(time.Now().Add(goodbyeTime))
	if _, err := to.Write(frame); err != nil {
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok && !masked {
		_ = half.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, to) // its close frame, and the end of its bytes
}

// goodbyeTime bounds each end's part of that.
const goodbyeTime = time.Second

// answer passes the answer to a handshake on. Informational ones come before it.
func (p *proxy) answer(raw, server net.Conn, back *bufio.Reader) (*head, error) {
	_ = server.SetReadDeadline(time.Now().Add(handshakeTime))
	for {
		response, err := readHead(back)
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(raw, response.String()); err != nil {
			return nil, err
		}
		if status := response.status(); status == 101 || status < 100 || status > 199 {
			_ = server.SetReadDeadline(time.Time{})
			return response, nil
		}
	}
}

func answer(w io.Writer, status, text string) {
	text += "\n"
	fmt.Fprintf(w, "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, len(text), text)
}

func (p *proxy) dial(ctx context.Context) (net.Conn, error) {
	host, port := p.target.Hostname(), p.target.Port()
	secure := p.target.Scheme == "wss" || p.target.Scheme == "https"
	if port == "" {
		port = map[bool]string{false: "80", true: "443"}[secure]
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	address := net.JoinHostPort(host, port)
	if secure {
		config := p.security.Clone()
		config.NextProtos = []string{"http/1.1"}
		return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// relay passes bytes both ways until both directions have ended, and returns what went wrong. The functions are shown bytes
// before they are passed on, so that an answer is seen behind what it answers.
func relay(a net.Conn, fromA *bufio.Reader, b net.Conn, fromB *bufio.Reader, seenA, seenB func([]byte)) string {
	var way sync.WaitGroup
	var problems [2]string
	way.Go(func() { problems[0] = pass(b, fromA, a, seenA, "the client's") })
	way.Go(func() { problems[1] = pass(a, fromB, b, seenB, "the server's") })
	way.Wait()
	return strings.TrimPrefix(strings.Join(problems[:], ", "), ", ")
}

// pass passes one direction on, with its end: an end of bytes as such, a reset as a reset.
func pass(to net.Conn, from *bufio.Reader, source net.Conn, seen func([]byte), whose string) (problem string) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if seen != nil {
				seen(buffer[:n]) // ahead of what answers it
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				source.Close() // nobody takes what it sends
				return ""
			}
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) {
			if half, ok := to.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
			return ""
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return "" // this program was interrupted
		}
		if tcp, ok := to.(*net.TCPConn); ok && !errors.Is(err, net.ErrClosed) {
			_ = tcp.SetLinger(0)
			problem = whose + " end was reset"
		}
		to.Close()
		return problem
	}
}
