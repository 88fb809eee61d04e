// Package roundtrip is how the request of a handshake travels: through net/http's transport, adapted, through proxies, and
// with the names of header fields as the caller spells them.
package roundtrip

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
)

// maxAnswerHeader bounds the header of an answer, from a server or a proxy, in bytes, if the transport has no bound of
// its own. It equals http.DefaultMaxHeaderBytes, which bounds requests.
const maxAnswerHeader = 1 << 20

// Transport adapts net/http's transport to a handshake: if an HTTP proxy is to be used, every request goes through
// a tunnel, and nothing is left behind. net/http goes on dialing for a request that has been given up, since another
// request may want the connection; here none does.
type Transport struct {
	// WithoutClose has an answer let through whose Connection has close beside Upgrade.
	WithoutClose bool

	caller *http.Transport   // only read
	used   []*http.Transport // one for each request
}

// NewTransport returns a Transport with the settings of another.
func NewTransport(caller *http.Transport) *Transport { return &Transport{caller: caller} }

// RoundTrip performs one request of a handshake.
func (h *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t := h.caller.Clone()
	t.DisableKeepAlives = true
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	if spells(req.Header, "Accept-Encoding") {
		t.DisableCompression = true // net/http would not see it unless its name is canonical, and add its own
	}
	if t.MaxResponseHeaderBytes == 0 {
		t.MaxResponseHeaderBytes = maxAnswerHeader
	}
	if t.Proxy != nil {
		proxy, err := t.Proxy(req)
		if err != nil {
			return nil, err
		}
		t.Proxy = http.ProxyURL(proxy) // the caller's function is asked once
		if proxy != nil && (proxy.Scheme == "http" || proxy.Scheme == "https") {
			t.Proxy = nil
			t.DialContext = tunnel{h.caller, proxy, t.MaxResponseHeaderBytes}.dial
			// These two are for servers reached without a proxy, and for the proxy itself.
			t.DialTLSContext = nil
			//lint:ignore SA1019 a caller may have set it
			t.DialTLS = nil
		}
	}
	if h.WithoutClose {
		withoutClose(t)
	}
	h.used = append(h.used, t)
	return t.RoundTrip(req)
}

// Close ends what is still being dialed.
func (h *Transport) Close() {
	for _, t := range h.used {
		t.CloseIdleConnections()
	}
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// plainDialer returns how t reaches a server or a proxy, and secureDialer how, with TLS, nil if t has no way of its own.
// The deprecated functions count too: a caller who sets one does not want it bypassed.
func plainDialer(t *http.Transport) dialFunc {
	switch {
	case t.DialContext != nil:
		return t.DialContext
	//lint:ignore SA1019 see above
	case t.Dial != nil:
		//lint:ignore SA1019 see above
		return withoutContext(t.Dial)
	}
	return new(net.Dialer).DialContext
}

func secureDialer(t *http.Transport) dialFunc {
	switch {
	case t.DialTLSContext != nil:
		return t.DialTLSContext
	//lint:ignore SA1019 see above
	case t.DialTLS != nil:
		//lint:ignore SA1019 see above
		return withoutContext(t.DialTLS)
	}
	return nil
}

func withoutContext(dial func(network, addr string) (net.Conn, error)) dialFunc {
	return func(_ context.Context, network, addr string) (net.Conn, error) { return dial(network, addr) }
}

// NotForHTTP1 is the problem with a connection over which only HTTP/2 is understood.
const NotForHTTP1 = "expected HTTP/1.1 to be agreed on by TLS, got h2: Dial speaks HTTP/1.1, so the dial function of " +
	"HTTPClient.Transport must not offer h2 (tls.Config.NextProtos)"

// IsForHTTP2 reports whether TLS has agreed on HTTP/2 for conn (RFC 7301).
func IsForHTTP2(conn net.Conn) bool {
	secure, ok := conn.(interface{ ConnectionState() tls.ConnectionState })
	return ok && secure.ConnectionState().NegotiatedProtocol == "h2"
}
