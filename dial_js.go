// dial_js.go is the client's side of the opening handshake where a browser has the network: the browser carries it out, and
// the connection is one over its WebSocket. What a browser cannot do is refused here.

package wsd

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/seed62836080/wsd/internal/browser"
)

// defaultBrowserQueue is how many bytes the browser may hold for the network, if SendQueue does not say. It tells nobody when that
// becomes less, so more of them than a queue's own keep it busy until the next look.
const defaultBrowserQueue = 1 << 20

// dial is Dial through a browser.
func dial(ctx context.Context, rawURL string, opts *DialOptions) (*Conn, *http.Response, error) {
	target, problem := opts.browserTarget(rawURL)
	if problem != nil {
		return nil, nil, problem
	}
	limit := startHandshakeLimit(ctx, opts.timeout())
	sendMost := limitOr(opts.SendQueue, defaultBrowserQueue)
	socket, err := browser.Open(limit, target.String(), target.Host, opts.Subprotocols, sendMost)
	if ended := limit.stop(); ended != nil {
		if socket != nil {
			_ = socket.Close()
		}
		return nil, nil, &HandshakeError{Problem: "given up", Err: ended}
	}
	if err != nil {
		limit.cancel(context.Canceled)
		if refused := (*browser.ArgumentError)(nil); errors.As(err, &refused) {
			return nil, nil, &HandshakeError{Problem: "the browser makes no WebSocket: " + refused.Problem}
		}
		return nil, nil, &HandshakeError{Problem: "the browser got no connection", Err: err}
	}
	agreed := agreement{subprotocol: socket.Subprotocol(), extensions: socket.Extensions()}
	agreed.response = browserResponse(&agreed)
	cfg := opts.Config
	cfg.Compression = nil // it is the browser's, as is the keepalive
	cfg.PingInterval = -1
	cfg.MaxFrameSize = -1 // the browser sends whole messages
	c := newPlainConn(socket, ClientRole, &cfg, &agreed)
	socket.Serve(browser.Hooks{Overflow: c.ending.failOverflown, Progress: c.transport.NoteProgress, Closing: c.ending.browserCode})
	c.start(nil, OpenedInfo{Response: agreed.response})
	return c, agreed.response, nil
}

// browserTarget returns the URL for a browser, if it can do all that the options ask for.
func (o *DialOptions) browserTarget(rawURL string) (*url.URL, *HandshakeError) {
	target, problem := parseTarget(rawURL)
	if problem != nil {
		return nil, problem
	}
	if problem := checkSubprotocols(o.Subprotocols, isToken); problem != nil {
		return nil, problem
	}
	cannot := func(field, why string) (*url.URL, *HandshakeError) {
		return nil, &HandshakeError{Problem: field + ": " + why, Err: errors.ErrUnsupported}
	}
	client := o.HTTPClient
	switch {
	case target.User != nil:
		return cannot("user info in the URL", "a browser sends none")
	case len(o.Header) > 0:
		return cannot("DialOptions.Header", "a browser sends no header fields for a program")
	case client != nil && client.Transport != nil:
		return cannot("HTTPClient.Transport", "a browser uses its own")
	case client != nil && client.Jar != nil:
		return cannot("HTTPClient.Jar", "a browser uses its own cookies")
	case client != nil && client.CheckRedirect != nil:
		return cannot("HTTPClient.CheckRedirect", "a browser follows no redirects")
	}
	target.Scheme = map[string]string{"http": "ws", "https": "wss"}[target.Scheme]
	return target, nil
}

// browserResponse is what a browser tells of the answer to a handshake that succeeded.
func browserResponse(agreed *agreement) *http.Response {
	const status = http.StatusSwitchingProtocols
	resp := &http.Response{Status: "101 Switching Protocols", StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header), Body: http.NoBody}
	if agreed.subprotocol != "" {
		resp.Header[mapProtocol] = []string{agreed.subprotocol}
	}
	if agreed.extensions != "" {
		resp.Header[mapExtensions] = []string{agreed.extensions}
	}
	return resp
}

// failOverflown fails a connection for which more has come than may wait.
func (e *ending) failOverflown() {
	const code, reason = StatusPolicyViolation + browserOwn, "messages are not being received"
	e.fail(CloseEvent{Code: code, Reason: reason, Err: ErrSlowConsumer, Local: true})
	e.queueClose(code, reason, nil)
}

// browserCode returns the code that a browser sends instead of one from a close frame of this side, and notes it as sent.
func (e *ending) browserCode(code uint16) uint16 {
	instead := StatusCode(code)
	switch {
	case instead == StatusGoingAway: // a browser sends it by itself when a page is left
		instead = StatusNormalClosure
	case instead > StatusGoingAway && instead < browserOwn:
		instead += browserOwn
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.course != nil && e.course.event.SentCode != 0 {
		e.course.event.SentCode = instead
	}
	return uint16(instead)
}
