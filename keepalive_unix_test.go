//go:build unix

// keepalive_unix_test.go checks that a process that was stopped for a while does not take its peers for gone.

package wsd_test

import (
	"bufio"
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
	frozenTimeout  = 200 * time.Millisecond
)

// init makes the test binary the process that is stopped, if it has been asked to be that.
func init() {
	if os.Getenv(frozenVariable) != "" {
		keepConnections()
		os.Exit(0)
	}
}

// keepConnections accepts connections, tells how each of them ends, and ends with standard input.
func keepConnections() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	for range frozenConns {
		conn, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		c := wsd.NewConn(conn, wsd.ServerRole, wsd.Config{PingInterval: frozenTimeout, PongTimeout: frozenTimeout})
		go func() {
			<-c.Closed()
			fmt.Println("ended:", c.CloseEvent().Err)
		}()
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestProcessThatWasStoppedKeepsItsPeers(t *testing.T) {
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), frozenVariable+"=1")
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

	// Each peer answers its pings well within the timeout, but holds an answer back for a while, so that there is one on its
	// way when the process is stopped: it then waits in the socket.
	var answering sync.WaitGroup
	pinged := make(chan struct{}, frozenConns)
	var stopped atomic.Pointer[chan struct{}]
	running := make(chan struct{})
	stopped.Store(&running)
	for range frozenConns {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		require.NoError(t, err)
		defer conn.Close()
		p := &peer{t, conn, true}
		answering.Go(func() {
			for {
				f, err := p.tryReceive()
				if err != nil {
					return
				}
				if f.first != 0x89 {
					continue
				}
				select {
				case pinged <- struct{}{}:
				default:
				}
				select {
				case <-*stopped.Load():
				case <-time.After(frozenTimeout / 4):
				}
				if _, err := conn.Write(p.encode(frame{0x8A, f.payload})); err != nil {
					return
				}
			}
		})
	}
	defer func() {
		_ = process.Process.Signal(syscall.SIGCONT)
		_ = stdin.Close() // which ends the process, and with it the connections
		answering.Wait()
		_ = process.Wait()
	}()
	ended := make(chan string, frozenConns)
	answering.Go(func() {
		for {
			line, err := said.ReadString('\n')
			if err != nil {
				return
			}
			ended <- line
		}
	})
	for freeze := range freezes {
		time.Sleep(2 * frozenTimeout) // an answer that was due during the last freeze gets its time
		for len(pinged) > 0 {
			<-pinged
		}
		select {
		case <-pinged:
		case why := <-ended:
			require.FailNow(t, "a healthy peer was given up", "after %d freezes, %s", freeze, why)
		}
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
	for range 2 * frozenConns { // all live on after the last one
		select {
		case <-pinged:
		case why := <-ended:
			require.FailNow(t, "a healthy peer was given up", "after the last freeze, %s", why)
		}
	}
}
