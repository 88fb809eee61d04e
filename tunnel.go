// tunnel.go takes ws URLs through HTTP proxies with CONNECT (RFC 6455, section 4.1), as net/http does for https only.
package wsd

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// maxProxyAnswer bounds a proxy's answer to CONNECT, in bytes, where the transport has no bound of its own.
const maxProxyAnswer = 1 << 20

// tunnelTransport is net/http's transport, but that plain requests go through a tunnel too where a proxy is to be used.
type tunnelTransport struct{ *http.Transport }

// RoundTrip performs one request of a handshake.
func (t tunnelTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "http" {
		return t.Transport.RoundTrip(req)
	}
	proxy, err := t.Proxy(req)
	if err != nil {
		return nil, err
	}
	if proxy == nil || proxy.Scheme != "http" && proxy.Scheme != "https" {
		return t.Transport.RoundTrip(req)
	}
	tunneled := t.Clone()
	tunneled.Proxy = nil
	tunneled.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := t.dialTunnel(ctx, network, addr, proxy)
		if err != nil {
			return nil, fmt.Errorf("proxy %s: %w", proxy.Host, err)
		}
		return conn, nil
	}
	// The clone has a pool of its own, which nobody would ever empty.
	tunneled.DisableKeepAlives = true
	return tunneled.RoundTrip(req)
}

// dialTunnel connects to addr through proxy.
func (t tunnelTransport) dialTunnel(ctx context.Context, network, addr string, proxy *url.URL) (net.Conn, error) {
	conn, err := t.dialProxy(ctx, network, proxy)
	if err != nil {
		return nil, err
	}
	forget := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err = t.connect(ctx, conn, addr, proxy)
	if !forget() {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// dialProxy connects to the proxy itself, as the caller's transport has it.
func (t tunnelTransport) dialProxy(ctx context.Context, network string, proxy *url.URL) (net.Conn, error) {
	port := proxy.Port()
	if port == "" {
		port = defaultPort(proxy.Scheme)
	}
	addr := net.JoinHostPort(proxy.Hostname(), port)
	if proxy.Scheme == "https" && t.DialTLSContext != nil {
		return t.DialTLSContext(ctx, network, addr)
	}
	dial := t.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, network, addr)
	if err != nil || proxy.Scheme != "https" {
		return conn, err
	}
	config := t.TLSClientConfig.Clone()
	if config == nil {
		config = new(tls.Config)
	}
	if config.ServerName == "" {
		config.ServerName = proxy.Hostname()
	}
	config.NextProtos = nil // CONNECT is spoken over HTTP/1.1
	secure := tls.Client(conn, config)
	if t.TLSHandshakeTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.TLSHandshakeTimeout)
		defer cancel()
	}
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// connect asks a proxy for a tunnel to addr (RFC 9110, section 9.3.6).
func (t tunnelTransport) connect(ctx context.Context, conn net.Conn, addr string, proxy *url.URL) error {
	header := t.ProxyConnectHeader
	if t.GetProxyConnectHeader != nil {
		var err error
		if header, err = t.GetProxyConnectHeader(ctx, proxy, addr); err != nil {
			return err
		}
	}
	if header = header.Clone(); header == nil {
		header = make(http.Header)
	}
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		header.Set("Proxy-Authorization", "Basic "+credentials)
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: header}
	if err := req.Write(conn); err != nil {
		return err
	}
	limit := t.MaxResponseHeaderBytes
	if limit <= 0 {
		limit = maxProxyAnswer
	}
	answer := bufio.NewReader(io.LimitReader(conn, limit))
	resp, err := http.ReadResponse(answer, req)
	if err != nil {
		return err
	}
	if t.OnProxyConnectResponse != nil {
		if err := t.OnProxyConnectResponse(ctx, proxy, req, resp); err != nil {
			return err
		}
	}
	if resp.StatusCode/100 != 2 {
		return errors.New("expected a status 2xx for CONNECT, got " + quoted(resp.Status))
	}
	if answer.Buffered() > 0 {
		// The server behind the tunnel has not been asked anything yet.
		return errors.New("bytes came behind the answer to CONNECT")
	}
	return nil
}
