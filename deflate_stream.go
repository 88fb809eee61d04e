// deflate_stream.go compresses a message while it is produced.

package wsd

import (
	"encoding/binary"
	"errors"

	"github.com/seed62836080/wsd/internal/inflate"
)

// deflating is a message that is compressed piece by piece. With context takeover, it belongs to the sender whose turn it is.
type deflating struct {
	d    *deflater
	c    *compressor // the message's own until its end
	owes bool        // the output lacks the tail of its last flush, with which the message may end (RFC 7692, section 7.2.1)
}

// begin begins a message whose first piece has size bytes.
func (d *deflater) begin(size int) *deflating { return &deflating{d: d, c: d.takeCompressor(size)} }

// add compresses data, and appends to dst what has come of it so far. dst is on loan from bufpool, as is what is returned in
// its place.
func (m *deflating) add(dst, data []byte) ([]byte, error) {
	if m.owes {
		m.owes = false
		dst = append(dst, inflate.Tail...)
	}
	dst, err := m.to(dst, func() error { _, err := m.c.flate.Write(data); return err })
	m.d.remember(data)
	return dst, err
}

// flush appends to dst what is still to come of what was added, up to the last byte.
func (m *deflating) flush(dst []byte) ([]byte, error) {
	dst, err := m.to(dst, m.c.flate.Flush)
	if err != nil {
		return dst, err
	}
	n := len(dst) - len(inflate.Tail)
	if n < 0 || binary.BigEndian.Uint32(dst[n:]) != 0x0000FFFF {
		return dst, &causeError{"compressing a message", errNoFlush}
	}
	m.owes = true
	return dst[:n], nil
}

var errNoFlush = errors.New("flush without an empty block")

// to has the compressor append to dst.
func (m *deflating) to(dst []byte, step func() error) ([]byte, error) {
	m.c.out = dst
	err := step()
	dst, m.c.out = m.c.out, nil
	if err != nil {
		return dst, &causeError{"compressing a message", err}
	}
	return dst, nil
}

// end lets go of the compressor behind the last flush.
func (m *deflating) end() { m.d.pool.Put(m.c) }
