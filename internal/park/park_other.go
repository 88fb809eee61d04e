//go:build !linux

// Package park is for systems without epoll: nothing is parked, and readers wait for as long as their connections live.
package park

import "syscall"

// Supported says whether sockets can be parked on this system.
const Supported = false

// Slot is a socket that cannot be parked.
type Slot struct{}

// Init does nothing.
func (*Slot) Init(syscall.RawConn, func()) {}

// Park reports that the socket is not parked.
func (*Slot) Park() bool { return false }

// Unpark reports that the socket was not parked.
func (*Slot) Unpark() bool { return false }

// Unregister does nothing.
func (*Slot) Unregister() {}
