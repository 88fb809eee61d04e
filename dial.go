// dial.go is what a client asks for, wherever it runs: options, URLs, and the time that a handshake may take. dial_http.go
// carries the handshake out through net/http, dial_js.go through a browser.

package wsd

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/seed62836080/wsd/internal/done"
	"github.com/seed62836080/wsd/internal/quote"
	"github.com/seed62836080/wsd/internal/wsurl"
)

// DialOptions holds what a client asks for in a handshake, and the settings of its connection. The zero value and nil are
// safe defaults. It is only read, so one value may serve many calls at the same time.
type DialOptions struct {
	Config
	// HTTPClient performs the handshake, with its Jar, its CheckRedirect, its Timeout, and above all its Transport, which
	// is the place for a dial function (to a unix socket, say), a TLS configuration and a proxy. The client is only read.
	// Of an *http.Transport the settings are used, but not the pool. Only HTTP/1.1 is spoken: a dial function that does
	// TLS itself must not offer h2. Default http.DefaultClient.
	//
	// For ws URLs too, a proxy is asked for a tunnel with CONNECT, unless another RoundTripper wraps the *http.Transport:
	// see the package comment.
	HTTPClient *http.Client
	// Header is added to the request, with the names spelled as they are here, except Host, which replaces the URL's. It
	// cannot have fields that the handshake itself sets.
	Header http.Header
	// Subprotocols lists the subprotocols to ask for, preferred ones first. The server chooses one or none (RFC 6455,
	// section 1.9).
	Subprotocols []string
	// HandshakeTimeout bounds the handshake from dialing on, including redirects. Default 10 s; negative means no bound
	// other than the context and HTTPClient.Timeout.
	HandshakeTimeout time.Duration
}

// Dial opens a connection to a ws or wss URL, or an http or https URL, which mean the same (RFC 6455, section 4.1). User
// info in the URL becomes basic authentication, unless Header has an Authorization. A nil opts means the defaults. The
// response is the server's answer, without a body if the handshake succeeded.
//
// ctx bounds only the handshake. The error is a *HandshakeError, which has the answer too if there was one, or
// ErrNilContext. It matches context.DeadlineExceeded if HandshakeTimeout ended the handshake. The package comment says
// which redirects are followed. Under GOOS=js a browser dials (docs/browser.md).
func Dial(ctx context.Context, url string, opts *DialOptions) (*Conn, *http.Response, error) {
	if ctx == nil {
		return nil, nil, ErrNilContext
	}
	if opts == nil {
		opts = new(DialOptions)
	}
	return dial(ctx, url, opts)
}

// parseTarget turns the URL of a WebSocket (RFC 6455, section 3) into that of its handshake.
func parseTarget(rawURL string) (*url.URL, *HandshakeError) {
	target, err := wsurl.Parse(rawURL)
	switch {
	case target == nil:
		return nil, &HandshakeError{Problem: "expected a URL such as wss://example.com/path: " + err.Error()}
	case err != nil:
		return nil, &HandshakeError{Problem: err.Error() + " in the URL " + quote.Short(target.Redacted())}
	}
	normalize(target)
	return target, nil
}

// normalize turns u into what a handshake sends: with the scheme of HTTP, without a default port (RFC 6455, section 4.1),
// and with a query that cannot break the request line (RFC 3986, section 3.4), as url.Parse ensures for a path.
func normalize(u *url.URL) {
	u.Scheme = httpScheme(u.Scheme)
	if port := u.Port(); port == "" || port == wsurl.DefaultPort(u.Scheme) {
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	}
	var query strings.Builder
	for i := range len(u.RawQuery) {
		if c := u.RawQuery[i]; c <= ' ' || c >= 0x7F || strings.IndexByte(`"<>`, c) >= 0 {
			query.WriteString(url.PathEscape(u.RawQuery[i : i+1]))
		} else {
			query.WriteByte(c)
		}
	}
	u.RawQuery = query.String()
}

// httpScheme is the scheme of the handshake, which cookie jars and proxies go by.
func httpScheme(scheme string) string {
	switch scheme {
	case "ws":
		return "http"
	case "wss":
		return "https"
	}
	return scheme
}

// client returns the caller's client or the default.
func (o *DialOptions) client() *http.Client {
	if o.HTTPClient == nil {
		return http.DefaultClient
	}
	return o.HTTPClient
}

// timeout returns what bounds the handshake besides the context, 0 for nothing.
func (o *DialOptions) timeout() time.Duration {
	timeout := durationOr(o.HandshakeTimeout, defaultHandshakeTimeout)
	if t := o.client().Timeout; t > 0 && (timeout == 0 || t < timeout) {
		timeout = t
	}
	return timeout
}

// handshakeLimit is the context of a handshake. It ends with the caller's context or the timeout while the handshake is
// under way, and with neither once stop has been called, so that nothing below the connection notices them later.
type handshakeLimit struct {
	context.Context
	cancel context.CancelCauseFunc
	forget func() bool
	timer  *time.Timer // nil for none
}

type handshakeTimeoutError struct{ timeout time.Duration }

func (e handshakeTimeoutError) Error() string { return "no answer within " + e.timeout.String() }
func (e handshakeTimeoutError) Unwrap() error { return context.DeadlineExceeded }

func startHandshakeLimit(ctx context.Context, timeout time.Duration) *handshakeLimit {
	l := new(handshakeLimit)
	l.Context, l.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	if timeout > 0 {
		l.timer = time.AfterFunc(timeout, func() { l.cancel(handshakeTimeoutError{timeout}) })
	}
	l.forget = context.AfterFunc(ctx, func() { l.cancel(done.Why(ctx)) })
	return l
}

// stop ends the limit, and returns what ended the handshake before, if anything did.
func (l *handshakeLimit) stop() error {
	late := l.timer != nil && !l.timer.Stop()
	if !l.forget() || late {
		<-l.Done() // the cancellation is under way
	}
	return context.Cause(l.Context)
}
