// park_linux_test.go parks sockets without connections: what wakes them, what does not, and what becomes of those that
// are closed while they are parked.

package park_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/park"
	"github.com/seed62836080/wsd/internal/wiretest"
)

// patience is how long something may take that needs no more than a sweep: a failing test, not a slow one, takes so long.
const patience = 10 * time.Second

// parker is a socket with its slot, and the other end.
type parker struct {
	slot      park.Slot
	raw       syscall.RawConn
	near, far *net.TCPConn
	woken     chan struct{}
	wakes     atomic.Int32
}

func newParker(t testing.TB) *parker { return newParkerAfter(t, func() {}) }

// newParkerAfter calls ahead just before the socket is made, whose descriptor will be the lowest that is free then.
func newParkerAfter(t testing.TB, ahead func()) *parker {
	t.Helper()
	listener := wiretest.Listen(t, "tcp")
	defer listener.Close()
	far, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	ahead()
	near, err := listener.Accept()
	require.NoError(t, err)
	p := &parker{near: near.(*net.TCPConn), far: far.(*net.TCPConn), woken: make(chan struct{}, 8)}
	p.raw, err = p.near.SyscallConn()
	require.NoError(t, err)
	t.Cleanup(func() {
		p.Unpark()
		near.Close()
		far.Close()
	})
	return p
}

func (p *parker) Socket() syscall.RawConn { return p.raw }

func (p *parker) Slot() *park.Slot { return &p.slot }

func (p *parker) Wake() {
	p.wakes.Add(1)
	p.woken <- struct{}{}
}

func (p *parker) Park() bool { return park.Park(p) }

func (p *parker) Unpark() bool { return park.Unpark(p) }

func (p *parker) Unregister() { park.Unregister(p) }

func (p *parker) send(t testing.TB) {
	t.Helper()
	_, err := p.far.Write([]byte("x"))
	require.NoError(t, err)
}

func (p *parker) receive(t testing.TB) {
	t.Helper()
	_, err := p.near.Read(make([]byte, 1))
	require.NoError(t, err)
}

func (p *parker) requireWoken(t testing.TB) {
	t.Helper()
	select {
	case <-p.woken:
	case <-time.After(patience):
		require.Fail(t, "not woken")
	}
}

// requireNotWoken checks that what has happened so far wakes none of ps: the poller sees another socket only afterwards.
func requireNotWoken(t testing.TB, ps ...*parker) {
	t.Helper()
	last := newParker(t)
	require.True(t, last.Park())
	last.send(t)
	last.requireWoken(t)
	for _, p := range ps {
		require.Empty(t, p.woken, "woken")
	}
}

func (p *parker) descriptor(t testing.TB) (number int) {
	t.Helper()
	raw, err := p.near.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { number = int(fd) }))
	return number
}

func TestWokenByBytes(t *testing.T) {
	p := newParker(t)
	for range 3 {
		require.True(t, p.Park())
		requireNotWoken(t, p)
		p.send(t)
		p.requireWoken(t)
		// Only what is parked is woken.
		p.send(t)
		requireNotWoken(t, p)
		// What is there already wakes too.
		require.True(t, p.Park())
		p.requireWoken(t)
		p.receive(t)
		p.receive(t)
	}
}

func TestWokenByTheEndOfBytes(t *testing.T) {
	for name, end := range map[string]func(*net.TCPConn) error{
		"end":   (*net.TCPConn).CloseWrite,
		"close": (*net.TCPConn).Close,
		"reset": func(far *net.TCPConn) error {
			_ = far.SetLinger(0)
			return far.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newParker(t)
			require.True(t, p.Park())
			require.NoError(t, end(p.far))
			p.requireWoken(t)
		})
	}
}

func TestUnpark(t *testing.T) {
	p := newParker(t)
	require.False(t, p.Unpark(), "never parked")
	require.True(t, p.Park())
	require.True(t, p.Unpark())
	require.False(t, p.Unpark(), "twice")
	p.send(t)
	requireNotWoken(t, p)
	// It can be parked again, and is told of what came meanwhile.
	require.True(t, p.Park())
	p.requireWoken(t)
	require.False(t, p.Unpark(), "after it was woken")
}

func TestClosedSocketsAreNotParked(t *testing.T) {
	p := newParker(t)
	require.NoError(t, p.near.Close())
	require.False(t, p.Park())
	require.False(t, p.Unpark())
}

// The kernel does not report to a poller that a socket has been closed by this process.
func TestSocketsClosedWhileTheyAreParkedAreFound(t *testing.T) {
	const parkers = 200 // more than are looked at at a time
	var closed, open []*parker
	for i := range parkers {
		p := newParker(t)
		require.True(t, p.Park())
		if i%4 == 3 {
			open = append(open, p)
		} else {
			closed = append(closed, p)
		}
	}
	for _, p := range closed {
		require.NoError(t, p.near.Close())
	}
	for _, p := range closed {
		p.requireWoken(t)
	}
	requireNotWoken(t, open...)
	for _, p := range open {
		require.True(t, p.Unpark())
	}
	for _, p := range closed {
		require.EqualValues(t, 1, p.wakes.Load())
	}
}

// A descriptor that is another socket's by now says that the socket that had it is closed.
func TestDescriptorUsedAgain(t *testing.T) {
	first := newParker(t)
	require.True(t, first.Park())
	number := first.descriptor(t)
	second := newParkerAfter(t, func() { require.NoError(t, first.near.Close()) })
	require.Equal(t, number, second.descriptor(t))
	require.True(t, second.Park())
	first.requireWoken(t)
	require.False(t, first.Unpark())
	requireNotWoken(t, second)
	second.send(t)
	second.requireWoken(t)
	require.EqualValues(t, 1, first.wakes.Load())
}

// What a reader that waits itself receives is none of the poller's business.
func TestUnregister(t *testing.T) {
	p := newParker(t)
	pollers := func() (n int) {
		fds, err := os.ReadDir("/proc/self/fdinfo")
		require.NoError(t, err)
		for _, fd := range fds {
			info, _ := os.ReadFile("/proc/self/fdinfo/" + fd.Name())
			for line := range strings.SplitSeq(string(info), "\n") {
				if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "tfd:" && fields[1] == fmt.Sprint(p.descriptor(t)) {
					n++
				}
			}
		}
		return n
	}
	p.Unregister()
	require.Equal(t, 1, pollers(), "the net package's")
	for range 2 {
		require.True(t, p.Park())
		p.send(t)
		p.requireWoken(t)
		p.receive(t)
		require.Equal(t, 2, pollers(), "it is probably parked again soon")
		p.Unregister()
		require.Equal(t, 1, pollers())
	}
}

func pollerRuns() bool {
	stacks := make([]byte, 1<<20)
	return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "park.(*lot).poll")
}

// awaitPollerEnd waits until there is no poller: it stays for a moment after its last socket.
func awaitPollerEnd(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); pollerRuns(); runtime.Gosched() {
		require.True(t, time.Now().Before(deadline), "poller without a socket")
	}
}

func TestPollerEndsWithoutSockets(t *testing.T) {
	for name, leave := range map[string]func(*testing.T, *parker){
		"unparked": func(t *testing.T, p *parker) { require.True(t, p.Unpark()) },
		"woken": func(t *testing.T, p *parker) {
			p.send(t)
			p.requireWoken(t)
		},
		"closed": func(t *testing.T, p *parker) {
			require.NoError(t, p.near.Close())
			p.requireWoken(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newParker(t)
			require.True(t, p.Park())
			require.True(t, pollerRuns())
			leave(t, p)
			awaitPollerEnd(t)
			// The next one brings it back.
			p = newParker(t)
			require.True(t, p.Park())
			p.send(t)
			p.requireWoken(t)
		})
	}
}

func TestNoDescriptorForThePoller(t *testing.T) {
	awaitPollerEnd(t)
	p := newParker(t)
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	none := limit
	none.Cur = 0
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none))
	parked := p.Park()
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	require.False(t, parked)
	require.False(t, p.Unpark())

	require.True(t, p.Park(), "one can be had again")
	p.send(t)
	p.requireWoken(t)
}

func TestParkingAllocatesNothing(t *testing.T) {
	stay, p := newParker(t), newParker(t)
	require.True(t, stay.Park()) // so that the poller does
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if !p.Park() || !p.Unpark() {
			t.Fatal("not parked")
		}
	}))
}

// Each Park is followed by one wake or one Unpark, whoever calls what at the same time.
func TestEachParkEndsOnce(t *testing.T) {
	const parkers, turns = 20, 100
	var all sync.WaitGroup
	for i := range parkers {
		p := newParker(t)
		random := rand.New(rand.NewPCG(uint64(i), 0))
		all.Go(func() {
			wakes := 0
			for range turns {
				if !p.Park() {
					t.Error("not parked")
					return
				}
				var unparked bool
				sent := random.IntN(4) > 0
				if sent {
					if _, err := p.far.Write([]byte("x")); err != nil {
						t.Error(err)
						return
					}
				}
				if !sent || random.IntN(2) == 0 {
					runtime.Gosched()
					unparked = p.Unpark()
				}
				if !unparked {
					select {
					case <-p.woken:
						wakes++
					case <-time.After(patience):
						t.Error("neither unparked nor woken")
						return
					}
				}
				if sent {
					if _, err := p.near.Read(make([]byte, 1)); err != nil {
						t.Error(err)
						return
					}
				}
			}
			if int(p.wakes.Load()) != wakes || len(p.woken) > 0 {
				t.Errorf("woken %d times, expected %d", p.wakes.Load(), wakes)
			}
		})
	}
	all.Wait()
}
