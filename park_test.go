//go:build linux

// park_test.go tests connections whose readers end and begin again.

package wsd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/wiretest"
)

// census counts from outside the goroutines that connections have: all there are, less the poller and those that the test
// knows of.
type census struct{ others atomic.Int64 }

// takeCensus counts what there is before the connections of a test, once what others have left behind has ended.
func takeCensus(t *testing.T) *census {
	t.Helper()
	g := new(census)
	const settled = 100 * time.Millisecond
	for since := time.Now(); time.Since(since) < settled; time.Sleep(settled / 20) {
		if now := int64(runtime.NumGoroutine() - pollers(t)); now != g.others.Load() {
			g.others.Store(now)
			since = time.Now()
		}
	}
	return g
}

// start starts a goroutine of the test.
func (g *census) start(f func()) {
	g.others.Add(1)
	go func() {
		defer g.others.Add(-1)
		f()
	}()
}

func (g *census) ofConns(t *testing.T) int {
	return runtime.NumGoroutine() - pollers(t) - int(g.others.Load())
}

// await waits until connections have n goroutines.
func (g *census) await(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); g.ofConns(t) != n; runtime.Gosched() {
		if time.Now().After(deadline) {
			require.Equal(t, n, g.ofConns(t), "goroutines of connections")
		}
	}
}

// pollers returns how many epoll instances this process has besides the runtime's own: a poller has one while it lives.
func pollers(t *testing.T) (n int) {
	t.Helper()
	descriptors, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, descriptor := range descriptors {
		if target, _ := os.Readlink("/proc/self/fd/" + descriptor.Name()); target == "anon_inode:[eventpoll]" {
			n++
		}
	}
	return n - 1
}

// parkedConn returns a server's connection without a reader, and its peer. Pings are left to the test.
func (g *census) parkedConn(t *testing.T, cfg wsd.Config) (*wsd.Conn, *net.TCPConn) {
	t.Helper()
	peer, transport := tcpPair(t)
	if cfg.PingInterval == 0 {
		cfg.PingInterval = -1
	}
	c := wsd.NewConn(transport, wsd.ServerRole, cfg)
	t.Cleanup(func() { endNow(t, c) })
	g.await(t, 0)
	return c, peer
}

// requireEnd waits for the end of a connection, and fails the test if it does not come within seconds.
func requireEnd(t *testing.T, c *wsd.Conn) {
	t.Helper()
	select {
	case <-c.Closed():
	case <-time.After(10 * time.Second):
		require.Fail(t, "the connection does not end")
	}
}

// endNow is CloseNow for a test that must not wait if that does not return.
func endNow(t *testing.T, c *wsd.Conn) {
	t.Helper()
	go c.CloseNow()
	requireEnd(t, c)
}

func roundTrip(t *testing.T, peer net.Conn, payload []byte) {
	t.Helper()
	_, err := peer.Write(encodeFrame(binaryFrame(payload), true))
	require.NoError(t, err)
	answer := make([]byte, 2+len(payload))
	_, err = io.ReadFull(peer, answer)
	require.NoError(t, err)
	require.Equal(t, payload, answer[2:])
}

func TestQuietConnectionsHaveNoReader(t *testing.T) {
	g := takeCensus(t)
	c, peer := g.parkedConn(t, wsd.Config{})
	g.start(func() { echo(c) })
	roundTrip(t, peer, []byte("one message"))
	g.await(t, 0) // nothing is expected to follow

	// The reader waits for a message that comes in pieces; when no more comes for a long time, it ends in the middle.
	request := encodeFrame(binaryFrame([]byte("in two pieces")), true)
	_, err := peer.Write(request[:9])
	require.NoError(t, err)
	g.await(t, 1)
	g.await(t, 0)
	_, err = peer.Write(request[9:])
	require.NoError(t, err)
	answer := make([]byte, 15)
	_, err = io.ReadFull(peer, answer)
	require.NoError(t, err)
	require.Equal(t, "in two pieces", string(answer[2:]))

	// So do readers of messages that come close together.
	const most = 100
	messages := 0
	for messages < most && g.ofConns(t) <= 0 {
		roundTrip(t, peer, fmt.Appendf(nil, "message %d", messages))
		messages++
	}
	require.Less(t, messages, most)
	g.await(t, 0)
	roundTrip(t, peer, []byte("and again"))
	require.EqualValues(t, messages+3, c.Stats().MessagesReceived)
	require.Zero(t, c.Stats().MessagesDropped)
}

func TestParkedConnectionAnswersPings(t *testing.T) {
	g := takeCensus(t)
	_, peer := g.parkedConn(t, wsd.Config{})
	ping := encodeFrame(binaryFrame([]byte("?")), true)
	ping[0] = 0x89
	for range 20 {
		_, err := peer.Write(ping)
		require.NoError(t, err)
		pong := make([]byte, 3)
		_, err = io.ReadFull(peer, pong)
		require.NoError(t, err)
		require.Equal(t, []byte{0x8A, 1, '?'}, pong)
	}
	_, err := peer.Write(ping[:1])
	require.NoError(t, err)
	g.await(t, 2) // a header has begun, and the writer waits for more to write
	g.await(t, 1)
}

func TestEndsOfParkedConnections(t *testing.T) {
	closeFrame := []byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8}
	for name, test := range map[string]struct {
		cfg    wsd.Config
		end    func(t *testing.T, c *wsd.Conn, peer *net.TCPConn)
		expect func(t *testing.T, event wsd.CloseEvent)
	}{
		"close frame of the peer": {
			end: func(t *testing.T, _ *wsd.Conn, peer *net.TCPConn) {
				_, err := peer.Write(closeFrame)
				require.NoError(t, err)
			},
			expect: func(t *testing.T, event wsd.CloseEvent) {
				require.True(t, event.Clean)
				require.Equal(t, wsd.StatusNormalClosure, event.Code)
			},
		},
		"Close": {
			end: func(t *testing.T, c *wsd.Conn, peer *net.TCPConn) {
				go func() {
					if _, err := io.ReadFull(peer, make([]byte, 4)); err == nil {
						_, _ = peer.Write(closeFrame)
					}
				}()
				require.NoError(t, c.Close(wsd.StatusGoingAway, ""))
			},
			expect: func(t *testing.T, event wsd.CloseEvent) { require.True(t, event.Clean) },
		},
		"Close, unanswered": {
			cfg: wsd.Config{CloseTimeout: 50 * time.Millisecond},
			end: func(t *testing.T, c *wsd.Conn, _ *net.TCPConn) {
				require.ErrorIs(t, c.Close(wsd.StatusGoingAway, ""), wsd.ErrCloseTimeout)
			},
			expect: func(t *testing.T, event wsd.CloseEvent) {
				require.False(t, event.Clean)
				require.ErrorIs(t, event.Err, wsd.ErrCloseTimeout)
			},
		},
		"CloseNow": {
			end:    func(t *testing.T, c *wsd.Conn, _ *net.TCPConn) { endNow(t, c) },
			expect: func(t *testing.T, event wsd.CloseEvent) { require.ErrorIs(t, event.Err, net.ErrClosed) },
		},
		"end of the peer's bytes": {
			end: func(t *testing.T, _ *wsd.Conn, peer *net.TCPConn) {
				require.NoError(t, peer.CloseWrite())
			},
			expect: func(t *testing.T, event wsd.CloseEvent) { require.ErrorIs(t, event.Err, io.EOF) },
		},
		"reset": {
			end: func(t *testing.T, _ *wsd.Conn, peer *net.TCPConn) {
				require.NoError(t, peer.SetLinger(0))
				require.NoError(t, peer.Close())
			},
			expect: func(t *testing.T, event wsd.CloseEvent) {
				require.Equal(t, wsd.StatusAbnormalClosure, event.Code)
			},
		},
		"no pong": {
			cfg: wsd.Config{PingInterval: 100 * time.Millisecond, PongTimeout: 50 * time.Millisecond},
			end: func(*testing.T, *wsd.Conn, *net.TCPConn) {},
			expect: func(t *testing.T, event wsd.CloseEvent) {
				require.ErrorIs(t, event.Err, wsd.ErrPongTimeout)
			},
		},
		"violation": {
			end: func(t *testing.T, _ *wsd.Conn, peer *net.TCPConn) {
				_, err := peer.Write([]byte{0x83, 0x80, 0, 0, 0, 0})
				require.NoError(t, err)
			},
			expect: func(t *testing.T, event wsd.CloseEvent) {
				require.Equal(t, wsd.StatusProtocolError, event.Code)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := takeCensus(t)
			c, peer := g.parkedConn(t, test.cfg)
			test.end(t, c, peer)
			requireEnd(t, c)
			test.expect(t, c.CloseEvent())
			_, more := <-c.Messages()
			require.False(t, more)
			g.await(t, 0)
		})
	}
}

// Whoever ends a parked connection has a reader see to it: they do not wait, one after the other, for the poller to look.
func TestManyEndsOfParkedConnections(t *testing.T) {
	g := takeCensus(t)
	var conns [30]*wsd.Conn
	for i := range conns {
		conns[i], _ = g.parkedConn(t, wsd.Config{})
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, c := range conns {
			c.CloseNow()
		}
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		require.Fail(t, "connections do not end")
	}
}

// Somebody who has kept the transport may close it, which the kernel does not report to a poller.
func TestTransportClosedUnderneathParkedConnections(t *testing.T) {
	g := takeCensus(t)
	const few = 20
	var conns [few]*wsd.Conn
	var transports [few]*net.TCPConn
	for i := range conns {
		peer, transport := tcpPair(t)
		t.Cleanup(func() { _ = peer.Close() })
		conns[i], transports[i] = wsd.NewConn(transport, wsd.ServerRole, wsd.Config{PingInterval: -1}), transport
		t.Cleanup(func() { endNow(t, conns[i]) })
	}
	g.await(t, 0)
	for _, transport := range transports[1:] {
		require.NoError(t, transport.Close())
	}
	// Their descriptors are other connections' now.
	for range 2 * few {
		g.parkedConn(t, wsd.Config{})
	}
	for _, c := range conns[1:] {
		requireEnd(t, c)
		event := c.CloseEvent()
		require.ErrorIs(t, event.Err, net.ErrClosed)
		require.Equal(t, wsd.StatusAbnormalClosure, event.Code)
		_, more := <-c.Messages()
		require.False(t, more)
	}
	require.Equal(t, wsd.StateOpen, conns[0].State())

	// A connection whose descriptor no other has taken is not forgotten either.
	require.NoError(t, transports[0].Close())
	requireEnd(t, conns[0])
	require.ErrorIs(t, conns[0].CloseEvent().Err, net.ErrClosed)
	g.await(t, 0)
}

// A connection that waits for bytes keeps none of the memory that it recently read into.
func TestParkedConnectionsKeepNoBuffers(t *testing.T) {
	const conns, most = 50, 16 << 10 // bytes a connection
	for name, test := range map[string]struct {
		before int           // messages that are received at once, before the one that waits
		stall  time.Duration // of the consumer, at the least
	}{
		"parked for want of bytes":          {},
		"roused while the consumer stalled": {2, 2500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && test.stall > 0 {
				t.Skip("takes seconds")
			}
			g := takeCensus(t)
			servers, peers := make([]*wsd.Conn, conns), make([]net.Conn, conns)
			for i := range conns {
				servers[i], peers[i] = g.parkedConn(t, wsd.Config{MessageBuffer: -1})
			}
			<-time.After(300 * time.Millisecond) // or they wait for more as it is so soon after the start
			before := held()
			for i, c := range servers {
				for received := range test.before + 1 {
					_, err := peers[i].Write(encodeFrame(binaryFrame([]byte("message")), true))
					require.NoError(t, err)
					if received < test.before {
						_, err := c.Receive(t.Context())
						require.NoError(t, err)
					}
				}
				// Each reader holds a buffer of its own.
				require.Eventually(t, func() bool { return c.Stats().MessagesReceived == uint64(test.before)+1 },
					10*time.Second, time.Millisecond)
			}
			<-time.After(test.stall)
			for _, c := range servers {
				_, err := c.Receive(t.Context())
				require.NoError(t, err)
			}
			g.await(t, 0)
			require.Less(t, held(), before+conns*most)
		})
	}
}

// A socket with a time stamp in its queue of errors is always ready for a poller, and has nothing for a read.
func TestReadyWithoutBytes(t *testing.T) {
	const sent, asSoftwareHasThem = 1 << 1, 1 << 4 // SOF_TIMESTAMPING_TX_SOFTWARE, SOF_TIMESTAMPING_SOFTWARE
	peer, transport := tcpPair(t)
	defer peer.Close()
	socket, err := transport.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, socket.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_TIMESTAMPING, sent|asSoftwareHasThem)
	}))
	require.NoError(t, err)
	_, err = transport.Write([]byte("!"))
	require.NoError(t, err)
	_, err = peer.Read(make([]byte, 1))
	require.NoError(t, err)

	g := takeCensus(t)
	var before, after runtime.MemStats
	c := wsd.NewConn(transport, wsd.ServerRole, wsd.Config{PingInterval: -1})
	defer c.CloseNow()
	g.await(t, 1)
	runtime.ReadMemStats(&before)
	<-time.After(100 * time.Millisecond)
	runtime.ReadMemStats(&after)
	require.Less(t, after.Mallocs-before.Mallocs, uint64(200), "as many as a reader or two need, not thousands")
	go echo(c)
	roundTrip(t, peer, []byte("it works all the same"))
}

// With a duplicate of its descriptor, a socket outlives its connection and keeps waking the poller under a number that is
// another connection's by then.
func TestDescriptorUsedAgainBesideItsDuplicate(t *testing.T) {
	awaitPollerEnd(t)
	placeholder, err := os.Open(os.DevNull)
	require.NoError(t, err)
	peer, transport := tcpPair(t)
	defer peer.Close()
	number := descriptorOf(t, transport)
	duplicate, err := transport.File()
	require.NoError(t, err)
	defer duplicate.Close()
	g := takeCensus(t)
	first := wsd.NewConn(transport, wsd.ServerRole, wsd.Config{PingInterval: -1})
	defer first.CloseNow()
	if !wsd.RaceEnabled && runtime.GOARCH != "386" && runtime.GOARCH != "s390x" { // where sockets are read as files are
		_ = duplicate.Fd() // puts the socket into blocking mode
	}
	g.await(t, 0)
	echoed := make(chan struct{})
	g.start(func() {
		defer close(echoed)
		echo(first)
	})
	roundTrip(t, peer, []byte("blocking or not"))
	g.await(t, 0)

	first.CloseNow()
	<-echoed
	require.NoError(t, placeholder.Close()) // its number is the listener's next, and the dialed socket's the one behind it
	transport, again := tcpPair(t)
	defer again.Close()
	require.Equal(t, number, descriptorOf(t, transport))
	c := wsd.NewConn(transport, wsd.ServerRole, wsd.Config{PingInterval: -1})
	defer c.CloseNow()
	g.start(func() { echo(c) })
	_, err = peer.Write([]byte("for nobody"))
	require.NoError(t, err)
	for i := range 3 {
		roundTrip(t, again, fmt.Appendf(nil, "message %d", i))
	}
	g.await(t, 0)
	require.Equal(t, wsd.StateOpen, c.State())
}

func descriptorOf(t *testing.T, socket syscall.Conn) (number uintptr) {
	t.Helper()
	raw, err := socket.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { number = fd }))
	return number
}

// awaitPollerEnd waits until there is no poller: it stays for a moment after its last connection.
func awaitPollerEnd(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); pollers(t) > 0; runtime.Gosched() {
		require.True(t, time.Now().Before(deadline), "poller without a connection")
	}
}

// If no poller is available, readers wait themselves.
func TestNoDescriptorForThePoller(t *testing.T) {
	awaitPollerEnd(t)
	peer, transport := tcpPair(t)
	defer peer.Close()
	g := takeCensus(t)
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	none := limit
	none.Cur = 0
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none))
	others := g.others.Load()
	c := wsd.NewConn(transport, wsd.ServerRole, wsd.Config{PingInterval: -1})
	defer c.CloseNow()
	running := runtime.NumGoroutine() // there is no descriptor to look for pollers either
	g.start(func() { echo(c) })
	roundTrip(t, peer, []byte("one"))
	roundTrip(t, peer, []byte("two"))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	require.Zero(t, pollers(t))
	require.EqualValues(t, others+1, running)

	g.await(t, 0) // one can be had again
	require.Equal(t, 1, pollers(t))
	roundTrip(t, peer, []byte("three"))
}

// Connections come, send something now and then, and go in every way, so that descriptors are reused right after other
// connections with the same number have ended.
func TestParkingManyConnections(t *testing.T) {
	g := takeCensus(t)
	const at = 50
	turns := 10
	if testing.Short() {
		turns = 5
	}
	listener := wiretest.Listen(t, "tcp")
	var serving sync.WaitGroup
	defer serving.Wait()
	defer listener.Close()
	serving.Go(func() {
		for {
			transport, err := listener.Accept()
			if err != nil {
				return
			}
			c := wsd.NewConn(transport, wsd.ServerRole, wsd.Config{})
			serving.Go(func() {
				echo(c)
				_ = c.Close(wsd.StatusNormalClosure, "")
			})
		}
	})
	g.others.Add(1) // which accepts
	talk := func(seed uint64) error {
		random := rand.New(rand.NewPCG(seed, 0))
		for turn := range turns {
			transport, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				return err
			}
			c := wsd.NewConn(transport, wsd.ClientRole, wsd.Config{})
			for i := range random.IntN(8) {
				sent := fmt.Sprintf("%d, %d, %d", seed, turn, i)
				if err := c.Send(context.Background(), wsd.Text(sent)); err != nil {
					return err
				}
				answer, err := c.Receive(context.Background())
				if err != nil {
					return err
				}
				if string(answer.Data) != sent {
					return fmt.Errorf("expected %q, got %q", sent, answer.Data)
				}
				if random.IntN(4) == 0 {
					pause := time.NewTimer(time.Duration(random.IntN(300)) * time.Millisecond)
					<-pause.C
				}
			}
			if random.IntN(2) == 0 {
				c.CloseNow()
			} else if err := c.Close(wsd.StatusNormalClosure, ""); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make([]error, at)
	var talking sync.WaitGroup
	for i := range at {
		talking.Go(func() { errs[i] = talk(uint64(i)) })
	}
	talking.Wait()
	require.NoError(t, errors.Join(errs...))
	g.await(t, 0)
}

// A bubble's goroutines and channels are its own: the poller may not start a reader in it.
func TestSocketsInABubble(t *testing.T) {
	g := takeCensus(t)
	g.parkedConn(t, wsd.Config{}) // has the poller run, outside
	synctest.Test(t, func(t *testing.T) {
		peer, transport := tcpPair(t)
		c := wsd.NewConn(transport, wsd.ServerRole, wsd.Config{})
		go echo(c)
		roundTrip(t, peer, []byte("one"))
		roundTrip(t, peer, []byte("two"))
		require.NoError(t, peer.Close())
		<-c.Closed()
	})
}
