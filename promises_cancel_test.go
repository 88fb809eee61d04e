// promises_cancel_test.go checks that a call whose context has ended while it waited in line does nothing, even if its
// turn comes at that very moment.

package wsd_test

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// waitInLine has many calls wait for room, ends their context, and only then makes room, which some of them get before
// they have noticed. It checks that none of them did anything.
func waitInLine(t *testing.T, cfg wsd.Config, call func(ctx context.Context, c *wsd.Conn) error) {
	const callers, bystanders = 20, 200
	cfg.SendQueue, cfg.PingInterval = 1000, -1
	c, p := servedConn(t, cfg)
	background := ends(t, c, p)
	blocked := make(chan error, 1)
	background.Go(func() { blocked <- c.Send(t.Context(), wsd.Binary(noise(100<<10))) })
	synctest.Wait() // it has the turn, and waits for the peer
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// Those who wait longest are woken first, which keeps the callers from running at once.
	for range bystanders {
		background.Go(func() { <-ctx.Done() })
	}
	synctest.Wait()
	errs := make(chan error, callers)
	for range callers {
		background.Go(func() { errs <- call(ctx, c) })
		synctest.Wait()
	}
	require.Empty(t, errs)
	sent := c.Stats().MessagesSent
	cancel()
	require.GreaterOrEqual(t, len(p.receive().payload), 100<<10) // which makes room
	for range callers {
		require.ErrorIs(t, <-errs, context.Canceled)
	}
	require.NoError(t, <-blocked)
	synctest.Wait()
	require.Equal(t, wsd.StateOpen, c.State())
	require.Equal(t, sent, c.Stats().MessagesSent)
	require.NoError(t, c.Send(t.Context(), wsd.Text("next")))
	require.Equal(t, byte(0x81), p.receive().first&^0x40)
	c.CloseNow()
	p.expectEOF() // nothing came of the calls, and the line goes on
}

func TestCallsWhoseContextEndedInLineDoNothing(t *testing.T) {
	for name, call := range map[string]func(ctx context.Context, c *wsd.Conn) error{
		"Send": func(ctx context.Context, c *wsd.Conn) error { return c.Send(ctx, wsd.Text("short")) },
		"Send of 16 MiB": func(ctx context.Context, c *wsd.Conn) error {
			return c.Send(ctx, wsd.Binary(sixteenMiB()))
		},
		"SendPrepared": func(ctx context.Context, c *wsd.Conn) error {
			return c.SendPrepared(ctx, prepared(wsd.Text("short")))
		},
		"Writer": func(ctx context.Context, c *wsd.Conn) error {
			_, err := io.WriteString(c.Writer(ctx, wsd.TextMessage), "first piece")
			return err
		},
		"Writer of an empty message": func(ctx context.Context, c *wsd.Conn) error {
			return c.Writer(ctx, wsd.TextMessage).Close()
		},
	} {
		for compression, agreed := range map[string]*wsd.Compression{"": nil, ", compressed": {Threshold: -1}} {
			t.Run(name+compression, func(t *testing.T) {
				for round := 0; round < 500 && !t.Failed(); round++ {
					synctest.Test(t, func(t *testing.T) { waitInLine(t, wsd.Config{Compression: agreed}, call) })
				}
			})
		}
	}
}

var sixteenMiB = sync.OnceValue(func() []byte { return make([]byte, 16<<20) })
