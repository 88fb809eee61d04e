// Package roundtrip is how the request of a handshake travels: through net/http's transport, adapted, through proxies, and
// with the names of header fields as the caller spells them.
package roundtrip

import (
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
	h.used = append(h.used, t)
	return t.RoundTrip(req)
}

// Close ends what is still being dialed.
func (h *Transport) Close() {
	for _, t := range h.used {
		t.CloseIdleConnections()
	}
}

// NotForHTTP1 is the problem with a connection over which only HTTP/2 is understood.
const NotForHTTP1 = "expected HTTP/1.1 to be agreed on by TLS, got h2: Dial speaks HTTP/1.1, so the dial function of " +
	"HTTPClient.Transport must not offer h2 (tls.Config.NextProtos)"

// IsForHTTP2 reports whether TLS has agreed on HTTP/2 for conn (RFC 7301).
func IsForHTTP2(conn net.Conn) bool {
	secure, ok := conn.(interface{ ConnectionState() tls.ConnectionState })
	return ok && secure.ConnectionState().NegotiatedProtocol == "h2"
}
