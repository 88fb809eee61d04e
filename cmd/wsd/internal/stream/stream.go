// Package stream passes bytes between a connection and a TCP connection, or another byte stream.
package stream

import (
	"errors"
	"io"
	"net"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/seed62836080/wsd"
)

// Couple passes bytes both ways until one side ends, and closes both. What one side has sent arrives at the other first.
// The error is nil if the end was an end, and not a failure.
func Couple(conn *wsd.Conn, raw io.ReadWriteCloser) error {
	var g errgroup.Group
	g.Go(func() error {
		err := Receive(conn, raw)
		raw.Close()
		return err
	})
	g.Go(func() error { return Send(conn, raw) })
	return g.Wait()
}

// Receive writes what comes on conn to w, until the end of one of them.
func Receive(conn *wsd.Conn, w io.Writer) error {
	stream := wsd.NetConn(conn, wsd.BinaryMessage)
	from := &source{Reader: stream}
	_, err := io.Copy(w, from)
	if err != nil && from.err == nil { // w has gone away, which is an end
		_ = stream.Close()
		_, _ = io.Copy(io.Discard, stream)
		return nil
	}
	var closed *wsd.CloseError
	if errors.As(err, &closed) && (closed.Code == wsd.StatusNoStatus || closed.Local) {
		return nil
	}
	return err
}

// source notes whether it was the reading that failed.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	s.err = err
	return n, err
}

// Send sends what can be read from r, and closes conn behind it.
func Send(conn *wsd.Conn, r io.Reader) error {
	stream := wsd.NetConn(conn, wsd.BinaryMessage)
	_, err := io.Copy(struct{ io.Writer }{stream}, r)
	_ = stream.Close()
	switch {
	case errors.Is(err, wsd.ErrClosed), errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrClosed):
		return nil // Receive says why
	}
	return err
}
