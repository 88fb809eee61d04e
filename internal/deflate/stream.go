// stream.go compresses a message while it is produced.

package deflate

import (
	"encoding/binary"
	"errors"

	"github.com/seed62836080/wsd/internal/inflate"
)

// Stream is a message that is compressed piece by piece. With context takeover, it belongs to the sender whose turn it is.
type Stream struct {
	d    *Deflater
	c    *compressor // the message's own until its end
	owes bool        // the output lacks the tail of its last flush, with which the message may end (RFC 7692, section 7.2.1)
}

// Begin begins a message whose first piece has size bytes.
func (d *Deflater) Begin(size int) *Stream { return &Stream{d: d, c: d.takeCompressor(size)} }

// Add compresses data, and appends to dst what has come of it so far. dst is on loan from bufpool, as is what is returned in
// its place.
func (s *Stream) Add(dst, data []byte) ([]byte, error) {
	if s.owes {
		s.owes = false
		dst = append(dst, inflate.Tail...)
	}
	s.c.out = dst
	_, err := s.c.flate.Write(data)
	s.d.remember(data)
	return s.c.takeOut(), err
}

// Flush appends to dst what is still to come of what was added, up to the last byte.
func (s *Stream) Flush(dst []byte) ([]byte, error) {
	s.c.out = dst
	err := s.c.flate.Flush()
	dst = s.c.takeOut()
	if err != nil {
		return dst, err
	}
	n := len(dst) - len(inflate.Tail)
	if n < 0 || binary.BigEndian.Uint32(dst[n:]) != 0x0000FFFF {
		return dst, errNoFlush
	}
	s.owes = true
	return dst[:n], nil
}

var errNoFlush = errors.New("flush without an empty block")

// End lets go of the compressor behind the last flush.
func (s *Stream) End() { s.d.pool.Put(s.c) }
