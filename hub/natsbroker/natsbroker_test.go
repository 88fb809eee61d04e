// natsbroker_test.go runs the conformance suite of brokers over every way to have NATS.

package natsbroker_test

import (
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/hub/brokertest"
	"github.com/seed62836080/wsd/hub/natsbroker"
)

// quiet is a logger for tests, in which nodes come and go.
var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func TestMemoryIsABroker(t *testing.T) {
	brokertest.Run(t, func(_ *testing.T, n int) []hub.Broker { return same(hub.NewMemory(), n) })
}

func TestEmbeddedAloneIsABroker(t *testing.T) {
	brokertest.Run(t, func(t *testing.T, n int) []hub.Broker {
		return same(embedded(t, natsbroker.Options{}), n)
	})
}

// same returns a broker n times.
func same(b hub.Broker, n int) []hub.Broker {
	all := make([]hub.Broker, n)
	for i := range all {
		all[i] = b
	}
	return all
}

func embedded(t *testing.T, opts natsbroker.Options) *natsbroker.Broker {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = quiet
	}
	b, err := natsbroker.Embedded(&opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// freeAddresses returns addresses of this machine that nobody listens on.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	var all []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		all = append(all, l.Addr().String())
	}
	return all
}

// cluster starts n nodes that are to have history on as many as three of them.
func cluster(t *testing.T, n int, opts natsbroker.Options) []*natsbroker.Broker {
	t.Helper()
	addresses := freeAddresses(t, n)
	opts.Routes = addresses
	all := make([]*natsbroker.Broker, n)
	var starting sync.WaitGroup
	for i, a := range addresses {
		opts := opts
		opts.Listen = a
		starting.Go(func() { all[i] = embedded(t, opts) })
	}
	starting.Wait()
	for _, b := range all {
		require.Eventually(t, func() bool { return b.Stats().Routes == n-1 }, 10*time.Second, 5*time.Millisecond)
	}
	return all
}

func TestEmbeddedThreeNodesAreABroker(t *testing.T) {
	brokertest.Run(t, func(t *testing.T, n int) []hub.Broker {
		var all []hub.Broker
		for _, b := range cluster(t, 3, natsbroker.Options{Timeout: 20 * time.Second})[:n] {
			all = append(all, b)
		}
		return all
	})
}

func TestConnectIsABroker(t *testing.T) {
	url := external(t)
	brokertest.Run(t, func(t *testing.T, n int) []hub.Broker {
		var all []hub.Broker
		opts := natsbroker.Options{Prefix: rand.Text(), Logger: quiet} // its own subjects and streams
		for range n {
			b, err := natsbroker.Connect(url, &opts)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, b.Close()) })
			all = append(all, b)
		}
		return all
	})
}
