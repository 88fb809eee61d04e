//go:build !unix

// socket_other.go is for systems whose sockets have no descriptors to read without waiting: everything goes through the
// net package, and nothing can be tried, but for what a transport takes by itself.

package netio

import "syscall"

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

// holder is a transport that holds what has come, and takes what is written without waiting as long as it does not hold too much
// of that: a browser's WebSocket.
type holder interface {
	TryWrite(b []byte) (n int, err error)
}

func (t *Transport) holds() bool {
	_, holds := t.rwc.(holder)
	return holds
}

// CanTryWrite reports whether TryWrite may be called.
func (t *Transport) CanTryWrite() bool { return t.holds() }

// TryWrite writes as much of head and then body as is taken without waiting, and returns how many bytes that was. It may only
// be called if CanTryWrite.
func (t *Transport) TryWrite(head, body []byte) (n int, err error) {
	to := t.rwc.(holder)
	if n, err = to.TryWrite(head); err != nil || n < len(head) {
		return n, err
	}
	ofBody, err := to.TryWrite(body)
	return n + ofBody, err
}
