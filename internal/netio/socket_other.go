//go:build !unix

// socket_other.go is for systems whose sockets have no descriptors to read without waiting: everything goes through the
// net package, and nothing can be tried.

package netio

import (
	"errors"
	"sync/atomic"
	"syscall"
)

type socket struct{}

func (*Transport) initSocket(syscall.Conn) {}

// CanTry reports whether the transport is a socket that can be read and written without waiting.
func (*Transport) CanTry() bool { return false }

// Socket returns the socket if CanTry, otherwise nil.
func (*Transport) Socket() syscall.RawConn { return nil }

func (*Transport) readSocket([]byte, bool) ([]byte, error) { return nil, errors.ErrUnsupported }

func (*Transport) writeSocket([]byte, []byte, *atomic.Int64) (int, error) {
	return 0, errors.ErrUnsupported
}
