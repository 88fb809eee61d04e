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
	got       []byte
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
	r.readStep = r.attemptRead
}

func (r *rawConn) ok() bool { return r.conn != nil }

// read waits until there are bytes and reads them into direct, or where that is nil into a burst buffer.
func (r *rawConn) read(direct []byte) ([]byte, error) {
	r.direct = direct
	if err := r.conn.Read(r.readStep); err != nil {
		return nil, err
	}
	return r.got, r.readErr
}

func (r *rawConn) attemptRead(fd uintptr) bool {
	into := r.direct
	if into == nil {
		into = r.lender.lend()
	}
	n, err := syscall.Read(int(fd), into)
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), into)
	}
	switch {
	case err == syscall.EAGAIN:
		// The goroutine waits now, perhaps for hours.
		r.lender.release()
		return false
	case err != nil:
		r.got, r.readErr = nil, os.NewSyscallError("read", err)
	case n == 0:
		r.got, r.readErr = nil, io.EOF
	default:
		r.got, r.readErr = into[:n], nil
	}
	return true
}

// tryWrite writes as much of head, and behind it body, as the socket takes without waiting, and returns how much that
// was.
func (r *rawConn) tryWrite(head, body []byte) (int, error) {
	if r.writeStep == nil {
		r.writeStep = r.attemptWrite
	}
	r.head, r.body, r.wrote, r.writeErr = head, body, 0, nil
	err := r.conn.Write(r.writeStep)
	r.head, r.body = nil, nil
	if err == nil {
		err = r.writeErr
	}
	return r.wrote, err
}

func (r *rawConn) attemptWrite(fd uintptr) bool {
	for {
		n, err := writeBoth(int(fd), r.head, r.body)
		switch err {
		case nil:
			r.wrote = n
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
		default:
			r.writeErr = os.NewSyscallError("write", err)
		}
		return true
	}
}
