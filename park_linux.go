// park_linux.go waits with one goroutine for whatever comes on all connections whose readers have ended for want of it.

package wsd

import (
	"os"
	"sync"
	"syscall"
	"time"
)

// canPark says that the readers of sockets may end while nothing comes.
const canPark = true

// lingerEmpty is how long the poller stays when the last connection has left, so that it need not come and go with each.
const lingerEmpty = 20 * time.Millisecond

// parkingLot holds connections without a reader. The net package's poller wakes only goroutines that wait, one for each
// connection; so this is a poller of its own, which waits there like a connection.
type parkingLot struct {
	mu    sync.Mutex
	file  *os.File // of the epoll instance; nil where there is none, and then there is no goroutine either
	epoll int
	conns []*Conn // by descriptor
	count int     // of conns
}

var parked parkingLot

// add takes a connection in and reports whether it did. Its reader may be running again then.
func (l *parkingLot) add(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil && !l.open() {
		return false
	}
	// The descriptor cannot be closed, and given to another connection, within Control.
	_ = c.transport.raw.conn.Control(func(fd uintptr) {
		// Once only: then a connection can stay registered, without being told of each byte that its reader reads.
		event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(fd)}
		err := error(syscall.ENOENT)
		if c.polled {
			err = syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_MOD, int(fd), &event)
		}
		if err == syscall.ENOENT {
			err = syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, int(fd), &event)
		}
		if c.polled = err == nil; !c.polled {
			return
		}
		l.conns = append(l.conns, make([]*Conn, max(0, int(fd)+1-len(l.conns)))...)
		l.conns[fd] = c
		l.count++
		c.parkedAs = event.Fd + 1
	})
	l.lingerIfEmpty()
	return c.parkedAs > 0
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
	file := os.NewFile(uintptr(epoll), "epoll") // polled, for it does not block
	conn, err := file.SyscallConn()
	if err != nil || file.SetReadDeadline(time.Time{}) != nil {
		_ = file.Close()
		return false
	}
	l.file, l.epoll = file, epoll
	go l.wait(conn)
	return true
}

// lingerIfEmpty has wait look in a moment whether it is still needed.
func (l *parkingLot) lingerIfEmpty() {
	if l.count == 0 {
		_ = l.file.SetReadDeadline(time.Now().Add(lingerEmpty))
	}
}

// wait starts the readers of connections on which something came. It ends when there have been no connections for a
// moment.
func (l *parkingLot) wait(epoll syscall.RawConn) {
	var events [64]syscall.EpollEvent
	var n int
	step := func(fd uintptr) bool {
		n, _ = syscall.EpollWait(int(fd), events[:], 0)
		return n != 0
	}
	for {
		n = 0
		if err := epoll.Read(step); err != nil && l.closeIfEmpty() {
			return
		}
		for _, event := range events[:max(n, 0)] {
			if c := l.leave(event.Fd); c != nil {
				c.startReader(nil)
			}
		}
	}
}

// closeIfEmpty reports whether it closed the epoll instance. Otherwise there is no deadline any more.
func (l *parkingLot) closeIfEmpty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count > 0 {
		_ = l.file.SetReadDeadline(time.Time{})
		return false
	}
	_ = l.file.Close()
	l.file, l.conns = nil, nil
	return true
}

// leave takes out the connection with a descriptor. It may be another than the event was for, whose reader then finds
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

// remove takes out a connection whose transport is closed, and reports whether it was here.
func (l *parkingLot) remove(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.parkedAs == 0 {
		return false
	}
	l.forget(c)
	return true
}

func (l *parkingLot) forget(c *Conn) {
	// The descriptor of a closed transport may be another connection's by now.
	if fd := c.parkedAs - 1; l.conns[fd] == c {
		l.conns[fd] = nil
	}
	c.parkedAs = 0
	l.count--
	l.lingerIfEmpty()
}

// unregister ends the polling of a connection whose reader waits for itself.
func (l *parkingLot) unregister(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.polled && l.file != nil {
		_ = c.transport.raw.conn.Control(func(fd uintptr) {
			_ = syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_DEL, int(fd), nil)
		})
	}
	c.polled = false
}
