// dial.go makes the TCP connections: directly or through a proxy, with TLS or without.

package h2

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"

	"github.com/seed62836080/wsd/internal/roundtrip"
)

// addressOf returns the address of a URL's server.
func addressOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// dialRaw returns a connection on which HTTP/2 can begin.
func dialRaw(ctx context.Context, base *http.Transport, key hostKey, proxy *url.URL) (net.Conn, error) {
	if key.scheme == "https" && proxy == nil && base.DialTLSContext != nil {
		conn, err := base.DialTLSContext(ctx, "tcp", key.address)
		if err != nil {
			return nil, err
		}
		return checkAgreed(conn)
	}
	dial := new(net.Dialer).DialContext
	switch {
	case proxy != nil:
		dial = roundtrip.Through(base, proxy)
	case base.DialContext != nil:
		dial = base.DialContext
	}
	conn, err := dial(ctx, "tcp", key.address)
	switch {
	case err != nil:
		return nil, err
	case conn == nil:
		return nil, errors.New("h2: expected a connection from the transport's dial function, got none")
	case key.scheme != "https":
		return conn, nil
	}
	return secure(ctx, base, conn, key.address)
}

// secure does TLS, and offers HTTP/2 (RFC 9113, section 3.2).
func secure(ctx context.Context, base *http.Transport, conn net.Conn, address string) (net.Conn, error) {
	config := base.TLSClientConfig.Clone()
	if config == nil {
		config = new(tls.Config)
	}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	config.NextProtos = []string{"h2", "http/1.1"}
	if base.TLSHandshakeTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, base.TLSHandshakeTimeout)
		defer cancel()
	}
	over := tls.Client(conn, config)
	if err := over.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return checkAgreed(over)
}

// checkAgreed keeps a connection for which HTTP/2 was agreed on.
func checkAgreed(conn net.Conn) (net.Conn, error) {
	if !roundtrip.IsForHTTP2(conn) {
		_ = conn.Close()
		return nil, errNotHTTP2
	}
	return conn, nil
}
