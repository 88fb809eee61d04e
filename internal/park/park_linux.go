// Package park waits for bytes on quiet sockets, with one goroutine for all of them: the net package's poller wakes only
// goroutines that wait, one for each socket. It knows nothing of who reads from a socket, nor how.
package park

import (
	"os"
	"sync"
	"syscall"
	"time"
)

// Supported says whether sockets can be parked on this system.
const Supported = true

const (
	// lingerEmpty is how long the poller stays after the last socket has left, so that it need not come and go with each.
	lingerEmpty = 20 * time.Millisecond
	// sweepEvery is how often the poller looks for sockets that have been closed, which the kernel does not report.
	// sweepMost is how many descriptors it then looks at, which takes a millisecond or two.
	sweepEvery = time.Second
	sweepMost  = 16 << 10
)

// Slot is what the poller knows of one socket. It is embedded by value in what owns the socket, so that parking allocates
// nothing, and must not be copied. Park and Unregister are for the socket's reader, while it has one; Unpark may be called
// by anyone at any time.
type Slot struct {
	socket syscall.RawConn
	wake   func()

	// The lot's lock guards these.
	parkedAs   int32 // the descriptor plus 1 while the socket is parked, otherwise 0
	registered bool  // the poller knows the descriptor
}

// Init makes s the slot of a socket. wake is called once for each Park, unless Unpark comes first: when there may be
// something to read, or when the socket has been closed. It must not block, and may be called before Park has returned.
func (s *Slot) Init(socket syscall.RawConn, wake func()) { s.socket, s.wake = socket, wake }

// Park has wake called when there is something to read, and reports whether that could be arranged. The socket must have
// no reader from then on until wake is called.
func (s *Slot) Park() bool {
	parked, evicted := parkingLot.add(s)
	if evicted != nil {
		evicted.wake()
	}
	return parked
}

// Unpark takes the socket out if it is parked, and reports whether it was. If so, wake is not called.
func (s *Slot) Unpark() bool { return parkingLot.remove(s) }

// Unregister spares a socket that is not parked, and will not be soon, the poller's part in what it receives.
func (s *Slot) Unregister() { parkingLot.unregister(s) }

// lot holds the slots of parked sockets. Its poller waits in that of the net package, like a connection. Its methods are
// safe for concurrent use.
type lot struct {
	mu   sync.Mutex
	book // mu guards it
}

// book says which sockets are parked, and has the kernel watch them. It knows no lock and no goroutine.
type book struct {
	file  *os.File // of the epoll instance; nil if there is none, and then there is no goroutine either
	epoll int
	slots []*Slot // by descriptor
	count int     // of slots
	swept int     // the descriptor where the next sweep begins

	// The state of an attempt to add a slot, kept here so that addStep is allocated only once.
	adding  *Slot
	evicted *Slot
	addStep func(fd uintptr)
}

var parkingLot lot

// add parks a socket and reports whether it did. evicted, if not nil, is a slot that had the descriptor before: its
// socket is closed, and it has to be woken.
func (l *lot) add(s *Slot) (parked bool, evicted *Slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		epoll, err := l.open()
		if err != nil {
			return false, nil
		}
		go l.poll(epoll)
	}
	evicted = l.enter(s)
	l.lingerIfEmpty()
	return s.parkedAs > 0, evicted
}

// enter adds a slot if its socket is open. It returns the one that had the descriptor before.
func (b *book) enter(s *Slot) (evicted *Slot) {
	b.adding, b.evicted = s, nil
	_ = s.socket.Control(b.addStep) // within which the descriptor cannot be closed and given to another socket
	evicted = b.evicted
	b.adding, b.evicted = nil, nil
	return evicted
}

// watch is addStep.
func (b *book) watch(fd uintptr) {
	s := b.adding
	// With EPOLLONESHOT a socket can stay registered without an event for each byte that its reader reads.
	event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(fd)}
	err := error(syscall.ENOENT)
	if s.registered {
		err = syscall.EpollCtl(b.epoll, syscall.EPOLL_CTL_MOD, int(fd), &event)
	}
	if err == syscall.ENOENT {
		err = syscall.EpollCtl(b.epoll, syscall.EPOLL_CTL_ADD, int(fd), &event)
	}
	if s.registered = err == nil; !s.registered {
		return
	}
	b.slots = append(b.slots, make([]*Slot, max(0, int(fd)+1-len(b.slots)))...)
	if b.evicted = b.slots[fd]; b.evicted != nil {
		b.forget(b.evicted) // its socket is closed, or the descriptor would not be another's
	}
	b.slots[fd] = s
	b.count++
	s.parkedAs = event.Fd + 1
}

// open makes the epoll instance.
func (b *book) open() (syscall.RawConn, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := syscall.SetNonblock(epoll, true); err != nil {
		_ = syscall.Close(epoll)
		return nil, err
	}
	file := os.NewFile(uintptr(epoll), "epoll") // polled, as it does not block
	conn, err := file.SyscallConn()
	if err == nil {
		err = file.SetReadDeadline(time.Now().Add(sweepEvery))
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	b.file, b.epoll, b.addStep = file, epoll, b.watch
	return conn, nil
}

// lingerIfEmpty makes poll check in a moment whether it is still needed.
func (b *book) lingerIfEmpty() {
	if b.count == 0 {
		_ = b.file.SetReadDeadline(time.Now().Add(lingerEmpty))
	}
}

// poll wakes the slots of sockets on which something has arrived, and of those that have been closed. It ends when there
// have been no slots for a moment.
func (l *lot) poll(epoll syscall.RawConn) {
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
			if s := l.take(event.Fd); s != nil {
				s.wake()
			}
		}
	}
}

// closeIfEmpty reports whether it closed the epoll instance. If not, the next deadline is that of a sweep.
func (l *lot) closeIfEmpty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count > 0 {
		_ = l.file.SetReadDeadline(time.Now().Add(sweepEvery))
		return false
	}
	_ = l.file.Close()
	l.file, l.slots = nil, nil
	return true
}

// sweep wakes the slots of sockets that have been closed, so that their readers find that out.
func (l *lot) sweep() {
	var batch [64]*Slot
	for left := sweepMost; left > 0; {
		var n int
		if n, left = l.nextToSweep(batch[:], left); n == 0 {
			return
		}
		for _, s := range batch[:n] {
			if s.socket.Control(func(uintptr) {}) != nil && l.remove(s) {
				s.wake()
			}
		}
	}
}

// nextToSweep fills batch with the next slots, from at most left descriptors. It returns how many slots these are, and how
// many descriptors are left: zero once all have been looked at.
func (l *lot) nextToSweep(batch []*Slot, left int) (int, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left = min(left, len(l.slots))
	n := 0
	for ; n < len(batch) && left > 0; left-- {
		if l.swept >= len(l.slots) {
			l.swept = 0
		}
		if s := l.slots[l.swept]; s != nil {
			batch[n] = s
			n++
		}
		l.swept++
	}
	return n, left
}

// take takes out the slot with a descriptor. It may not be the one that the event was for; its reader then finds nothing
// and parks it again.
func (l *lot) take(fd int32) *Slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	if int(fd) >= len(l.slots) || l.slots[fd] == nil {
		return nil
	}
	s := l.slots[fd]
	l.forget(s)
	return s
}

func (l *lot) remove(s *Slot) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.parkedAs == 0 {
		return false
	}
	l.forget(s)
	return true
}

// forget takes s out.
func (b *book) forget(s *Slot) {
	b.slots[s.parkedAs-1] = nil // it is s: add has a slot leave that it finds there
	s.parkedAs = 0
	b.count--
	b.lingerIfEmpty()
}

func (l *lot) unregister(s *Slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.registered && l.file != nil {
		_ = s.socket.Control(func(fd uintptr) {
			_ = syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_DEL, int(fd), nil)
		})
	}
	s.registered = false
}
