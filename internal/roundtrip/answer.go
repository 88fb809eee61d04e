// answer.go lets an answer through that net/http would not: a 101 whose Connection has close beside Upgrade. net/http takes
// the field away and ends the connection, so the token has to go before it reads the answer.

package roundtrip

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"time"
)

// withoutClose has the answers on the connections that t dials come without the token close. What a proxy that is not for
// HTTP says comes ahead of them, so with one it has no effect.
func withoutClose(t *http.Transport) {
	if t.Proxy != nil {
		if proxy, err := t.Proxy(nil); err != nil || proxy != nil { // see RoundTrip: it is http.ProxyURL
			return
		}
	}
	limit := int(t.MaxResponseHeaderBytes)
	plain, config, timeout := plainDialer(t), t.TLSClientConfig, t.TLSHandshakeTimeout
	secure := secureDialer(t)
	if secure == nil {
		secure = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := plain(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				host = addr
			}
			return startTLS(ctx, conn, config, host, timeout)
		}
	}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return newAnswerConn(limit)(plain(ctx, network, addr))
	}
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return newAnswerConn(limit)(secure(ctx, network, addr))
	}
}

// answerConn is a connection whose first answer comes without the token close in Connection.
type answerConn struct {
	net.Conn
	limit  int    // of the answer's header, in bytes
	came   []byte // read from Conn, and not yet from here
	passed bool   // the answer has come, so all else is left as it is
}

func newAnswerConn(limit int) func(net.Conn, error) (net.Conn, error) {
	return func(conn net.Conn, err error) (net.Conn, error) {
		if err != nil || conn == nil {
			return nil, err
		}
		return &answerConn{Conn: conn, limit: limit}, nil
	}
}

// Unwrapped returns the connection below one that withoutClose has dialed, and any other as it is. What was read from it
// already comes from conn alone.
func Unwrapped(conn net.Conn) net.Conn {
	if c, ok := conn.(*answerConn); ok {
		return c.Conn
	}
	return conn
}

// Read reads what the peer has sent, the answer changed.
func (c *answerConn) Read(b []byte) (int, error) {
	if !c.passed {
		if err := c.readAnswer(); err != nil {
			c.passed = true
			if len(c.came) == 0 {
				return 0, err
			}
		}
	}
	if len(c.came) > 0 {
		n := copy(b, c.came)
		c.came = c.came[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// readAnswer reads until the header of the answer is there, behind those of interim answers, and changes it.
func (c *answerConn) readAnswer() error {
	chunk := make([]byte, 4<<10)
	for begin := 0; len(c.came) < c.limit; {
		if size := headSize(c.came[begin:]); size > 0 {
			head := c.came[begin : begin+size]
			if begin += size; isInterim(head) {
				continue
			}
			c.came = append(dropClose(head), c.came[begin:]...)
			break
		}
		n, err := c.Conn.Read(chunk)
		c.came = append(c.came, chunk[:n]...)
		if err != nil {
			return err
		}
	}
	c.passed = true
	return nil
}

// headSize returns how long the status line and the header are that b begins with, 0 if they are not whole.
func headSize(b []byte) int {
	for i := range b {
		if b[i] == '\n' && (bytes.HasPrefix(b[i+1:], []byte("\n")) || bytes.HasPrefix(b[i+1:], []byte("\r\n"))) {
			return i + 1 + bytes.IndexByte(b[i+1:], '\n') + 1
		}
	}
	return 0
}

// isInterim reports whether another answer follows (RFC 9110, section 15.2).
func isInterim(head []byte) bool {
	_, status, _ := bytes.Cut(head, []byte(" "))
	return bytes.HasPrefix(status, []byte("1")) && !bytes.HasPrefix(status, []byte("101"))
}

// dropClose returns the header without the token close in its Connection fields, unless they have no other.
func dropClose(head []byte) []byte {
	changed, left := make([]byte, 0, len(head)), false
	for line := range bytes.Lines(head) {
		name, value, isField := strings.Cut(string(line), ":")
		if !isField || !strings.EqualFold(name, "Connection") {
			changed = append(changed, line...)
			continue
		}
		var tokens []string
		for token := range strings.SplitSeq(value, ",") {
			if token = strings.TrimSpace(token); !strings.EqualFold(token, "close") {
				tokens = append(tokens, token)
			}
		}
		if len(tokens) > 0 {
			left = true
			changed = append(changed, name+": "+strings.Join(tokens, ", ")+"\r\n"...)
		}
	}
	if !left {
		return head
	}
	return changed
}

// startTLS begins TLS for a host over a connection, which it closes if that fails.
func startTLS(ctx context.Context, conn net.Conn, config *tls.Config, host string, timeout time.Duration) (net.Conn, error) {
	if config = config.Clone(); config == nil {
		config = new(tls.Config)
	}
	if config.ServerName == "" {
		config.ServerName = host
	}
	config.NextProtos = nil // HTTP/1.1 is spoken
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}
