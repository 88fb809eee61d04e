// drain_test.go tests how a server goes down gently: at which rate its clients come back, what they get, and in which order
// the calls of a program that ends may come.

package wsd_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// node is a server in memory that tells when connections come.
type node struct {
	ws       *wsd.Server
	http     *http.Server
	listener *memoryListener
	mu       sync.Mutex
	came     []time.Time
	served   chan struct{}
}

func newNode(t *testing.T, handler func(*wsd.Conn)) *node {
	n := &node{ws: &wsd.Server{}, listener: listenInMemory(net.Pipe), served: make(chan struct{})}
	n.http = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := n.ws.Serve(w, r, nil, handler)
		if err == nil {
			n.mu.Lock()
			n.came = append(n.came, time.Now())
			n.mu.Unlock()
		} else if !errors.Is(err, wsd.ErrServerClosed) {
			t.Error(err)
		}
	})}
	go func() {
		defer close(n.served)
		_ = n.http.Serve(n.listener)
	}()
	t.Cleanup(func() {
		require.NoError(t, n.ws.Shutdown(context.Background()))
		require.NoError(t, n.http.Close())
		<-n.served
	})
	return n
}

// Clients of Redial that are drained from one of two servers come to the other one at a bounded rate, and get everything
// that was sent to them before.
func TestDrainSpreadsItsClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const over, every = 20 * time.Second, time.Minute
		clients := 10_000
		if wsd.RaceEnabled {
			clients = 1000 // for each of the goroutines that there were, the detector keeps memory: eleven gigabytes of it
		}
		var sent, received atomic.Int64
		handler := func(c *wsd.Conn) {
			for c.Send(c.Context(), wsd.Text("update")) == nil {
				sent.Add(1)
				select {
				case <-time.After(every):
				case <-c.Closed():
				}
			}
		}
		going, staying := newNode(t, handler), newNode(t, handler)
		var balanced atomic.Pointer[node] // where the balancer sends clients, mostly: it notices late who is going
		balanced.Store(going)
		opts := &wsd.RedialOptions{DialOptions: wsd.DialOptions{
			Config: wsd.Config{PingInterval: -1},
			HTTPClient: &http.Client{Transport: &http.Transport{
				ReadBufferSize: 512, WriteBufferSize: 512,
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					to := balanced.Load()
					if to == staying && rand.N(4) == 0 {
						to = going
					}
					return to.listener.dial(ctx)
				},
			}},
		}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				for conn, err := range wsd.Redial(ctx, "ws://server/", opts) {
					if err != nil {
						continue
					}
					for range conn.Messages() {
						received.Add(1)
					}
					<-conn.Closed()
					if code := conn.CloseEvent().Code; code != wsd.StatusServiceRestart && ctx.Err() == nil {
						t.Error(code)
					}
				}
			})
		}
		synctest.Wait()
		require.Equal(t, clients, going.ws.Connections())

		balanced.Store(staying)
		begun := time.Now()
		require.NoError(t, going.ws.Drain(t.Context(), wsd.DrainOptions{Over: over, Reason: "a new version"}))
		took := time.Since(begun)
		require.GreaterOrEqual(t, took, over)
		require.Less(t, took, over+time.Second)
		require.Zero(t, going.ws.Connections())
		for waited := 0; staying.ws.Connections() < clients && waited < 600; waited++ {
			time.Sleep(time.Second) // for those who have asked the going one first, some of them several times
		}
		require.Equal(t, clients, staying.ws.Connections())
		require.LessOrEqual(t, staying.mostWithin(time.Second), 2*clients/int(over/time.Second))

		cancel()
		all.Wait()
		require.NoError(t, staying.ws.Drain(t.Context(), wsd.DrainOptions{}))
		require.Equal(t, sent.Load(), received.Load(), "what was accepted has arrived")
	})
}

// mostWithin returns how many connections came within the worst of all periods of a length.
func (n *node) mostWithin(period time.Duration) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	most, first := 0, 0
	for i, at := range n.came {
		for at.Sub(n.came[first]) >= period {
			first++
		}
		most = max(most, i+1-first)
	}
	return most
}

// The order is not that in which they came.
func TestDrainInRandomOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients = 30
		n := newNode(t, func(c *wsd.Conn) { <-c.Closed() })
		ended := make(chan int, clients)
		for i := range clients {
			conn := n.dial(t)
			go func() {
				<-conn.Closed()
				ended <- i
			}()
		}
		require.NoError(t, n.ws.Drain(t.Context(), wsd.DrainOptions{Over: time.Minute}))
		inOrder := true
		for i := range clients {
			inOrder = <-ended == i && inOrder
		}
		require.False(t, inOrder)
	})
}

func (n *node) dial(t *testing.T) *wsd.Conn {
	t.Helper()
	conn, _, err := wsd.Dial(t.Context(), "ws://server/", &wsd.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return n.listener.dial(ctx) },
	}}})
	require.NoError(t, err)
	return conn
}

func TestDrainRefusesRequests(t *testing.T) {
	ws := &wsd.Server{Handler: echo}
	require.NoError(t, ws.Drain(t.Context(), wsd.DrainOptions{Over: time.Hour}), "nothing is there to wait for")
	w := httptest.NewRecorder()
	require.ErrorIs(t, ws.Serve(w, handshakeRequest(), nil, echo), wsd.ErrServerClosed)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	require.NoError(t, ws.Drain(t.Context(), wsd.DrainOptions{}), "again")
	require.NoError(t, ws.Shutdown(t.Context()))
	require.NoError(t, ws.Drain(t.Context(), wsd.DrainOptions{}), "behind a Shutdown")
}

func TestDrainArguments(t *testing.T) {
	ws := &wsd.Server{Handler: echo}
	//lint:ignore SA1012 the mistake is what is tested
	require.ErrorIs(t, ws.Drain(nil, wsd.DrainOptions{}), wsd.ErrNilContext)
	require.ErrorAs(t, ws.Drain(t.Context(), wsd.DrainOptions{Code: wsd.StatusAbnormalClosure}), new(*wsd.CloseArgumentError))
	dial, _ := serve(t, ws)
	conn := dial()
	require.NoError(t, conn.Send(t.Context(), wsd.Text("still served")))
	_, err := conn.Receive(t.Context())
	require.NoError(t, err)
	require.NoError(t, ws.Drain(t.Context(), wsd.DrainOptions{Code: 4000, Reason: "own"}))
	<-conn.Closed()
	require.Equal(t, wsd.StatusCode(4000), conn.CloseEvent().Code)
	require.Equal(t, "own", conn.CloseEvent().Reason)
}

// A drain ends as soon as nobody is left, however long its period.
func TestDrainEndsWithItsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, echo)
		conns := []*wsd.Conn{n.dial(t), n.dial(t)}
		begun := time.Now()
		time.AfterFunc(time.Second, func() {
			for _, conn := range conns {
				conn.CloseNow()
			}
		})
		require.NoError(t, n.ws.Drain(t.Context(), wsd.DrainOptions{Over: time.Hour}))
		require.Less(t, time.Since(begun), 10*time.Second)
	})
}

// When ctx is done, what is left stays open; a Shutdown ends it.
func TestDrainGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, echo)
		var conns []*wsd.Conn
		for range 20 {
			conns = append(conns, n.dial(t))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := n.ws.Drain(ctx, wsd.DrainOptions{Over: 2 * time.Minute})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(time.Hour)
		synctest.Wait()
		open := 0
		for _, conn := range conns {
			if conn.State() == wsd.StateOpen {
				open++
				requireEcho(t, conn, "as if nothing had happened")
			}
		}
		require.InDelta(t, 10, open, 1)
		require.NoError(t, n.ws.Shutdown(t.Context()))
		codes := map[wsd.StatusCode]int{}
		for _, conn := range conns {
			<-conn.Closed()
			codes[conn.CloseEvent().Code]++
		}
		require.Equal(t, map[wsd.StatusCode]int{wsd.StatusGoingAway: open, wsd.StatusServiceRestart: len(conns) - open}, codes)
	})
}

// A Shutdown may begin while a Drain is under way: both then end with the last connection.
func TestShutdownDuringADrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, echo)
		for range 20 {
			n.dial(t)
		}
		begun := time.Now()
		drained := make(chan error, 1)
		go func() { drained <- n.ws.Drain(t.Context(), wsd.DrainOptions{Over: time.Hour}) }()
		time.Sleep(time.Minute)
		require.NoError(t, n.ws.Shutdown(t.Context()))
		require.NoError(t, <-drained)
		require.Less(t, time.Since(begun), 2*time.Minute)
	})
}

// The order for a program that ends: Drain, http.Server.Shutdown, Shutdown.
func TestDrainThenShutdowns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, echo)
		var conns []*wsd.Conn
		for range 8 {
			conns = append(conns, n.dial(t))
		}
		drain, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		limit, cancelLimit := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancelLimit()
		n.http.RegisterOnShutdown(func() { _ = n.ws.Shutdown(limit) })
		require.ErrorIs(t, n.ws.Drain(drain, wsd.DrainOptions{Over: 10 * time.Second}), context.DeadlineExceeded)
		require.NoError(t, errors.Join(n.http.Shutdown(limit), n.ws.Shutdown(limit)))
		for _, conn := range conns {
			<-conn.Closed()
			require.True(t, conn.CloseEvent().Clean)
		}
		require.Zero(t, n.ws.Connections())
	})
}

// A handshake that is under way when a Drain begins makes a connection that is drained as well, and stays if the Drain has
// been given up.
func TestDrainDuringAHandshake(t *testing.T) {
	for _, givenUp := range []bool{false, true} {
		t.Run(fmt.Sprint("given up: ", givenUp), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ws := &wsd.Server{Handler: echo}
				ws.PingInterval = -1
				judging, judge := make(chan struct{}), make(chan struct{})
				ws.CheckOrigin = func(*http.Request) bool { close(judging); <-judge; return true }
				client, server := net.Pipe()
				go ws.ServeHTTP(hijacked{httptest.NewRecorder(), server, nil}, handshakeRequest())
				<-judging
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				begun := time.Now()
				drained := make(chan error, 1)
				go func() { drained <- ws.Drain(ctx, wsd.DrainOptions{Over: time.Minute}) }()
				time.Sleep(time.Second)
				close(judge)
				reader := bufio.NewReader(client)
				_, err := http.ReadResponse(reader, nil)
				require.NoError(t, err)
				conn := wsd.NewConn(readFrom{reader, client}, wsd.ClientRole, wsd.Config{PingInterval: -1})
				if givenUp {
					cancel()
					require.ErrorIs(t, <-drained, context.Canceled)
					time.Sleep(time.Hour)
					require.Equal(t, wsd.StateOpen, conn.State())
					require.NoError(t, ws.Shutdown(t.Context()))
					<-conn.Closed()
					require.Equal(t, wsd.StatusGoingAway, conn.CloseEvent().Code)
					return
				}
				<-conn.Closed()
				require.LessOrEqual(t, time.Since(begun), time.Minute)
				require.Equal(t, wsd.StatusServiceRestart, conn.CloseEvent().Code)
				require.NoError(t, <-drained)
			})
		})
	}
}

// A Writer that is open does not hold a drain up: its message is cut, and its program is told.
func TestDrainCutsAnOpenWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan error, 1)
		n := newNode(t, func(c *wsd.Conn) {
			w := c.Writer(context.Background(), wsd.TextMessage, nil)
			_, err := w.Write([]byte("begun"))
			for err == nil {
				time.Sleep(time.Second)
				_, err = w.Write([]byte(", and going on"))
			}
			failed <- err
		})
		conn := n.dial(t)
		time.Sleep(time.Minute)
		begun := time.Now()
		require.NoError(t, n.ws.Drain(t.Context(), wsd.DrainOptions{}))
		require.LessOrEqual(t, time.Since(begun), 10*time.Second)
		require.ErrorIs(t, <-failed, wsd.ErrClosed)
		for range conn.Messages() {
			t.Error("a message that was not completed")
		}
		<-conn.Closed()
	})
}
