package park

// This file has an epoll instance watch the sockets that are parked.

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

// Slot is what the poller has noted about one socket. It is embedded by value in what owns the socket, so that parking
// allocates nothing, and must not be copied. The lot's lock guards it.
type Slot struct {
	parkedAs   int32 // the descriptor plus 1 while the socket is parked, otherwise 0
	registered bool  // the poller knows the descriptor
}

// Park has the owner woken when there is something to read, and reports whether that could be arranged. The socket must have
// no reader from then on until Wake is called.
func Park(o Owner) bool {
	parked, evicted := parkingLot.add(o)
	if evicted != nil {
		evicted.Wake()
	}
	return parked
}

// Unpark takes the socket out if it is parked, and reports whether it was. If so, Wake is not called.
func Unpark(o Owner) bool { return parkingLot.remove(o.Slot()) }

// Unregister spares a socket that is not parked, and will not be soon, the poller's part in what it receives.
func Unregister(o Owner) { parkingLot.unregister(o) }

// lot holds the owners of parked sockets. Its poller waits in that of the net package, like a connection. Its methods are
// safe for concurrent use.
type lot struct {
	mu   sync.Mutex
	book // mu guards it
}

// book says which sockets are parked, and has the kernel watch them. It knows no lock and no goroutine.
type book struct {
	file   *os.File // of the epoll instance; nil if there is none, and then there is no goroutine either
	epoll  int
	owners []Owner // by descriptor
	count  int     // of owners
	swept  int     // the descriptor where the next sweep begins

	// The state of an attempt to add an owner, kept here so that addStep is allocated only once.
	adding  Owner
	evicted Owner
	addStep func(fd uintptr)
}

var parkingLot lot

// add parks a socket and reports whether it did. evicted, if not nil, is the owner of one that had the descriptor before: it
// is closed, and its owner has to be woken.
func (l *lot) add(o Owner) (parked bool, evicted Owner) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		epoll, err := l.open()
		if err != nil {
			return false, nil
		}
		go l.poll(epoll)
	}
	evicted = l.enter(o)
	l.lingerIfEmpty()
	return o.Slot().parkedAs > 0, evicted
}

// enter adds an owner if its socket is open. It returns the one that had the descriptor before.
func (b *book) enter(o Owner) (evicted Owner) {
	b.adding, b.evicted = o, nil
	_ = o.Socket().Control(b.addStep) // within which the descriptor cannot be closed and given to another socket
	evicted = b.evicted
	b.adding, b.evicted = nil, nil
	return evicted
}

// watch is addStep.
func (b *book) watch(fd uintptr) {
	s := b.adding.Slot()
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
	b.owners = append(b.owners, make([]Owner, max(0, int(fd)+1-len(b.owners)))...)
	if b.evicted = b.owners[fd]; b.evicted != nil {
		b.forget(b.evicted.Slot()) // its socket is closed, or the descriptor would not be another's
	}
	b.owners[fd] = b.adding
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

// poll wakes the owners of sockets on which something has arrived, and of those that have been closed. It ends when there
// have been none for a moment.
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
			if o := l.take(event.Fd); o != nil {
				o.Wake()
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
	l.file, l.owners = nil, nil
	return true
}

// sweep wakes the owners of sockets that have been closed, so that their readers find that out.
func (l *lot) sweep() {
	var batch [64]Owner
	for left := sweepMost; left > 0; {
		var n int
		if n, left = l.nextToSweep(batch[:], left); n == 0 {
			return
		}
		for _, o := range batch[:n] {
			if o.Socket().Control(func(uintptr) {}) != nil && l.remove(o.Slot()) {
				o.Wake()
			}
		}
	}
}

// nextToSweep fills batch with the next owners, from at most left descriptors. It returns how many these are, and how many
// descriptors are left: zero once all have been looked at.
func (l *lot) nextToSweep(batch []Owner, left int) (int, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left = min(left, len(l.owners))
	n := 0
	for ; n < len(batch) && left > 0; left-- {
		if l.swept >= len(l.owners) {
			l.swept = 0
		}
		if o := l.owners[l.swept]; o != nil {
			batch[n] = o
			n++
		}
		l.swept++
	}
	return n, left
}

// take takes out the owner of a descriptor. It may not be the one that the event was for; its reader then finds nothing and
// parks it again.
func (l *lot) take(fd int32) Owner {
	l.mu.Lock()
	defer l.mu.Unlock()
	if int(fd) >= len(l.owners) || l.owners[fd] == nil {
		return nil
	}
	o := l.owners[fd]
	l.forget(o.Slot())
	return o
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
	b.owners[s.parkedAs-1] = nil // it is the owner of s: add has one leave that it finds there
	s.parkedAs = 0
	b.count--
	b.lingerIfEmpty()
}

func (l *lot) unregister(o Owner) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := o.Slot()
	if s.registered && l.file != nil {
		_ = o.Socket().Control(func(fd uintptr) {
			_ = syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_DEL, int(fd), nil)
		})
	}
	s.registered = false
}
