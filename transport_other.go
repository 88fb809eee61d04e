//go:build !unix

// transport_other.go is for systems whose sockets have no descriptors to read without waiting: everything goes through
// the net package, and the writer goroutine does all the writing.

package wsd

import (
	"errors"
	"sync/atomic"
	"syscall"
)

type rawConn struct{}

func (*transport) initRaw(syscall.Conn) {}

func (*rawConn) ok() bool { return false }

func (*rawConn) read([]byte, bool) ([]byte, error)                { return nil, errors.ErrUnsupported }
func (*rawConn) write([]byte, []byte, *atomic.Int64) (int, error) { return 0, errors.ErrUnsupported }
