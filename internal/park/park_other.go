//go:build !linux

package park

// This file is for systems without epoll: nothing is parked, and readers wait for as long as their connections live.

// Supported says whether sockets can be parked on this system.
const Supported = false

// Slot is that of a socket that cannot be parked.
type Slot struct{}

// Park reports that the socket is not parked.
func Park(Owner) bool { return false }

// Unpark reports that the socket was not parked.
func Unpark(Owner) bool { return false }

// Unregister does nothing.
func Unregister(Owner) {}
