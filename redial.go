// redial.go keeps a client connected: one connection after the other, and in between the right pause.

package wsd

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"time"

	"github.com/seed62836080/wsd/internal/backoff"
)

// RedialOptions holds what Redial may be told. The zero value and nil are safe defaults.
type RedialOptions struct {
	// DialOptions are those of every Dial.
	DialOptions DialOptions
	// MinBackoff bounds the random pause before the first new try; the bound doubles with every failure behind it.
	// Default 250 ms; negative for no pauses at all but those that a server asks for.
	MinBackoff time.Duration
	// MaxBackoff is where the doubling ends. Default 30 s.
	MaxBackoff time.Duration
	// ResetAfter is how long a connection must have lived for the doubling to begin anew. One that ended before that
	// counts as a failed try, so that a server which accepts and closes at once is not called without pause. Default
	// 10 s, negative where every connection counts as a success.
	ResetAfter time.Duration
	// Permanent reports whether a new try cannot mend err, the error of a Dial or the cause of a connection's end
	// (CloseEvent.Err). Redial yields such an error and stops. Default Permanent.
	Permanent func(err error) bool
}

const (
	defaultMinBackoff = 250 * time.Millisecond
	defaultMaxBackoff = 30 * time.Second
	defaultResetAfter = 10 * time.Second
)

// Permanent reports whether trying again cannot mend err, an error of Dial or the cause of a connection's end: an HTTP
// status from 400 to 499 except 408, 425 and 429; arguments of which Dial can make no request; and the status codes by
// which a peer says that it does not take what this side sends, which are 1002, 1003, 1007, 1008, 1009 and 1010
// (RFC 6455, section 7.4.1). A peer answers a close frame with its code, so that a Close of this side with one of these
// counts as well.
//
// A certificate that cannot be verified is not among them: it is renewed, a clock is set right, the network that put its
// own in between is left, and whoever shows a wrong one is not the server, to tell its clients to stay away. Who wants to
// stop there all the same looks for a *tls.CertificateVerificationError in a RedialOptions.Permanent of their own.
func Permanent(err error) bool {
	if handshake := (*HandshakeError)(nil); errors.As(err, &handshake) {
		switch status := handshake.StatusCode; {
		case handshake.Response == nil:
			return handshake.Err == nil // what is wrong was found before anything was sent
		case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
			return false
		default:
			return status >= 400 && status <= 499
		}
	}
	if closed := (*CloseError)(nil); errors.As(err, &closed) {
		switch closed.Code {
		case StatusProtocolError, StatusUnsupportedData, StatusInvalidPayload, StatusPolicyViolation,
			StatusMessageTooBig, StatusMandatoryExtension:
			return true
		}
	}
	return errors.Is(err, ErrNilContext)
}

// Redial returns an endless sequence of connections to url, one at a time: each turn of the loop has a fresh, open one,
// and the next turn begins when the body is done with it.
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
// A try that fails is yielded as its error, a *HandshakeError, with a nil connection. Between turns Redial waits a random
// time under a bound that doubles with every failure (RedialOptions), and at least as long as a Retry-After header on
// 429 and 503 asks for, up to a day. An error that RedialOptions.Permanent says a new try cannot mend is yielded and is
// the last: that of a Dial, or, matching ErrClosed, the cause of the end of the turn's connection. When ctx is done the
// sequence ends without a further error: ctx.Err tells.
//
// The connection belongs to the turn. When the body is done with it, by continue, break, return or panic, Redial closes
// it with StatusNormalClosure unless it has ended, which takes Config.CloseTimeout at most; when ctx is done, at once
// and with StatusGoingAway, so that a body which ranges over Messages comes to its end. Nothing is left running when the
// loop is over. The sequence can be ranged over more than once, also at the same time; each time begins afresh.
func Redial(ctx context.Context, url string, opts *RedialOptions) iter.Seq2[*Conn, error] {
	if opts == nil {
		opts = new(RedialOptions)
	}
	permanent := opts.Permanent
	if permanent == nil {
		permanent = Permanent
	}
	minBackoff := durationOr(opts.MinBackoff, defaultMinBackoff)
	maxBackoff := max(durationOr(opts.MaxBackoff, defaultMaxBackoff), minBackoff)
	resetAfter := durationOr(opts.ResetAfter, defaultResetAfter)
	return func(yield func(*Conn, error) bool) {
		if ctx == nil {
			yield(nil, ErrNilContext)
			return
		}
		for failures := 0; ; {
			var asked time.Duration // by the server
			conn, resp, err := Dial(ctx, url, &opts.DialOptions)
			switch {
			case ctx.Err() != nil:
				if conn != nil {
					conn.CloseNow()
				}
				return
			case err != nil:
				if !yield(nil, err) || permanent(err) {
					return
				}
				asked = backoff.RetryAfter(resp)
			default:
				opened := time.Now()
				if !lend(ctx, conn, yield) || ctx.Err() != nil {
					return
				}
				if cause := conn.CloseEvent().Err; permanent(cause) {
					yield(nil, &closedError{cause})
					return
				}
				if time.Since(opened) >= resetAfter {
					failures = 0
				}
			}
			failures++
			// The jitter comes on top of what was asked for: all clients were told the same.
			if !pause(ctx, asked+backoff.Delay(failures, minBackoff, maxBackoff)) {
				return
			}
		}
	}
}

// lend gives a connection to the body of the loop for one turn, and reports whether the loop goes on.
func lend(ctx context.Context, conn *Conn, yield func(*Conn, error) bool) bool {
	stop := context.AfterFunc(ctx, func() { conn.startClose(StatusGoingAway, "") })
	defer func() {
		stop()
		conn.startClose(StatusNormalClosure, "")
		<-conn.Closed()
	}()
	return yield(conn, nil)
}

// pause waits, and reports whether ctx let it.
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
