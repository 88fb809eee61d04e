// Package natsbroker joins the hubs of several processes by NATS, which can run inside of them.
//
//	broker, err := natsbroker.Embedded(&natsbroker.Options{
//		Listen: "10.0.0.1:6222", Routes: []string{"10.0.0.2:6222", "10.0.0.3:6222"}, Secret: secret, Dir: "/var/lib/chat",
//	})
//	h := hub.New(&hub.Options{Broker: broker})
//
// Topics without history are core NATS, and are delivered to the own process directly. Those with history are in streams of
// JetStream, which numbers them. Who is present is told from node to node.
package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/internal/done"
)

// Broker is a hub.Broker. All its methods are safe for concurrent use.
type Broker struct {
	options Options
	log     *slog.Logger
	server  *embedded                                                 // nil if it is another process's
	dial    func(gate *gate, more ...nats.Option) (*nats.Conn, error) // to the server

	mu     sync.Mutex // guards all below
	links  map[*link]struct{}
	ended  Stats // what links that are closed have counted
	closed bool
}

// Embedded returns a Broker that runs a server of NATS inside this process: alone, or as one node of a cluster if
// Options.Listen is set. Nil options mean a node that is alone. With history it takes three nodes to survive the loss of one,
// without it two. If other nodes are to be found it waits for a moment, but not for all of them.
func Embedded(opts *Options) (*Broker, error) {
	b, err := newBroker(opts, (*Options).checkEmbedded)
	if err != nil {
		return nil, err
	}
	if b.server, err = startServer(&b.options, b.log); err != nil {
		return nil, err
	}
	b.dial = b.server.dial
	return b, nil
}

// Connect returns a Broker that uses servers of NATS that exist. The url may be several, with commas between them. It
// returns an error if none can be reached now; later they may come and go.
func Connect(url string, opts *Options) (*Broker, error) {
	b, err := newBroker(opts, (*Options).checkConnect)
	if err != nil {
		return nil, err
	}
	b.dial = func(g *gate, more ...nats.Option) (*nats.Conn, error) {
		return nats.Connect(url, append(append(b.options.toServer(), nats.SetCustomDialer(g.dialer(b.options.Timeout))), more...)...)
	}
	first, err := b.dial(newGate(nil))
	if err != nil {
		return nil, fmt.Errorf("wsd: connecting to NATS: %w", err)
	}
	first.Close()
	return b, nil
}

func newBroker(opts *Options, check func(*Options) error) (*Broker, error) {
	b := &Broker{links: make(map[*link]struct{})}
	if opts != nil {
		b.options = *opts
	}
	if err := b.options.settle(); err != nil {
		return nil, err
	}
	if err := check(&b.options); err != nil {
		return nil, err
	}
	b.log = b.options.Logger
	return b, nil
}

// Attach adds a hub. It waits for a moment to learn of the other nodes.
func (b *Broker) Attach(node hub.Node) (hub.Link, error) {
	if err := b.usable(); err != nil {
		return nil, err
	}
	l, err := newLink(b, node)
	if err != nil {
		return nil, err
	}
	if !b.add(l) {
		return nil, errors.Join(hub.ErrClosed, l.Close())
	}
	return l, nil
}

func (b *Broker) usable() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return hub.ErrClosed
	}
	return nil
}

func (b *Broker) add(l *link) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.links[l] = struct{}{}
	}
	return !b.closed
}

// agrees returns an error if a hub of this process has other options; those of others are asked, see peers.meet.
func (b *Broker) agrees(digest string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for l := range b.links {
		if l.histories.digest != digest {
			return errOtherHistory()
		}
	}
	return nil
}

// forget takes a link that is closed away.
func (b *Broker) forget(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, had := b.links[l]; had {
		delete(b.links, l)
		b.ended.add(l.stats())
	}
}

// Addr returns the address on which an embedded server waits for the other nodes, "" if it is alone.
func (b *Broker) Addr() string {
	if b.server == nil {
		return ""
	}
	return b.server.addr()
}

// Stats returns what the broker has counted so far, of all hubs in this process. It does not block.
func (b *Broker) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	sum := b.ended
	sum.Nodes, sum.Present, sum.Connected = 0, 0, len(b.links) > 0
	for l := range b.links {
		sum.add(l.stats())
	}
	if b.server != nil {
		sum.Routes, sum.Stored = b.server.routes(), b.server.stored()
	}
	return sum
}

// Ready waits until an embedded server has joined its cluster, and its copies of history are up to date: in a rolling restart,
// the next node is to be stopped when this one is ready. For servers that exist it waits until there is a connection. The error
// is ctx's, with what is not there yet.
func (b *Broker) Ready(ctx context.Context) error {
	for {
		lacks := b.lacks()
		if lacks == "" {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", done.Canceled("ready", ctx), lacks)
		}
	}
}

// lacks returns what is not there yet, "" if nothing is missing.
func (b *Broker) lacks() string {
	if b.server != nil {
		return b.server.lacks()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for l := range b.links {
		if !l.nc.IsConnected() {
			return errNoServer.Error()
		}
	}
	return ""
}

// Close takes this process away from the others, and stops the embedded server. Hubs are to be closed before.
func (b *Broker) Close() error {
	b.mu.Lock()
	b.closed = true
	links := make([]*link, 0, len(b.links))
	for l := range b.links {
		links = append(links, l)
	}
	b.mu.Unlock()
	var errs []error
	for _, l := range links {
		errs = append(errs, l.Close())
	}
	if b.server != nil {
		errs = append(errs, b.server.stop())
	}
	return errors.Join(errs...)
}

// away returns the error of a call that cannot be carried out at the moment.
func away(call string, why error) error {
	return fmt.Errorf("%w: %s: %w", hub.ErrBroker, call, why)
}

// within returns ctx with a deadline, and whether an end of it is the deadline's.
func within(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, most, errTimeout)
}

var errTimeout = errors.New("it took too long")
