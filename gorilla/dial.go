//go:build !js

// dial.go is the client's side of the handshake.

package websocket

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/seed62836080/wsd"
)

// Dialer opens connections to servers. It is safe for concurrent use.
type Dialer struct {
	// NetDial makes network connections. Default: that of the net package.
	NetDial func(network, addr string) (net.Conn, error)
	// NetDialContext is used instead of NetDial, if it is set.
	NetDialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// NetDialTLSContext makes network connections for wss URLs and does the TLS handshake too: TLSClientConfig is then not
	// used. It is not used through a proxy.
	NetDialTLSContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Proxy returns the proxy for a request, or nil for none. Default: none.
	Proxy func(*http.Request) (*url.URL, error)
	// TLSClientConfig is the configuration of TLS. Default: that of package tls.
	TLSClientConfig *tls.Config
	// HandshakeTimeout bounds the handshake, from dialing on. Zero means no bound, and a negative one has passed.
	HandshakeTimeout time.Duration
	// ReadBufferSize is not used, and WriteBufferSize is how long a message of NextWriter may be to become one frame, if it
	// is above 32 KiB: connections borrow memory while they need some.
	ReadBufferSize, WriteBufferSize int
	// WriteBufferPool is not used, for the same reason.
	WriteBufferPool BufferPool
	// Subprotocols lists the subprotocols to ask for, preferred ones first.
	Subprotocols []string
	// EnableCompression asks for messages to be compressed, each on its own (RFC 7692).
	EnableCompression bool
	// Jar has the cookies that are sent, and takes those of the answer. Default: none.
	Jar http.CookieJar
}

// DefaultDialer is a Dialer that uses the proxy of the environment and gives a handshake 45 seconds.
var DefaultDialer = &Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: 45 * time.Second}

// Dial is DialContext without a context.
func (d *Dialer) Dial(urlStr string, requestHeader http.Header) (*Conn, *http.Response, error) {
	return d.DialContext(context.Background(), urlStr, requestHeader)
}

// DialContext opens a connection to a ws or wss URL. requestHeader is added to the request, for Origin, cookies or Host, and
// may be nil. ctx bounds the handshake alone.
//
// If the answer does not complete the handshake, the error is ErrBadHandshake, and the answer is returned with it: its body
// can be read, up to 64 KiB, and need not be closed. Redirects are not followed.
func (d *Dialer) DialContext(ctx context.Context, urlStr string, requestHeader http.Header) (*Conn, *http.Response, error) {
	if d == nil {
		d = &Dialer{}
	}
	target, err := url.Parse(urlStr)
	if err != nil {
		return nil, nil, err
	}
	if target.Scheme != "ws" && target.Scheme != "wss" || target.User != nil {
		return nil, nil, errMalformedURL
	}
	opts, err := d.options(target, requestHeader)
	if err != nil {
		return nil, nil, err
	}
	withoutFragment, _, _ := strings.Cut(urlStr, "#")
	conn, resp, err := wsd.Dial(ctx, withoutFragment, opts)
	if err != nil {
		return nil, resp, dialError(resp, err)
	}
	return newConn(conn, d.WriteBufferSize), resp, nil
}

// options returns what wsd needs for a dial.
func (d *Dialer) options(target *url.URL, h http.Header) (*wsd.DialOptions, error) {
	opts := &wsd.DialOptions{
		HTTPClient: d.client(target), Header: make(http.Header, len(h)),
		Subprotocols: d.Subprotocols, HandshakeTimeout: d.HandshakeTimeout,
	}
	setOptions(&opts.Config, d.EnableCompression)
	switch {
	case d.HandshakeTimeout == 0:
		opts.HandshakeTimeout = -1
	case d.HandshakeTimeout < 0:
		opts.HandshakeTimeout = 1 // it has passed
	}
	for name, values := range h {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case canonical == "Sec-Websocket-Protocol" && len(d.Subprotocols) == 0:
			opts.Subprotocols = list(values)
		case strings.HasPrefix(canonical, "Sec-Websocket-"), canonical == "Upgrade", canonical == "Connection":
			return nil, errors.New("websocket: duplicate header not allowed: " + canonical)
		default:
			opts.Header[name] = values
		}
	}
	return opts, nil
}

// list returns the elements of a header field's comma-separated list, each once.
func list(values []string) (elements []string) {
	for _, value := range values {
		for element := range strings.SplitSeq(value, ",") {
			if element = strings.TrimSpace(element); element != "" && !slices.Contains(elements, element) {
				elements = append(elements, element)
			}
		}
	}
	return elements
}

// client returns what performs the handshake.
func (d *Dialer) client(target *url.URL) *http.Client {
	transport := &http.Transport{Proxy: d.Proxy, TLSClientConfig: d.TLSClientConfig, DialContext: d.NetDialContext, DialTLSContext: d.NetDialTLSContext}
	if d.NetDialContext == nil && d.NetDial != nil {
		transport.DialContext = func(_ context.Context, network, addr string) (net.Conn, error) { return d.NetDial(network, addr) }
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if d.Jar != nil {
		client.Jar = &targetJar{d.Jar, target}
	}
	return client
}

// targetJar has the cookies of the host that is dialed, whatever host the request's header names.
type targetJar struct {
	http.CookieJar
	target *url.URL
}

// Cookies returns those to send.
func (j *targetJar) Cookies(u *url.URL) []*http.Cookie { return j.CookieJar.Cookies(j.at(u)) }

// SetCookies takes those of the answer.
func (j *targetJar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	j.CookieJar.SetCookies(j.at(u), cookies)
}

// at is u at the host that is dialed.
func (j *targetJar) at(u *url.URL) *url.URL {
	there := *u
	there.Host = j.target.Host
	return &there
}

// dialError returns the error of a dial that failed.
func dialError(resp *http.Response, err error) error {
	if resp != nil {
		return ErrBadHandshake
	}
	var failed *wsd.HandshakeError
	if !errors.As(err, &failed) {
		return err
	}
	switch {
	case failed.Err == nil:
		return errors.New("websocket: " + failed.Problem)
	case errors.Is(failed.Err, context.DeadlineExceeded):
		return &lateError{failed.Err}
	}
	return failed.Err
}

// lateError is a net.Error for a handshake that took too long.
type lateError struct{ cause error }

func (e *lateError) Error() string   { return "websocket: handshake: " + e.cause.Error() }
func (e *lateError) Timeout() bool   { return true }
func (e *lateError) Temporary() bool { return true }
func (e *lateError) Unwrap() error   { return e.cause }

// NewClient performs a handshake over a network connection that exists. The sizes are those of a Dialer.
//
// Deprecated: use a Dialer with NetDial.
func NewClient(netConn net.Conn, u *url.URL, requestHeader http.Header, readBufSize, writeBufSize int) (c *Conn, response *http.Response, err error) {
	d := Dialer{
		ReadBufferSize: readBufSize, WriteBufferSize: writeBufSize,
		NetDial: func(string, string) (net.Conn, error) { return netConn, nil },
	}
	return d.Dial(u.String(), requestHeader)
}
