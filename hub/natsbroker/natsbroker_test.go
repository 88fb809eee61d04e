// natsbroker_test.go runs the conformance suite of brokers over every way to have NATS.

package natsbroker_test

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/hub/brokertest"
	"github.com/seed62836080/wsd/hub/natsbroker"
)

// quiet is a logger for tests, in which nodes come and go.
var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func TestMemoryIsABroker(t *testing.T) {
	t.Parallel()
	brokertest.Run(t, func(t *testing.T, n int) []hub.Broker {
		t.Parallel()
		return same(hub.NewMemory(), n)
	})
}

func TestEmbeddedAloneIsABroker(t *testing.T) {
	t.Parallel()
	brokertest.Run(t, func(t *testing.T, n int) []hub.Broker {
		t.Parallel()
		return same(embedded(t, natsbroker.Options{Timeout: patience}), n)
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

// freeAddresses returns addresses of this machine that nobody listens on. Their ports are below those that systems give to
// outgoing connections, so that they stay free while a node that has been killed is away.
func freeAddresses(t *testing.T, n int) (all []string) {
	t.Helper()
	for tries := 0; len(all) < n; tries++ {
		require.Less(t, tries, 1000, "ports that are free")
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		if err != nil {
			continue
		}
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
		require.NotNil(t, b, "it has not started, as was said above")
		require.Eventually(t, func() bool { return b.Stats().Routes == n-1 }, patience, 5*time.Millisecond)
	}
	return all
}

func TestEmbeddedThreeNodesAreABroker(t *testing.T) {
	t.Parallel()
	// One after the other: ten clusters at once need seconds for what nodes tell each other, and do not wait that long.
	brokertest.Run(t, func(t *testing.T, n int) []hub.Broker {
		var all []hub.Broker
		for _, b := range cluster(t, 3, natsbroker.Options{Timeout: patience, Dead: patience})[:n] {
			all = append(all, b)
		}
		return all
	})
}

// A hub that attaches waits a while for the hubs of the servers that there are: they hear of what it publishes first, too.
func TestAttachingWaitsForOthers(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 2, natsbroker.Options{Timeout: patience, Dead: patience, NoHistory: true})
	quietly := hub.Node{Deliver: func(hub.Publication) {}, Resumed: func() {}}
	for tries := 0; ; tries++ { // on a machine that is busy the second may not wait for the first's second
		var late hub.Link
		var attaching sync.WaitGroup
		attaching.Go(func() {
			time.Sleep(400 * time.Millisecond)
			var err error
			late, err = nodes[0].Attach(quietly)
			assert.NoError(t, err)
		})
		early, err := nodes[1].Attach(quietly)
		require.NoError(t, err)
		met := nodes[1].Stats().Nodes
		attaching.Wait()
		require.NotNil(t, late)
		require.NoError(t, early.Close())
		require.NoError(t, late.Close())
		if met == 1 {
			return
		}
		require.Less(t, tries, 5)
	}
}

func TestConnectIsABroker(t *testing.T) {
	t.Parallel()
	url := external(t)
	brokertest.Run(t, func(t *testing.T, n int) []hub.Broker {
		t.Parallel()
		var all []hub.Broker
		opts := natsbroker.Options{Prefix: fmt.Sprint("test", rand.Uint32()), Timeout: patience, Logger: quiet} // its own subjects and streams
		for range n {
			b, err := natsbroker.Connect(url, &opts)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, b.Close()) })
			all = append(all, b)
		}
		return all
	})
}
