//go:build unix

// transport_unix.go reads and writes sockets through their descriptors: a read buffer is lent only when there are bytes to
// read, and a write that would wait comes back instead.

package wsd

import (
	"io"
	"os"
	"syscall"
)

// rawConn is a socket's descriptor, kept alive and polled by the net package.
type rawConn struct {
	conn syscall.RawConn
	// The arguments and results of an attempt, here so that the functions that make it are allocated once.
	readStep  func(fd uintptr) bool
	writeStep func(fd uintptr) bool
	lender    *lender
	direct    []byte
	got       int
	readErr   error
	head      []byte
	body      []byte
	wrote     int
	writeErr  error
}

func (r *rawConn) init(socket syscall.Conn, buffers *lender) {
	conn, err := socket.SyscallConn()
	if err != nil {
		return
	}
	r.conn, r.lender = conn, buffers
	// Functions of their own rather than methods: that is a stack frame less in goroutines that wait by the thousand.
	r.readStep = func(fd uintptr) bool {
		into := r.direct
		if into == nil {
			into = r.lender.lend()
		}
		r.got, r.readErr = 0, syscall.EINTR
		for r.readErr == syscall.EINTR {
			r.got, r.readErr = syscall.Read(int(fd), into)
		}
		if r.readErr == syscall.EAGAIN {
			// The goroutine waits now, perhaps for hours.
			r.lender.release()
			return false
		}
		return true
	}
}

func (r *rawConn) ok() bool { return r.conn != nil }

// read waits until there are bytes and reads them into direct, or where that is nil into a burst buffer.
func (r *rawConn) read(direct []byte) ([]byte, error) {
	r.direct = direct
	if err := r.conn.Read(r.readStep); err != nil {
		return nil, err
	}
	switch {
	case r.readErr != nil:
		return nil, os.NewSyscallError("read", r.readErr)
	case r.got == 0:
		return nil, io.EOF
	case direct == nil:
		direct = r.lender.burst[:]
	}
	return direct[:r.got], nil
}

// tryWrite writes as much of head, and behind it body, as the socket takes without waiting, and returns how much that
// was.
func (r *rawConn) tryWrite(head, body []byte) (int, error) {
	if r.writeStep == nil {
		r.initWrite()
	}
	r.head, r.body = head, body
	err := r.conn.Write(r.writeStep)
	r.head, r.body = nil, nil
	switch {
	case err != nil:
		return 0, err
	case r.writeErr == syscall.EAGAIN:
		return 0, nil
	case r.writeErr != nil:
		return 0, os.NewSyscallError("write", r.writeErr)
	}
	return r.wrote, nil
}

func (r *rawConn) initWrite() {
	r.writeStep = func(fd uintptr) bool {
		r.writeErr = syscall.EINTR
		for r.writeErr == syscall.EINTR {
			if len(r.body) == 0 {
				r.wrote, r.writeErr = syscall.Write(int(fd), r.head)
			} else {
				r.wrote, r.writeErr = writeBoth(int(fd), r.head, r.body)
			}
		}
		return true
	}
}
