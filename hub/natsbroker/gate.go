// gate.go slows a server down instead of losing what it sends.

package natsbroker

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// arriving is how many messages wait for the dispatcher. nats.go drops what finds a full channel, so that nothing more is
	// read while half of it is taken: a read of 32 KiB holds a thousand messages at most.
	arriving = 8192
	gateAt   = arriving / 2
)

// gate is what a connection's reads pass.
type gate struct {
	waiting chan *nats.Msg // what has been read and not been dealt with
	held    atomic.Bool    // somebody waits
	roomy   chan struct{}  // has room for one; told of room
	over    chan struct{}  // closed by shut
	shut    func()
}

func newGate(waiting chan *nats.Msg) *gate {
	g := &gate{waiting: waiting, roomy: make(chan struct{}, 1), over: make(chan struct{})}
	g.shut = sync.OnceFunc(func() { close(g.over) })
	return g
}

// taken is called when something has been taken out of waiting.
func (g *gate) taken() {
	if g.held.Load() && len(g.waiting) < gateAt/2 {
		select {
		case g.roomy <- struct{}{}:
		default:
		}
	}
}

func (g *gate) pass() {
	for len(g.waiting) >= gateAt {
		g.held.Store(true)
		timer := time.NewTimer(10 * time.Millisecond) // for one that has just been missed
		select {
		case <-g.roomy:
		case <-timer.C:
		case <-g.over:
			timer.Stop()
			return
		}
		timer.Stop()
		g.held.Store(false)
	}
}

// gated is a connection that is read only when there is room.
type gated struct {
	net.Conn
	gate *gate
}

func (c *gated) Read(p []byte) (int, error) {
	c.gate.pass()
	return c.Conn.Read(p)
}

// dialer returns a dialer of gated connections.
func (g *gate) dialer(timeout time.Duration) nats.CustomDialer {
	return gatedDialer{g, net.Dialer{Timeout: timeout}}
}

type gatedDialer struct {
	gate   *gate
	dialer net.Dialer
}

func (d gatedDialer) Dial(network, address string) (net.Conn, error) {
	c, err := d.dialer.Dial(network, address)
	if err != nil {
		return nil, err
	}
	return &gated{c, d.gate}, nil
}

// provider returns a provider of gated connections inside the process.
func (g *gate) provider(from nats.InProcessConnProvider) nats.InProcessConnProvider {
	return gatedProvider{g, from}
}

type gatedProvider struct {
	gate *gate
	from nats.InProcessConnProvider
}

func (p gatedProvider) InProcessConn() (net.Conn, error) {
	c, err := p.from.InProcessConn()
	if err != nil {
		return nil, err
	}
	return &gated{c, p.gate}, nil
}
