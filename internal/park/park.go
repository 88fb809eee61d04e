// Package park waits for bytes on quiet sockets, with one goroutine for all of them: the net package's poller wakes only
// goroutines that wait, one for each socket. It knows nothing of who reads from a socket, nor how.
package park

import "syscall"

// Owner has a socket that can be parked. Park and Unregister are for the socket's reader, while it has one; Unpark may be
// called by anyone at any time.
type Owner interface {
	Socket() syscall.RawConn
	// Slot returns the place for the poller's notes about the socket, each time the same.
	Slot() *Slot
	// Wake is called once for each Park, unless Unpark comes first: when there may be something to read, or when the socket
	// has been closed. It must not block, and may be called before Park has returned.
	Wake()
}
