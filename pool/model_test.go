// model_test.go does random things to a pool and compares it with a model of who has a connection and who waits.

package pool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/pool"
)

// modelUser is an Acquire, from its call to the end of the loan.
type modelUser struct {
	cancel context.CancelFunc
	got    chan acquired // one value, once Acquire has returned
	conn   *pool.Conn    // nil while it waits
}

// model is what a pool with servers that are well has to do: while somebody waits, all connections are lent, and whoever
// has waited longest gets the next one.
type model struct {
	pool    *pool.Pool
	maxConn int
	waiting []*modelUser // first come first
	lent    []*modelUser
}

func (m *model) acquire() {
	ctx, cancel := context.WithCancel(context.Background())
	u := &modelUser{cancel: cancel, got: make(chan acquired, 1)}
	go func() {
		c, err := m.pool.Acquire(ctx)
		u.got <- acquired{c, err}
	}()
	synctest.Wait() // for its place in line
	m.waiting = append(m.waiting, u)
}

// settle lets the pool do what it has to, and compares.
func (m *model) settle(t *testing.T, step string) {
	<-time.After(time.Minute) // dials, closings and rests
	synctest.Wait()
	for len(m.waiting) > 0 && len(m.lent) < m.maxConn {
		first := m.waiting[0]
		require.Len(t, first.got, 1, "%s: a connection is free, but not lent to whoever has waited longest", step)
		got := <-first.got
		require.NoError(t, got.err, step)
		ask(t, got.conn, "well?")
		first.conn = got.conn
		m.waiting, m.lent = m.waiting[1:], append(m.lent, first)
	}
	for _, u := range m.waiting {
		require.Empty(t, u.got, step)
	}
	s := m.pool.Stats()
	require.True(t, addsUp(s), "%s: %+v", step, s)
	require.Equal(t, len(m.lent), s.InUse, step)
	require.Equal(t, len(m.waiting), s.Waiting, step)
	require.Zero(t, s.Dialing+s.Closing, step)
}

// take removes one at random.
func take(r *rand.Rand, users *[]*modelUser) *modelUser {
	i := r.IntN(len(*users))
	u := (*users)[i]
	*users = append((*users)[:i:i], (*users)[i+1:]...)
	return u
}

func TestModel(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 0))
				opts := pool.Options{MaxConns: 1 + r.IntN(4), MaxIdleTime: []time.Duration{-1, 0, 90 * time.Second}[r.IntN(3)],
					CheckAfter: []time.Duration{0, time.Second}[r.IntN(2)], RetryFor: time.Hour, Balance: pool.Balance(r.IntN(2))}
				opts.MinIdle = r.IntN(opts.MaxConns + 1)
				hosts := map[string]*host{"a": newHost(t, nil), "b": newHost(t, nil)}
				if r.IntN(2) == 0 {
					opts.MoreURLs = []string{"ws://b"}
				}
				p, err := pool.New("ws://a", options(hosts, opts))
				require.NoError(t, err)
				m := &model{pool: p, maxConn: opts.MaxConns}
				for i := range 80 {
					switch what := r.IntN(12); {
					case what < 5:
						m.acquire()
					case what < 7 && len(m.lent) > 0:
						require.NoError(t, take(r, &m.lent).conn.Release())
					case what == 7 && len(m.lent) > 0:
						require.NoError(t, take(r, &m.lent).conn.Destroy())
					case what == 8 && len(m.waiting) > 0:
						u := take(r, &m.waiting)
						u.cancel()
						require.ErrorIs(t, (<-u.got).err, context.Canceled)
					case what == 9 && len(m.waiting) > 0 && len(m.lent) > 0:
						// One gives up while a connection comes back, which may be given to it.
						u := take(r, &m.waiting)
						released := take(r, &m.lent).conn
						go u.cancel()
						require.NoError(t, released.Release())
						if got := <-u.got; got.err == nil {
							require.NoError(t, got.conn.Release())
						} else {
							require.ErrorIs(t, got.err, context.Canceled)
						}
					case what == 10:
						hosts["a"].drop()
						hosts["b"].drop()
						for _, u := range m.lent {
							require.NoError(t, u.conn.Release())
						}
						m.lent = nil
					}
					m.settle(t, fmt.Sprint("step ", i))
				}
				waiting := m.waiting
				require.NoError(t, p.Close())
				for _, u := range waiting {
					require.True(t, errors.Is((<-u.got).err, pool.ErrClosed))
				}
				for _, u := range m.lent {
					require.NoError(t, u.conn.Release())
				}
				s := p.Stats()
				require.Zero(t, s.InUse+s.Idle+s.Dialing+s.Closing+s.Waiting, "%+v", s)
			})
		})
	}
}
