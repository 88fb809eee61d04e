// redial.go keeps a client connected: one connection after another, with the right pause in between.

package wsd

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"time"

	"github.com/seed62836080/wsd/internal/backoff"
)

// RedialOptions holds the options of Redial. The zero value and nil are safe defaults. It is only read.
//
// Between iterations Redial waits a random time, under a bound that doubles with every failure, and at least as long as a
// Retry-After header on 429 or 503 asks for, up to a day.
type RedialOptions struct {
	// DialOptions are used for every Dial.
	DialOptions DialOptions
	// MinBackoff bounds the random pause before the first retry; the bound doubles with each further failure. Default
	// 250 ms; negative means no pauses except those that a server asks for.
	MinBackoff time.Duration
	// MaxBackoff is where the doubling ends. Default 30 s.
	MaxBackoff time.Duration
	// ResetAfter is how long a connection must have lived for the doubling to start over. A connection that ended sooner
	// counts as a failed try, so that a server that accepts and closes at once is not redialed without a pause. Default
	// 10 s; negative means that every connection counts as a success.
	ResetAfter time.Duration
	// Permanent reports whether retrying cannot fix err, which is the error of a Dial or the cause of a connection's end
	// (CloseEvent.Err). Redial then yields a last error, which is err or wraps it and matches ErrClosed. Default
	// Permanent.
	Permanent func(err error) bool
}

const (
	defaultMinBackoff = 250 * time.Millisecond
	defaultMaxBackoff = 30 * time.Second
	defaultResetAfter = 10 * time.Second
)

// Permanent reports whether retrying cannot fix err, an error of Dial or the cause of a connection's end. That is so for
// an HTTP status of 4xx except 408, 425 and 429, for arguments from which Dial cannot make a request, and for the
// codes by which a peer says that it does not accept what this side sends: 1002, 1003 and 1007 to 1010 (RFC 6455, section
// 7.4.1). A peer answers a close frame with its code, so a Close with one of these counts too. A certificate that cannot
// be verified does not: it may be renewed.
func Permanent(err error) bool {
	if handshake := (*HandshakeError)(nil); errors.As(err, &handshake) {
		switch status := handshake.StatusCode; {
		case handshake.Response == nil:
			return handshake.Err == nil // the problem was found before anything was sent
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

// Redial returns an endless sequence of connections to url. Each iteration of a loop over it gets a new, open connection,
// or the error of a Dial, and Redial pauses in between as RedialOptions say.
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
// closes it with StatusNormalClosure, within Config.CloseTimeout. When ctx is done, Redial closes it with StatusGoingAway,
// so that a body that ranges over Messages comes to its end, and the sequence ends without a further error. Each range
// over it starts afresh.
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
			// The jitter is added to what the server asked for: it told all clients the same.
			if !pause(ctx, asked+backoff.Delay(failures, minBackoff, maxBackoff)) {
				return
			}
		}
	}
}

// lend gives a connection to the body of the loop for one iteration, and reports whether the loop continues.
func lend(ctx context.Context, conn *Conn, yield func(*Conn, error) bool) bool {
	stop := context.AfterFunc(ctx, func() { conn.StartClose(StatusGoingAway, "") })
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
