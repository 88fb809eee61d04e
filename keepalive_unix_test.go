//go:build unix

// keepalive_unix_test.go checks that a process that was stopped for a while does not take its peers for gone.

package wsd_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

const (
	frozenVariable = "WSD_TEST_FROZEN"
	frozenConns    = 20
	freezes        = 3
	frozenTimeout  = 400 * time.Millisecond // many times what the peers take on a busy machine
)

// freezing is a duty of connections that has a time, in a process that is stopped.
type freezing struct {
	cfg wsd.Config
	// work is what the process does with each connection, and peer what the other side does. Either goes on until the
	// connection ends, and peer calls ready before the process is stopped; stopped is closed while it is.
	work func(c *wsd.Conn)
	peer func(p *peer, ready func(), stopped func() <-chan struct{}) error
	ends func(event wsd.CloseEvent) bool // whether a connection may end so; nil if it may not end
}

var freezings = map[string]freezing{
	// Each peer answers its pings well within the timeout, but holds an answer back for a while, so that there is one on
	// its way when the process is stopped: it then waits in the socket.
	"PongTimeout": {
		cfg:  wsd.Config{PingInterval: frozenTimeout, PongTimeout: frozenTimeout},
		work: swallow,
		peer: func(p *peer, ready func(), stopped func() <-chan struct{}) error {
			for {
				f, err := p.tryReceive()
				if err != nil {
					return err
				}
				if f.first != 0x89 {
					continue
				}
				ready()
				select {
				case <-stopped():
				case <-time.After(frozenTimeout / 4):
				}
				if _, err := p.rwc.Write(p.encode(frame{0x8A, f.payload})); err != nil {
					return err
				}
			}
		},
	},
	// Writes always wait, for a peer that reads slowly, and reads everything while the process is stopped.
	"WriteTimeout": {
		cfg: wsd.Config{WriteTimeout: frozenTimeout, PingInterval: -1},
		work: func(c *wsd.Conn) {
			for m := wsd.Binary(make([]byte, 1<<20)); c.Send(context.Background(), m) == nil; {
			}
		},
		peer: func(p *peer, ready func(), stopped func() <-chan struct{}) error {
			for buffer := make([]byte, 256<<10); ; {
				if _, err := p.rwc.Read(buffer); err != nil {
					return err
				}
				ready()
				select {
				case <-stopped():
				case <-time.After(frozenTimeout / 8):
				}
			}
		},
	},
	// The consumer takes a message often enough, but not while it is stopped.
	"StallTimeout": {
		cfg: wsd.Config{SlowConsumer: wsd.CloseSlow, StallTimeout: frozenTimeout, MessageBuffer: 1, PingInterval: -1},
		work: func(c *wsd.Conn) {
			for range c.Messages() {
				time.Sleep(frozenTimeout / 4)
			}
		},
		peer: func(p *peer, ready func(), stopped func() <-chan struct{}) error {
			for {
				if _, err := p.rwc.Write(p.encode(text("on and on"))); err != nil {
					return err
				}
				ready()
				time.Sleep(time.Millisecond)
			}
		},
	},
	// The answer to the close frame comes while the process is stopped.
	"CloseTimeout": {
		cfg: wsd.Config{CloseTimeout: frozenTimeout, PingInterval: -1},
		work: func(c *wsd.Conn) {
			for range c.Messages() {
				_ = c.Close(wsd.StatusNormalClosure, "")
			}
		},
		peer: func(p *peer, ready func(), stopped func() <-chan struct{}) error {
			if _, err := p.rwc.Write(p.encode(text("close"))); err != nil {
				return err
			}
			if _, err := p.tryReceive(); err != nil {
				return err
			}
			ready()
			select {
			case <-stopped():
			case <-time.After(frozenTimeout / 4):
			}
			if _, err := p.rwc.Write(p.encode(closeFrame(1000))); err != nil {
				return err
			}
			_, err := p.tryReceive()
			return err
		},
		ends: func(event wsd.CloseEvent) bool { return event.Clean },
	},
}

// init makes the test binary the process that is stopped, if it has been asked to be that.
func init() {
	if duty := os.Getenv(frozenVariable); duty != "" {
		keepConnections(freezings[duty])
		os.Exit(0)
	}
}

// keepConnections accepts connections, tells how each of them ends if it should not, and ends with standard input.
func keepConnections(f freezing) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				panic(err)
			}
			_ = conn.(*net.TCPConn).SetWriteBuffer(64 << 10)
			c := wsd.NewConn(conn, wsd.ServerRole, f.cfg)
			go f.work(c)
			go func() {
				<-c.Closed()
				if event := c.CloseEvent(); f.ends == nil || !f.ends(event) {
					fmt.Println("ended:", event.Err)
				}
			}()
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// docs/decisions.md, "A timer that ran late looks once more".
func TestProcessThatWasStoppedKeepsItsPeers(t *testing.T) {
	for duty, f := range freezings {
		t.Run(duty, func(t *testing.T) {
			t.Parallel()
			freeze(t, duty, f)
		})
	}
}

// freeze stops a process with connections for longer than the time of their duty, several times.
func freeze(t *testing.T, duty string, f freezing) {
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), frozenVariable+"="+duty)
	stdin, err := process.StdinPipe()
	require.NoError(t, err)
	stdout, err := process.StdoutPipe()
	require.NoError(t, err)
	process.Stderr = os.Stderr
	require.NoError(t, process.Start())
	said := bufio.NewReader(stdout)
	line, err := said.ReadString('\n')
	require.NoError(t, err)
	port, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err)

	var background sync.WaitGroup
	ready := make(chan struct{}, frozenConns)
	done := make(chan struct{})
	var stopped atomic.Pointer[chan struct{}]
	running := make(chan struct{})
	stopped.Store(&running)
	for range frozenConns {
		background.Go(func() {
			for over := false; !over; {
				conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
				if err != nil {
					return
				}
				_ = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
				ended := make(chan struct{})
				background.Go(func() {
					defer conn.Close()
					select {
					case <-ended:
					case <-done:
					}
				})
				_ = f.peer(&peer{t, conn, true}, func() {
					select {
					case ready <- struct{}{}:
					default:
					}
				}, func() <-chan struct{} { return *stopped.Load() })
				close(ended)
				select {
				case <-done:
					over = true
				default:
					over = f.ends == nil
				}
			}
		})
	}
	complaints := make(chan string, frozenConns)
	background.Go(func() {
		for {
			line, err := said.ReadString('\n')
			if err != nil {
				return
			}
			select {
			case complaints <- line:
			default:
			}
		}
	})
	defer func() {
		_ = process.Process.Signal(syscall.SIGCONT)
		close(done)
		close(*stopped.Load())
		_ = stdin.Close() // which ends the process
		background.Wait()
		_ = process.Wait()
	}()
	goesOn := func(times int, when string) {
		for range times {
			select {
			case <-ready:
			case why := <-complaints:
				require.FailNow(t, "a healthy peer was given up", "%s, %s", when, why)
			}
		}
	}
	for n := range freezes {
		time.Sleep(2 * frozenTimeout) // what was due during the last freeze gets its time
		for len(ready) > 0 {
			<-ready
		}
		goesOn(1, fmt.Sprintf("after %d freezes", n))
		require.NoError(t, process.Process.Signal(syscall.SIGSTOP))
		var status syscall.WaitStatus
		_, err := syscall.Wait4(process.Process.Pid, &status, syscall.WUNTRACED, nil)
		require.NoError(t, err)
		require.True(t, status.Stopped())
		next := make(chan struct{})
		close(*stopped.Swap(&next))
		time.Sleep(frozenTimeout + frozenTimeout/10) // in the real world, which the process sleeps through
		require.NoError(t, process.Process.Signal(syscall.SIGCONT))
	}
	goesOn(2*frozenConns, "after the last freeze") // all live on
}
