// Package stream passes bytes between a connection and a TCP connection, or another byte stream.
package stream

import (
	"context"
	"errors"
	"io"
	"net"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/seed62836080/wsd"
)

// chunk is how much is sent in one message, in bytes: less than a Send that is not copied, which would wait for the network.
const chunk = 30 << 10

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
	for {
		m, err := conn.Receive(context.Background())
		if err != nil {
			var closed *wsd.CloseError
			if errors.As(err, &closed) && (closed.Code == wsd.StatusNormalClosure || closed.Code == wsd.StatusGoingAway || closed.Code == wsd.StatusNoStatus) {
				return nil
			}
			return err
		}
		_, err = w.Write(m.Data)
		m.Release()
		if err != nil {
			_ = conn.StartClose(wsd.StatusNormalClosure, "")
			for range conn.Messages() {
			}
			return nil // it has gone away, which is an end
		}
	}
}

// Send sends what can be read from r, and closes conn behind it.
func Send(conn *wsd.Conn, r io.Reader) error {
	err := send(conn, r)
	code := wsd.StatusNormalClosure
	if err != nil {
		code = wsd.StatusInternalError
	}
	_ = conn.StartClose(code, "")
	return err
}

func send(conn *wsd.Conn, r io.Reader) error {
	buffer := make([]byte, chunk)
	for {
		n, err := r.Read(buffer)
		if n > 0 {
			if err := conn.Send(context.Background(), wsd.Binary(buffer[:n])); err != nil {
				if errors.Is(err, wsd.ErrClosed) {
					return nil // receive says why
				}
				return err
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed):
			return nil
		default:
			return err
		}
	}
}
