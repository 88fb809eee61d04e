// dial.go is what a client asks for, wherever it runs: options, URLs, the time that a handshake may take, and one connection after
// another (Redial). dial_http.go carries the handshake out through net/http, dial_js.go through a browser.

package wsd

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/seed62836080/wsd/internal/backoff"
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

// RedialOptions holds the options of Redial. The zero value and nil are safe defaults. It is only read.
//
// Between iterations Redial waits a random time, under a bound that doubles with every failure, and at least as long as a
// Retry-After header on 429 or 503 asks for, up to a day.
type RedialOptions struct {
	// DialOptions are used for every Dial.
	DialOptions DialOptions
	// Prepare, if set, is called before every Dial, with its context and a copy of DialOptions, which it may change: for a
	// token that expires, say. It returns the URL, such as the next of a list, or "" for the one that Redial was given. An
	// error counts as one of Dial.
	Prepare func(ctx context.Context, opts *DialOptions) (url string, err error)
	// MinBackoff bounds the random pause before the first retry; the bound doubles with each further failure. Default
	// 250 ms; negative means no pauses except those that a server asks for.
	MinBackoff time.Duration
	// MaxBackoff is where the doubling ends. Default 30 s.
	MaxBackoff time.Duration
	// ResetAfter is how long a connection must have lived for the doubling to start over. A connection that ended sooner
	// counts as a failed try, so that a server that accepts and closes at once is not redialed without a pause. Default
	// 10 s; negative means that every connection counts as a success.
	ResetAfter time.Duration
	// Permanent reports whether retrying cannot fix err, which is the error of a Dial or of Prepare, or the cause of a
	// connection's end (CloseEvent.Err). Redial then yields a last error. Default: the function Permanent, but for
	// StatusUnauthorized if there is a Prepare, which can log in anew.
	Permanent func(err error) bool
}

const (
	defaultMinBackoff = 250 * time.Millisecond
	defaultMaxBackoff = 30 * time.Second
	defaultResetAfter = 10 * time.Second
)

// RedialError is the type of the errors that Redial yields: that of a Dial or of Prepare, or the last, which says how the
// last connection ended and then matches ErrClosed.
type RedialError struct {
	Err error
	// Attempt is the number of the attempt, from 1. It starts over behind a connection that lived for ResetAfter.
	Attempt int
	// Last reports whether Redial makes no further attempt.
	Last bool
	// Pause is how long Redial waits, after the body of the loop, before its next attempt. It is 0 if there is none.
	Pause time.Duration
}

// Error says what went wrong, in which attempt, and when the next one follows.
func (e *RedialError) Error() string {
	next := "the last"
	if !e.Last {
		next = "the next in " + e.Pause.Round(time.Millisecond).String()
	}
	return e.Err.Error() + " (attempt " + strconv.Itoa(e.Attempt) + ", " + next + ")"
}

// Unwrap returns what went wrong.
func (e *RedialError) Unwrap() error { return e.Err }

// Permanent reports whether retrying cannot fix err, an error of Dial or the cause of a connection's end. That is so for
// an HTTP status of 4xx except 408, 425 and 429, for arguments from which Dial cannot make a request, and for the
// codes by which a peer says that it does not accept what this side sends: 1002, 1003, 1007, 1009, 1010 and 3000 (RFC 6455,
// section 7.4). It is not for 1008, which peers also send for what passes, a code that only answers this side's Close, or
// a certificate that cannot be verified.
func Permanent(err error) bool {
	if handshake := (*HandshakeError)(nil); errors.As(err, &handshake) {
		switch status := handshake.StatusCode; {
		case handshake.Response == nil:
			// The problem was found before anything was sent.
			return handshake.Err == nil || errors.Is(handshake.Err, errors.ErrUnsupported)
		case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
			return false
		default:
			return status >= 400 && status <= 499
		}
	}
	if closed := (*CloseError)(nil); errors.As(err, &closed) && !closed.Local {
		switch closed.Code {
		case StatusProtocolError, StatusUnsupportedData, StatusInvalidPayload, StatusMessageTooBig, StatusMandatoryExtension,
			StatusUnauthorized:
			return true
		}
	}
	return errors.Is(err, ErrNilContext)
}

// Redial returns an endless sequence of connections to url. Each iteration of a loop over it gets a new, open connection,
// or the error of a Dial as a *RedialError, and Redial pauses in between as RedialOptions say.
//
//	for conn, err := range wsd.Redial(ctx, "wss://example.com/feed", nil) {
//		if err != nil {
//			log.Print(err) // this try failed, the next one follows
//			continue
//		}
//		conn.Send(ctx, wsd.Text("subscribe"))
//		for msg := range conn.Messages() {
//			handle(msg)
//		}
//	}
//
// The connection belongs to its iteration. When the body is done with it, by continue, break, return or panic, Redial
// closes it with StatusNormalClosure, as Config.CloseTimeout describes. When ctx is done, Redial closes it with
// StatusGoingAway, so that a body that ranges over Messages comes to its end, and the sequence ends without a further
// error. Each range over it starts afresh.
func Redial(ctx context.Context, url string, opts *RedialOptions) iter.Seq2[*Conn, error] {
	if opts == nil {
		opts = new(RedialOptions)
	}
	minBackoff := durationOr(opts.MinBackoff, defaultMinBackoff)
	maxBackoff := max(durationOr(opts.MaxBackoff, defaultMaxBackoff), minBackoff)
	resetAfter := durationOr(opts.ResetAfter, defaultResetAfter)
	return func(yield func(*Conn, error) bool) {
		if ctx == nil {
			yield(nil, &RedialError{Err: ErrNilContext, Attempt: 1, Last: true})
			return
		}
		for attempt, failures := 1, 1; ; attempt, failures = attempt+1, failures+1 {
			conn, resp, err := opts.dial(ctx, url)
			if ctx.Err() != nil {
				if conn != nil {
					conn.CloseNow()
				}
				return
			}
			// The jitter is added to what the server asked for: it told all clients the same.
			wait := backoff.RetryAfter(resp) + backoff.Delay(failures, minBackoff, maxBackoff)
			if err != nil {
				if last := opts.permanent(err); last {
					yield(nil, &RedialError{Err: err, Attempt: attempt, Last: true})
					return
				} else if !yield(nil, &RedialError{Err: err, Attempt: attempt, Pause: wait}) {
					return
				}
			} else {
				opened := time.Now()
				if !lend(ctx, conn, yield) || ctx.Err() != nil {
					return
				}
				if cause := conn.CloseEvent().Err; opts.permanent(cause) {
					yield(nil, &RedialError{Err: &closedError{cause}, Attempt: attempt, Last: true})
					return
				}
				if time.Since(opened) >= resetAfter {
					attempt, failures = 0, 1
					wait = backoff.Delay(failures, minBackoff, maxBackoff)
				}
			}
			if !pause(ctx, wait) {
				return
			}
		}
	}
}

// dial is Dial with what Prepare makes of the options.
func (o *RedialOptions) dial(ctx context.Context, url string) (*Conn, *http.Response, error) {
	if o.Prepare == nil {
		return Dial(ctx, url, &o.DialOptions)
	}
	opts := o.DialOptions
	opts.Header = opts.Header.Clone()
	if opts.Header == nil {
		opts.Header = make(http.Header)
	}
	prepared, err := o.Prepare(ctx, &opts)
	if err != nil {
		return nil, nil, err
	}
	if prepared != "" {
		url = prepared
	}
	return Dial(ctx, url, &opts)
}

// permanent reports whether err is the last.
func (o *RedialOptions) permanent(err error) bool {
	if o.Permanent != nil {
		return o.Permanent(err)
	}
	closed := new(CloseError)
	if o.Prepare != nil && errors.As(err, &closed) && closed.Code == StatusUnauthorized {
		return false
	}
	return Permanent(err)
}

// lend gives a connection to the body of the loop for one iteration, and reports whether the loop continues.
func lend(ctx context.Context, conn *Conn, yield func(*Conn, error) bool) bool {
	stop := context.AfterFunc(ctx, func() { conn.ending.queueClose(StatusGoingAway, "", nil) })
	defer func() {
		stop()
		conn.StartClose(StatusNormalClosure, "")
		<-conn.Closed()
	}()
	return yield(conn, nil)
}

// pause waits for d, and reports whether it did so before ctx was done.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
