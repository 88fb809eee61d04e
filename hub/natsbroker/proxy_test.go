// proxy_test.go cuts routes between nodes: each goes through a proxy.

package natsbroker_test

import (
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy passes connections on to an address, unless it is cut: then it passes nothing on, in silence, as a network that
// drops packets does.
type proxy struct {
	listener net.Listener
	to       string

	mu    sync.Mutex // guards all below
	flows sync.Cond  // signaled when cut ends; its lock is mu
	cut   bool
	conns []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: l, to: to}
	p.flows.L = &p.mu
	go p.serve()
	t.Cleanup(p.close)
	return p
}

func (p *proxy) serve() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = near.Close()
			continue
		}
		p.keep(near, far)
		go p.pass(near, far)
		go p.pass(far, near)
	}
}

func (p *proxy) keep(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, conns...)
}

func (p *proxy) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.await()
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// await waits while the proxy is cut.
func (p *proxy) await() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.cut {
		p.flows.Wait()
	}
}

func (p *proxy) setCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	p.flows.Broadcast()
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.setCut(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
}
