// tunnel.go takes connections through HTTP proxies with CONNECT (RFC 6455, section 4.1). net/http does that for https
// only, and its error is then the proxy's own text, or none.

package roundtrip

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/seed62836080/wsd/internal/quote"
	"github.com/seed62836080/wsd/internal/wsurl"
)

// tunnel dials through a proxy.
type tunnel struct {
	*http.Transport
	proxy *url.URL
	limit int64 // of the header of the proxy's answer, in bytes
}

// Through returns a dial function that goes through an HTTP proxy, which it reaches with the settings of caller.
func Through(caller *http.Transport, proxy *url.URL) func(ctx context.Context, network, addr string) (net.Conn, error) {
	limit := caller.MaxResponseHeaderBytes
	if limit == 0 {
		limit = maxAnswerHeader
	}
	return tunnel{caller, proxy, limit}.dial
}

// dial connects to addr through the proxy.
func (t tunnel) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := t.dialProxy(ctx, network)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", t.proxy.Host, err)
	}
	forget := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err = t.connect(ctx, conn, addr)
	if !forget() {
		err = context.Cause(ctx)
	}
	if err != nil {
		if IsForHTTP2(conn) {
			err = fmt.Errorf("%s: %w", NotForHTTP1, err)
		}
		_ = conn.Close()
		return nil, fmt.Errorf("proxy %s: %w", t.proxy.Host, err)
	}
	return conn, nil
}

// dialProxy connects to the proxy itself, with the settings of the caller's transport.
func (t tunnel) dialProxy(ctx context.Context, network string) (net.Conn, error) {
	port := t.proxy.Port()
	if port == "" {
		port = wsurl.DefaultPort(t.proxy.Scheme)
	}
	addr := net.JoinHostPort(t.proxy.Hostname(), port)
	dial, ready := t.dialer()
	conn, err := dial(ctx, network, addr)
	switch {
	case err != nil:
		return nil, err
	case conn == nil: // net/http checks its callers' functions for that too
		return nil, errors.New("expected a connection from the transport's dial function, got none")
	case ready:
		return conn, nil
	}
	return startTLS(ctx, conn, t.TLSClientConfig, t.proxy.Hostname(), t.TLSHandshakeTimeout)
}

// dialer returns how the caller's transport reaches the proxy, and whether TLS, if the proxy speaks it, is done by then.
func (t tunnel) dialer() (dial dialFunc, ready bool) {
	if t.proxy.Scheme != "https" {
		return plainDialer(t.Transport), true
	}
	if dial = secureDialer(t.Transport); dial != nil {
		return dial, true
	}
	return plainDialer(t.Transport), false
}

// connect asks a proxy for a tunnel to addr (RFC 9110, section 9.3.6).
func (t tunnel) connect(ctx context.Context, conn net.Conn, addr string) error {
	header := t.ProxyConnectHeader
	if t.GetProxyConnectHeader != nil {
		var err error
		if header, err = t.GetProxyConnectHeader(ctx, t.proxy, addr); err != nil {
			return err
		}
	}
	if header = header.Clone(); header == nil {
		header = make(http.Header)
	}
	if user := t.proxy.User; user != nil {
		password, _ := user.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		header.Set("Proxy-Authorization", "Basic "+credentials)
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: header}
	if err := req.Write(conn); err != nil {
		return err
	}
	limited := &io.LimitedReader{R: conn, N: t.limit}
	answer := bufio.NewReader(limited)
	var resp *http.Response
	// Interim answers may come ahead of the final one, asked for or not (RFC 9110, section 15.2).
	for interim := true; interim; interim = resp.StatusCode/100 == 1 && resp.StatusCode != http.StatusSwitchingProtocols {
		var err error
		if resp, err = http.ReadResponse(answer, req); err != nil {
			if limited.N == 0 {
				return fmt.Errorf("expected an answer to CONNECT of at most %d bytes, got more", t.limit)
			}
			return err
		}
	}
	if t.OnProxyConnectResponse != nil {
		if err := t.OnProxyConnectResponse(ctx, t.proxy, req, resp); err != nil {
			return err
		}
	}
	if resp.StatusCode/100 != 2 {
		return errors.New("expected a status 2xx for CONNECT, got " + quote.Short(resp.Status))
	}
	if answer.Buffered() > 0 {
		// The server at the other end of the tunnel has not been asked anything yet.
		return errors.New("bytes came behind the answer to CONNECT")
	}
	return nil
}
