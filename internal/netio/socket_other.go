//go:build !unix

// socket_other.go is for systems whose sockets have no descriptors to read without waiting: everything goes through the
// net package, and nothing can be tried.

package netio

import (
	"errors"
	"syscall"
)

type socket struct{}

func (*socket) release() {}

func (*Transport) initSocket() {}

// CanTry reports whether the transport is a socket that can be read and written without waiting.
func (*Transport) CanTry() bool { return false }

// Socket returns the socket if CanTry, otherwise nil.
func (*Transport) Socket() syscall.RawConn { return nil }

// Read returns some of what has come, at least a byte. It reads into direct if that is not nil, otherwise into a borrowed
// buffer, which is valid until the next Read or Release. It waits for bytes. At the end of the bytes the error is io.EOF.
func (t *Transport) Read(direct []byte, _ bool) ([]byte, error) { return t.readAny(direct) }

// Write writes all of head and body, waiting as long as that takes.
func (t *Transport) Write(head, body []byte) error { return t.writeAny(head, body) }

// TryWrite may only be called if CanTry.
func (*Transport) TryWrite([]byte, []byte) (n int, err error) { return 0, errors.ErrUnsupported }
