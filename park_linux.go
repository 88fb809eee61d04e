// park_linux.go waits, with a single goroutine, for bytes on all connections whose readers have ended because none came.

package wsd

import (
	"os"
	"sync"
	"syscall"
	"time"
)

// canPark says that the readers of sockets may end while nothing arrives.
const canPark = true

const (
	// lingerEmpty is how long the poller stays after the last connection has left, so that it need not come and go with
	// each.
	lingerEmpty = 20 * time.Millisecond
	// sweepEvery is how often the poller looks for connections whose transports somebody else has closed, which the
	// kernel does not report. sweepMost is how many descriptors it then looks at, which takes a millisecond or two.
	sweepEvery = time.Second
	sweepMost  = 16 << 10
)

// parkingLot holds connections without a reader. The net package's poller wakes only goroutines that wait, one for each
// connection. So this is a separate poller, which itself waits in that of the net package like a connection.
type parkingLot struct {
	mu    sync.Mutex
	file  *os.File // of the epoll instance; nil if there is none, and then there is no goroutine either
	epoll int
	conns []*Conn // by descriptor
	count int     // of conns
	swept int     // the descriptor where the next sweep begins
}

var parked parkingLot

// add parks a connection and reports whether it did. Its reader may then be running again.
func (l *parkingLot) add(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil && !l.open() {
		return false
	}
	var closed *Conn
	// Within Control the descriptor cannot be closed and given to another connection.
	_ = c.transport.raw.conn.Control(func(fd uintptr) {
		// With EPOLLONESHOT a connection can stay registered without an event for each byte that its reader reads.
		event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(fd)}
		err := error(syscall.ENOENT)
		if c.parking.polled {
			err = syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_MOD, int(fd), &event)
		}
		if err == syscall.ENOENT {
			err = syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, int(fd), &event)
		}
		if c.parking.polled = err == nil; !c.parking.polled {
			return
		}
		l.conns = append(l.conns, make([]*Conn, max(0, int(fd)+1-len(l.conns)))...)
		if closed = l.conns[fd]; closed != nil {
			l.forget(closed) // it is closed, or its descriptor would not be another's
		}
		l.conns[fd] = c
		l.count++
		c.parking.parkedAs = event.Fd + 1
	})
	l.lingerIfEmpty()
	if closed != nil {
		closed.parking.startReader(nil)
	}
	return c.parking.parkedAs > 0
}

func (l *parkingLot) open() bool {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	if err := syscall.SetNonblock(epoll, true); err != nil {
		_ = syscall.Close(epoll)
		return false
	}
	file := os.NewFile(uintptr(epoll), "epoll") // polled, as it does not block
	conn, err := file.SyscallConn()
	if err != nil || file.SetReadDeadline(time.Now().Add(sweepEvery)) != nil {
		_ = file.Close()
		return false
	}
	l.file, l.epoll = file, epoll
	go l.wait(conn)
	return true
}

// lingerIfEmpty makes wait check in a moment whether it is still needed.
func (l *parkingLot) lingerIfEmpty() {
	if l.count == 0 {
		_ = l.file.SetReadDeadline(time.Now().Add(lingerEmpty))
	}
}

// wait starts the readers of connections on which something has arrived, and of those that have been closed. It ends when
// there have been no connections for a moment.
func (l *parkingLot) wait(epoll syscall.RawConn) {
	var events [64]syscall.EpollEvent
	var n int
	step := func(fd uintptr) bool {
		n, _ = syscall.EpollWait(int(fd), events[:], 0)
		return n != 0
	}
	for {
		n = 0
		if err := epoll.Read(step); err != nil { // the deadline
			if l.closeIfEmpty() {
				return
			}
			l.sweep()
		}
		for _, event := range events[:max(n, 0)] {
			if c := l.leave(event.Fd); c != nil {
				c.parking.startReader(nil)
			}
		}
	}
}

// closeIfEmpty reports whether it closed the epoll instance. If not, the next deadline is that of a sweep.
func (l *parkingLot) closeIfEmpty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count > 0 {
		_ = l.file.SetReadDeadline(time.Now().Add(sweepEvery))
		return false
	}
	_ = l.file.Close()
	l.file, l.conns = nil, nil
	return true
}

// sweep starts the readers of connections whose transports have been closed, so that they find that out.
func (l *parkingLot) sweep() {
	var batch [64]*Conn
	for left := sweepMost; left > 0; {
		var n int
		if n, left = l.nextToSweep(batch[:], left); n == 0 {
			return
		}
		for _, c := range batch[:n] {
			if c.transport.raw.conn.Control(func(uintptr) {}) != nil {
				c.unpark()
			}
		}
	}
}

// nextToSweep fills batch with the next connections, from at most left descriptors. It returns how many connections these
// are, and how many descriptors are left: zero once all have been looked at.
func (l *parkingLot) nextToSweep(batch []*Conn, left int) (int, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left = min(left, len(l.conns))
	n := 0
	for ; n < len(batch) && left > 0; left-- {
		if l.swept >= len(l.conns) {
			l.swept = 0
		}
		if c := l.conns[l.swept]; c != nil {
			batch[n] = c
			n++
		}
		l.swept++
	}
	return n, left
}

// leave takes out the connection with a descriptor. It may not be the one that the event was for; its reader then finds
// nothing and is parked again.
func (l *parkingLot) leave(fd int32) *Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if int(fd) >= len(l.conns) || l.conns[fd] == nil {
		return nil
	}
	c := l.conns[fd]
	l.forget(c)
	return c
}

// remove takes out a connection whose transport is closed, and reports whether it was parked.
func (l *parkingLot) remove(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.parking.parkedAs == 0 {
		return false
	}
	l.forget(c)
	return true
}

func (l *parkingLot) forget(c *Conn) {
	l.conns[c.parking.parkedAs-1] = nil // it is this connection's: add makes one that it finds there leave first
	c.parking.parkedAs = 0
	l.count--
	l.lingerIfEmpty()
}

// unregister ends the polling of a connection whose reader waits itself.
func (l *parkingLot) unregister(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.parking.polled && l.file != nil {
		_ = c.transport.raw.conn.Control(func(fd uintptr) {
			_ = syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_DEL, int(fd), nil)
		})
	}
	c.parking.polled = false
}
