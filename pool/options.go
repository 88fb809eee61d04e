// options.go holds a pool's options, their defaults, and their checks.

package pool

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/wsurl"
)

// Options holds the options of a pool. MaxConns must be set. For the others zero means the default, and a negative
// duration turns a limit off. Options are only read, and copied by New.
type Options struct {
	// MaxConns is the maximum number of connections, at least 1. Connections being dialed or closed count. Nil Options
	// have 8.
	MaxConns int
	// MinIdle is how many idle connections are kept ready in the background, as far as MaxConns allows. Default 0:
	// connections are dialed when needed.
	MinIdle int
	// MoreURLs lists further endpoints, equal to the first. Each connection is to one of them.
	MoreURLs []string
	// Balance says how connections and work are spread over several endpoints. Default LeastLoaded.
	Balance Balance
	// DialOptions are used for every wsd.Dial.
	DialOptions wsd.DialOptions
	// Setup, if set, prepares a new connection before its first user gets it: it logs in, or reads a greeting. An error
	// counts as a failed dial. ctx ends with DialTimeout and with the pool, and Setup must heed it.
	Setup func(ctx context.Context, conn *wsd.Conn) error
	// DialTimeout bounds one dial and its Setup, in addition to DialOptions.HandshakeTimeout. Default 10 s.
	DialTimeout time.Duration
	// RetryFor is how long an Acquire, from its beginning, waits while dials fail before it returns their error: a
	// shorter outage only makes it take longer. Its context may end it earlier. Default 3 s; negative means no second
	// try.
	RetryFor time.Duration
	// MinBackoff bounds the random time for which an endpoint rests after a failed dial. The bound doubles with each
	// further failure, up to MaxBackoff, and Retry-After on 429 and 503 adds to it. A connection that ends within a
	// second of its dial, before it was released in good order, also counts as a failure, unless its user had sent and
	// received something and the server closed it with 1000 or without a code: a server that closes after it has answered
	// works. Default 100 ms.
	MinBackoff time.Duration
	// MaxBackoff is where the doubling ends. Default 30 s.
	MaxBackoff time.Duration
	// MaxIdleTime is how long a connection may be idle before it is closed, except for MinIdle of them. Default 5 min.
	MaxIdleTime time.Duration
	// MaxLifetime is how long after its dial a connection is closed, once it is not in use, less a random part of up to a
	// tenth, so that connections dialed together do not end together. Default 1 h.
	MaxLifetime time.Duration
	// CheckAfter is the idle time from which a connection must answer a ping before it is handed out. Default: none must.
	// The keepalive (wsd.Config.PingInterval) finds dead connections too, but later.
	CheckAfter time.Duration
	// CheckTimeout is how long the answer to that ping may take. Default 1 s.
	CheckTimeout time.Duration
}

// Balance says how a pool uses several endpoints. An endpoint whose dials fail rests, and the others take its place.
type Balance uint8

// The ways to balance.
const (
	// LeastLoaded dials the endpoint with the fewest connections, and takes an idle connection to the endpoint with the
	// fewest in use.
	LeastLoaded Balance = iota
	// RoundRobin dials the endpoints in turn, and takes idle connections in the same way.
	RoundRobin
)

const (
	defaultMaxConns     = 8
	maxMaxConns         = 1 << 30 // more than any system has descriptors for: a limit that is none is a mistake
	defaultDialTimeout  = 10 * time.Second
	defaultRetryFor     = 3 * time.Second
	defaultMinBackoff   = 100 * time.Millisecond
	defaultMaxBackoff   = 30 * time.Second
	defaultMaxIdleTime  = 5 * time.Minute
	defaultMaxLifetime  = time.Hour
	defaultCheckTimeout = time.Second
)

// settle checks the options and fills in the defaults. From then on 0 means off.
func (o *Options) settle() error {
	if o.DialOptions.Inbox != nil {
		return fmt.Errorf("%w, and not to whoever has acquired it: DialOptions.Inbox", wsd.ErrInbox)
	}
	switch {
	case o.MaxConns < 1:
		return optionError("MaxConns", "expected at least 1, got %d", o.MaxConns)
	case o.MaxConns > maxMaxConns:
		return optionError("MaxConns", "expected at most %d, got %d", maxMaxConns, o.MaxConns)
	case o.MinIdle < 0 || o.MinIdle > o.MaxConns:
		return optionError("MinIdle", "expected 0 to MaxConns, which is %d, got %d", o.MaxConns, o.MinIdle)
	case o.MinBackoff < 0:
		// Without it a pool whose server is down, or closes at once, would dial in a loop.
		return optionError("MinBackoff", "expected a time above 0, got %v", o.MinBackoff)
	case o.Balance > RoundRobin:
		return optionError("Balance", "expected LeastLoaded or RoundRobin, got %d", o.Balance)
	}
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{
		{&o.DialTimeout, defaultDialTimeout},
		{&o.RetryFor, defaultRetryFor},
		{&o.MinBackoff, defaultMinBackoff},
		{&o.MaxBackoff, defaultMaxBackoff},
		{&o.MaxIdleTime, defaultMaxIdleTime},
		{&o.MaxLifetime, defaultMaxLifetime},
		{&o.CheckAfter, 0},
		{&o.CheckTimeout, defaultCheckTimeout},
	} {
		switch {
		case *d.value == 0:
			*d.value = d.standard
		case *d.value < 0:
			*d.value = 0
		}
	}
	o.MaxBackoff = max(o.MaxBackoff, o.MinBackoff)
	return nil
}

// checkURL refuses URLs that can never be dialed, and returns what may be shown of the others: not user info and query,
// which may hold secrets.
func checkURL(option, raw string) (shown string, err error) {
	u, err := wsurl.Parse(raw)
	if u == nil {
		return "", optionError(option, "expected a URL, got one that cannot be parsed") // err quotes it
	}
	shown = (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
	if err != nil {
		return "", optionError(option, "%v in the URL %q", err, shown)
	}
	return shown, nil
}
