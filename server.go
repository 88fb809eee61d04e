// server.go runs a handler for every connection of an http.Server that it has room for, and ends all connections when the server
// shuts down; a drain sends clients away one after another, so that they do not all come back to another server at once.

package wsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/seed62836080/wsd/internal/limiter"
)

// Server turns requests into WebSocket connections, runs a handler for each, and keeps track of them. As an http.Handler it
// runs Handler; a handler of yours that has looked at the request calls Serve. The zero value is ready for use. Its fields
// must not be changed once it serves. It is safe for concurrent use.
//
// An http.Server does not know of connections that were taken over from it. Have its Shutdown end them, within a limit
// that begins then (a context that a signal has canceled would cut them off):
//
//	limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
//	defer cancel()
//	server.RegisterOnShutdown(func() { ws.Shutdown(limit) })
//	err := errors.Join(server.Shutdown(limit), ws.Shutdown(limit))
type Server struct {
	// Handler is what ServeHTTP runs for every connection, as described for Serve. With an Inbox it may be nil.
	Handler func(*Conn)
	// AcceptOptions are the options for ServeHTTP, and for Serve if it is given none.
	AcceptOptions
	// Logger is told at Error of what is wrong with this program: a handler that panics, options or a ResponseWriter that
	// spoil a handshake. At Warn it is told how many connections a Shutdown has cut off. What peers do is told at Debug
	// only: handshakes that are refused, and the end of each connection. Default slog.Default().
	Logger *slog.Logger
	// Limits bound what clients can have. Default: no limits.
	Limits Limits

	limiter limiter.Limiter

	mu     sync.Mutex
	conns  map[*Conn]func() // those whose handlers run or whose closing is under way, with what to call when they leave
	active int              // handshakes and handlers under way; none begins once ended is made
	ended  chan struct{}    // made by the first Drain or Shutdown, closed when active is zero from then on
	drain  *drain           // the last Drain; nil if there was none
	down   bool             // Shutdown has been called
	over   bool             // a Shutdown has cut off the connections: nothing is waited for any more
	totals ServerStats      // of the connections that have ended, and what Serve has answered
}

// Limits bound what clients can have of a Server. Zero means no limit. A request beyond one is answered ahead of anything
// else, with a Retry-After: with 503 if the server is full, with 429 if the address has too much.
//
// An address is an IPv4 address, or the 64 bits of an IPv6 address that a customer usually has. Behind a proxy, all clients
// have the proxy's: set ClientAddr before you limit by address there.
type Limits struct {
	// Connections is how many connections, with the handshakes under way, there may be in all.
	Connections int
	// AddressConnections is how many of them one address may have.
	AddressConnections int
	// AddressHandshakes is how many handshakes a second one address may begin, on average, and AddressBurst how many at
	// once. Default for AddressBurst: those of one second, at least 1.
	AddressHandshakes float64
	AddressBurst      int
	// ClientAddr says which address has sent a request; the zero Addr means an address that is not limited, such as that
	// of a unix socket. Default: that of the connection, from Request.RemoteAddr. TrustedProxies makes one.
	ClientAddr func(*http.Request) netip.Addr
}

// ServerStats holds the counters of a Server. They do not go back, except those that are of the moment: Connections,
// QueuedBytes, OldestQueued and BodyUnread. As JSON it is one object.
type ServerStats struct {
	Connections int    // whose handlers are running or that are being closed
	Accepted    uint64 // connections in all
	Refused     uint64 // handshakes that were answered with an error
	Limited     uint64 // those of them that were refused because of Limits
	Failed      uint64 // handlers that panicked or left with runtime.Goexit
	// Stats are the sums over all connections, live and ended, QueuedBytes over the live ones. OldestQueued is the oldest of
	// all that wait, and BodyUnread says whether any of them has such a message.
	Stats
}

// retryAfter is after how many seconds a client may ask again that a server refuses which goes down: another server will
// take it at once, and this one be back soon.
const retryAfter = "1"

// TrustedProxies returns a ClientAddr for servers behind proxies, whose addresses are in prefixes; whoever comes over a unix
// socket is trusted too. It believes one header field, Forwarded (RFC 7239) or a list of addresses such as X-Forwarded-For,
// and of that only what trusted proxies have added: from the last entry to the first, as long as the address that has added
// it is trusted. What a client claims is ignored. An entry that is no address counts as the proxy that added it.
func TrustedProxies(header string, prefixes ...netip.Prefix) func(*http.Request) netip.Addr {
	proxies, name := limiter.NewProxies(header, prefixes), http.CanonicalHeaderKey(header)
	return func(r *http.Request) netip.Addr { return proxies.Client(r.RemoteAddr, r.Header[name]) }
}

// ServeHTTP is Serve with the Server's Handler and options.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = s.Serve(w, r, nil, s.Handler) // what was refused has been answered, and logged
}

// Serve accepts the request's connection, with the Server's options if opts is nil, and returns. The connection lives on:
// handler is called with it in a goroutine of its own; over HTTP/2 that needs ConfigureHTTP2. A connection that is open when
// handler returns is closed with StatusNormalClosure, or StatusInternalError if handler panics, which is logged.
//
// handler may keep what it took from the request, but not the request and its memory. With an Inbox it may be nil. The error
// is that of Accept, a *HandshakeError for Limits, or ErrServerClosed behind Drain and Shutdown. The request has then been
// answered.
func (s *Server) Serve(w http.ResponseWriter, r *http.Request, opts *AcceptOptions, handler func(*Conn)) error {
	if opts == nil {
		opts = &s.AcceptOptions
	}
	switch began, full := s.begin(); {
	case full:
		return s.refuseFor(w, r, opts, refusal(http.StatusServiceUnavailable, "", "the server is full"), 0)
	case !began:
		w.Header().Set("Connection", "close")
		w.Header().Set("Retry-After", retryAfter)
		http.Error(w, ErrServerClosed.Error(), http.StatusServiceUnavailable)
		s.count(&s.totals.Refused)
		opts.tellRefused(r, &HandshakeError{StatusCode: http.StatusServiceUnavailable, Problem: "going down", Err: ErrServerClosed})
		return ErrServerClosed
	}
	leave, accepted := func() {}, false
	defer func() {
		if !accepted { // also if CheckOrigin panicked, from which net/http recovers
			leave()
			s.end()
		}
	}()
	admitted, wait := s.admitAddress(r)
	if wait > 0 {
		refused := refusal(http.StatusTooManyRequests, "", "too many connections from this address")
		return s.refuseFor(w, r, opts, refused, wait)
	}
	leave = admitted
	conn, err := Accept(w, r, opts)
	if err != nil {
		s.logRefusal(r, err)
		return err
	}
	accepted = true
	s.track(conn, leave)
	if handler == nil && conn.settings.inbox != nil {
		conn.ending.whenOver(func() { s.left(conn) })
		stay(r, conn)
		return nil
	}
	// A separate goroutine frees the request, and the stack and buffers that net/http needed for it.
	go s.run(conn, handler)
	stay(r, conn)
	return nil
}

// begin counts one more handshake, unless the Server is going down or full.
func (s *Server) begin() (began, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch most := s.Limits.Connections; {
	case s.ended != nil:
		return false, false
	case most > 0 && s.active >= most:
		return false, true
	}
	s.active++
	return true, false
}

// admitAddress admits a request as far as its address matters. It returns what is to be called when its connection has
// ended, or when to come again.
func (s *Server) admitAddress(r *http.Request) (leave func(), retryAfter time.Duration) {
	if s.Limits.AddressConnections <= 0 && s.Limits.AddressHandshakes <= 0 {
		return func() {}, 0
	}
	var addr netip.Addr
	if find := s.Limits.ClientAddr; find != nil {
		addr = find(r)
	} else {
		addr = limiter.ParseAddr(r.RemoteAddr)
	}
	if !addr.IsValid() {
		return func() {}, 0
	}
	most := limiter.Limits{Connections: s.Limits.AddressConnections, Handshakes: s.Limits.AddressHandshakes, Burst: s.Limits.AddressBurst}
	return s.limiter.Admit(addr, most)
}

// refuseFor refuses a request for some time.
func (s *Server) refuseFor(w http.ResponseWriter, r *http.Request, opts *AcceptOptions, refused *HandshakeError,
	retryAfter time.Duration) error {
	seconds := max((retryAfter+time.Second-1)/time.Second, 1)
	w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
	if r.ProtoMajor < 2 { // beyond that it would be the end of all the client's streams
		w.Header().Set("Connection", "close")
	}
	refuse(w, r, refused)
	s.logRefusal(r, refused)
	s.count(&s.totals.Limited)
	opts.tellRefused(r, refused)
	return refused
}

func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active--; s.active == 0 && s.ended != nil {
		close(s.ended)
	}
}

// track adds a connection, and ends it if it comes too late. leave is called when it has ended.
func (s *Server) track(conn *Conn, leave func()) {
	s.mu.Lock()
	if s.conns == nil {
		s.conns = make(map[*Conn]func())
	}
	s.conns[conn] = leave
	s.totals.Accepted++
	drain, down, over := s.drain, s.down, s.over
	s.mu.Unlock()
	switch {
	case over:
		conn.ending.abort(errAborted)
	case down:
		_ = conn.StartClose(StatusGoingAway, "")
	case drain != nil:
		drain.late(conn)
	}
}

// run runs the handler. It leaves most of the goroutine's initial stack, which is small, to the handler.
func (s *Server) run(conn *Conn, handler func(*Conn)) {
	returned := false
	defer s.ran(conn, &returned)
	handler(conn)
	returned = true
}

// ran is deferred by run.
func (s *Server) ran(conn *Conn, returned *bool) {
	defer s.left(conn)
	if p := recover(); p != nil {
		s.logPanic(p)
	}
	if *returned {
		_ = conn.Close(StatusNormalClosure, "")
	} else { // a panic, or runtime.Goexit, as in a failed test, after which recover finds nothing
		s.count(&s.totals.Failed)
		_ = conn.Close(StatusInternalError, "the handler failed")
	}
}

// left notes that a connection has ended and its handler, if it had one, has returned.
func (s *Server) left(conn *Conn) {
	defer s.end()
	defer s.forget(conn)()
	if log := s.logger(); log.Enabled(context.Background(), slog.LevelDebug) {
		logEnd(log, conn)
	}
}

// logPanic and logEnd are not inlined, so that a goroutine that ends without them needs no larger stack than it began with.
//
//go:noinline
func (s *Server) logPanic(p any) {
	s.logger().Error("wsd: panic in a handler", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}

//go:noinline
func logEnd(log *slog.Logger, conn *Conn) {
	log.Debug("wsd: a connection ended", "event", conn.CloseEvent())
}

// forget removes a connection that has ended, and returns what is to be called then.
func (s *Server) forget(conn *Conn) (leave func()) {
	var stats Stats
	conn.stats(&stats)
	s.mu.Lock()
	defer s.mu.Unlock()
	leave = s.conns[conn]
	delete(s.conns, conn)
	s.totals.add(&stats)
	return leave
}

// count counts one more in a counter of totals.
func (s *Server) count(counter *uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*counter++
}

// add adds the counters of a connection.
func (s *ServerStats) add(conn *Stats) {
	s.MessagesReceived += conn.MessagesReceived
	s.BytesReceived += conn.BytesReceived
	s.MessagesDropped += conn.MessagesDropped
	s.MessagesSent += conn.MessagesSent
	s.BytesSent += conn.BytesSent
	s.Writes += conn.Writes
	s.PongsCoalesced += conn.PongsCoalesced
	s.QueuedBytes += conn.QueuedBytes
	if oldest := conn.OldestQueued; !oldest.IsZero() && (s.OldestQueued.IsZero() || oldest.Before(s.OldestQueued)) {
		s.OldestQueued = oldest
	}
}

func (s *Server) logger() *slog.Logger {
	if s.Logger != nil {
		return s.Logger
	}
	return slog.Default()
}

// logRefusal logs a handshake that failed. The client is not told what is wrong with the server itself, and many programs
// do not look at Serve's error.
func (s *Server) logRefusal(r *http.Request, err error) {
	s.count(&s.totals.Refused)
	if refused := new(HandshakeError); errors.As(err, &refused) && refused.StatusCode == http.StatusInternalServerError {
		s.logger().Error("wsd: a handshake failed by the server's fault", "error", err)
		return
	}
	s.logger().Debug("wsd: a handshake was refused", "error", err, "from", r.RemoteAddr)
}

// Stats returns the Server's counts so far. It asks each live connection, which costs a message nothing and takes less than
// a microsecond for each of them. It does not block.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	// A connection is either in the totals or in the list, and its counters do not go back: so neither do the sums.
	stats, live := s.totals, slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	stats.Connections = len(live)
	for _, conn := range live {
		s := conn.Stats()
		stats.add(&s)
		stats.BodyUnread = stats.BodyUnread || s.BodyUnread
	}
	return stats
}

// Connections returns the number of connections whose handlers are running or that are being closed.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Shutdown stops accepting connections, closes existing ones with StatusGoingAway, as well as those that result from
// handshakes under way, and waits until they have ended and their handlers have returned. If ctx is done first, it ends
// the rest as CloseNow does, and returns without waiting for their handlers. If nothing is left it returns nil, whatever
// ctx says. Calling it again waits again.
func (s *Server) Shutdown(ctx context.Context) error {
	if ctx == nil {
		return ErrNilContext
	}
	ended := s.stop(func() { s.down = true })
	for _, conn := range s.open() {
		conn.StartClose(StatusGoingAway, "")
	}
	gaveUp := awaitEnd(ctx, ended, "shutdown")
	if gaveUp == nil {
		return nil
	}
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	cut := s.open()
	for _, conn := range cut {
		conn.ending.abort(errAborted)
	}
	s.logger().Warn("wsd: a shutdown was given up, what was left is cut off", "connections", len(cut), "cause", context.Cause(ctx))
	return gaveUp
}

// awaitEnd waits until ended is closed, or returns the error of a call whose ctx is done before.
func awaitEnd(ctx context.Context, ended <-chan struct{}, call string) error {
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-ended:
		return nil // both were ready
	default:
		return canceled(call, ctx)
	}
}

// stop makes the Server refuse connections, notes why, and returns a channel that is closed when all have ended.
func (s *Server) stop(note func()) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	note()
	if s.ended == nil {
		s.ended = make(chan struct{})
		if s.active == 0 {
			close(s.ended)
		}
	}
	return s.ended
}

// open returns the current connections.
func (s *Server) open() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.conns))
}

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
	return awaitEnd(ctx, ended, "drain")
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
