// drain.go is how a server goes down gently: its clients are sent away one after another, so that they do not all come back
// to another server at once.

package wsd

import (
	"context"
	"math/rand/v2"
	"time"
)

// DrainOptions say how Drain closes connections. The zero value closes all of them at once.
type DrainOptions struct {
	// Over is the period over which the connections are closed.
	Over time.Duration
	// Code and Reason are what they are closed with. Default StatusServiceRestart, which tells a client to come back.
	Code   StatusCode
	Reason string
}

// drain is a Drain under way.
type drain struct {
	ctx    context.Context
	until  time.Time
	code   StatusCode
	reason string
}

// Drain is a gentle beginning of a Shutdown: from now on requests are answered with 503 and a Retry-After, and connections
// are closed in random order, evenly over a period. What is queued is sent first; a Writer that is open is cut. Drain waits
// until all have ended and their handlers have returned.
//
// If ctx is done first it returns an error, and what is left stays open for Shutdown, which may also begin meanwhile. A
// program that ends calls Drain, then http.Server.Shutdown, then Shutdown. A code that may not be sent is a
// *CloseArgumentError.
func (s *Server) Drain(ctx context.Context, opts DrainOptions) error {
	if ctx == nil {
		return ErrNilContext
	}
	if opts.Code == 0 {
		opts.Code = StatusServiceRestart
	}
	if invalid := checkCloseCode(opts.Code, opts.Reason); invalid != nil {
		return invalid
	}
	d := &drain{ctx, time.Now().Add(opts.Over), opts.Code, opts.Reason}
	ended := s.stop(func() { s.drain = d })
	conns := s.open()
	rand.Shuffle(len(conns), func(i, j int) { conns[i], conns[j] = conns[j], conns[i] })
	for i, conn := range conns {
		conns[i] = nil // it can be freed once it has ended
		if conn.State() == StateOpen && d.wait(time.Until(d.until)/time.Duration(len(conns)-i), ended) {
			d.close(conn)
		}
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-ended:
		return nil // both were ready
	default:
		return canceled("drain", ctx)
	}
}

// wait waits, and reports whether there is a reason to go on.
func (d *drain) wait(pause time.Duration, ended <-chan struct{}) bool {
	if d.ctx.Err() != nil {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ended:
	case <-d.ctx.Done():
	}
	return false
}

// late closes a connection whose handshake was under way when the drain began, at some time in what is left of the period.
func (d *drain) late(conn *Conn) {
	time.AfterFunc(rand.N(max(time.Until(d.until), 1)), func() { d.close(conn) })
}

// close closes a connection, unless the drain has been given up.
func (d *drain) close(conn *Conn) {
	if d.ctx.Err() == nil {
		_ = conn.StartClose(d.code, d.reason)
	}
}
