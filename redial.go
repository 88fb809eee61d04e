// redial.go keeps a client connected: one connection after another, with the right pause in between.

package wsd

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"strconv"
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
			return handshake.Err == nil // the problem was found before anything was sent
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
