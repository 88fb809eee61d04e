// stream.go decodes a message that comes in pieces, in bounded memory whatever it inflates to.

package inflate

const (
	farthestBack = 32 << 10              // bytes, as far as a distance can reach
	streamStop   = keptOutput - outSlack // bytes of output in the decoder's own buffer at which it is full
)

// Stream decodes one message piece by piece. It is not safe for concurrent use. Close must follow the last use of it.
//
// The message is fed by Space and taken by Next, until that returns nothing; then there is room for the next piece. A code
// that is cut waits for its rest: decoding goes back to where it began.
type Stream struct {
	d       *decoder
	limit   uint64
	before  uint64 // bytes of the message that came before the buffer's first one
	taken   int    // bytes of the buffer that have been taken
	size    int    // of the message in d.in, without the tail, once it has come whole
	ended   bool   // the message has come whole
	over    bool   // all of it has been decoded
	err     error
	block   block
	final   bool // the present block is a final one
	left    int  // bytes left of a stored block
	literal *huffman
	far     *huffman
}

// block says what a stream is in the middle of.
type block uint8

const (
	blockNone block = iota
	blockStored
	blockCodes
	blockAfterFinal // a final block has ended, and what follows it has not come
)

// NewStream returns a stream for one message, with the bounds that Message has.
func NewStream(limit uint64, history *Window, maxDistance int) *Stream {
	d := decoders.Get().(*decoder)
	d.in, d.next, d.buf, d.have = d.in[:0], 0, 0, 0
	d.out, d.n, d.limit = d.outSpace[:], 0, streamStop
	d.history, d.maxDistance, d.tail = history, maxDistance, ""
	return &Stream{d: d, limit: limit}
}

// Space returns n bytes for the next piece of the message, to be filled before Next. Everything before it must have been
// taken.
func (s *Stream) Space(n int) []byte {
	d := s.d
	rest := copy(d.in, d.in[d.next:])
	d.in, d.next = append(d.in[:rest], make([]byte, n)...), 0
	return d.in[rest:]
}

// End says that the message has come whole.
func (s *Stream) End() {
	if !s.ended {
		s.ended, s.size = true, len(s.d.in)
		s.d.in = append(s.d.in, Tail...)
	}
}

// Next decodes into b, and returns how many bytes that were: none, without an error, if all that has come is decoded. The
// errors are Message's, behind all that came before what they are about.
func (s *Stream) Next(b []byte) (n int, err error) {
	for n < len(b) {
		d := s.d
		have := d.n
		if total := s.before + uint64(d.n); total > s.limit {
			have -= int(total - s.limit)
			s.err = ErrTooLong
		}
		if s.taken < have {
			copied := copy(b[n:], d.out[s.taken:have])
			s.taken += copied
			n += copied
			continue
		}
		if s.err != nil || s.over {
			break
		}
		if d.n > streamStop-longestMatch {
			// The end of the output stays, since distances reach back into it.
			copy(d.out, d.out[d.n-farthestBack:d.n])
			s.before += uint64(d.n - farthestBack)
			d.n, s.taken = farthestBack, farthestBack
		}
		if before := d.n; !s.step() && d.n == before {
			break
		}
	}
	if n > 0 {
		return n, nil
	}
	return 0, s.err
}

// Decoded reports whether the whole message has been decoded and taken.
func (s *Stream) Decoded() bool { return s.over && s.taken == s.d.n }

// Close lets go of what decoding needs. If the message was decoded, its end goes into the history.
func (s *Stream) Close() {
	d := s.d
	if s.over && d.history != nil {
		d.history.Add(d.out[:d.n])
	}
	d.in, d.out, d.history = nil, nil, nil
	decoders.Put(d)
	s.d = nil
}

// step decodes a block or a part of one, and reports whether there is more to do with what has come.
func (s *Stream) step() (more bool) {
	var err error
	d := s.d
	next, buf, have := d.next, d.buf&(1<<d.have-1), d.have
	d.buf = buf
	switch s.block {
	case blockStored:
		return s.storedPart()
	case blockCodes:
		switch err = d.compressed(s.literal, s.far); {
		case err == nil:
			s.endBlock()
			return true
		case err == ErrTooLong: // the buffer is full
			return true
		case (err == errTruncated || err == errNoCode) && s.cut():
			return false
		}
	default:
		if err = s.header(); err == nil {
			return s.block != blockNone || !s.over
		}
		if s.cut() {
			d.next, d.buf, d.have = next, buf, have
			return false
		}
	}
	s.err = err
	return false
}

// cut reports whether decoding stopped for want of input that may still come. A code that was looked up with bits missing
// may have looked like one that does not exist.
func (s *Stream) cut() bool { return !s.ended && s.d.next == len(s.d.in) && s.d.have < 48 }

// header reads what a block begins with.
func (s *Stream) header() error {
	d := s.d
	if s.block == blockAfterFinal {
		if s.ended && d.next-int(d.have>>3) >= s.size {
			s.block, s.over = blockNone, true
			return nil
		}
		if !s.ended && d.next == len(d.in) && d.have == 0 {
			return errTruncated
		}
		s.block = blockNone
	}
	d.refill()
	if s.ended && d.have == 0 && d.next == len(d.in) {
		s.over = true
		return nil
	}
	if d.have < 3 {
		return errTruncated
	}
	final, kind := d.buf&1 != 0, d.buf>>1&3
	d.take(3)
	to := blockCodes
	switch kind {
	case 0:
		d.take(d.have & 7)
		d.refill()
		if d.have < 32 {
			return errTruncated
		}
		size, check := int(d.buf&0xFFFF), int(d.buf>>16&0xFFFF)
		if size != check^0xFFFF {
			d.have = 64 // real bits
			return errStoredLength
		}
		d.take(32)
		d.next -= int(d.have >> 3)
		d.buf, d.have = 0, 0
		to, s.left = blockStored, size
	case 1:
		s.literal, s.far = fixedLiterals(), fixedDistances()
	case 2:
		if err := d.readTables(); err != nil {
			return err
		}
		s.literal, s.far = &d.literals, &d.distances
	default:
		d.have = 64
		return errBlockType
	}
	s.block, s.final = to, final
	return nil
}

// storedPart copies what has come of a stored block.
func (s *Stream) storedPart() (more bool) {
	d := s.d
	n := copy(d.out[d.n:min(d.n+s.left, streamStop)], d.in[d.next:])
	d.n, d.next, s.left = d.n+n, d.next+n, s.left-n
	switch {
	case s.left == 0:
		s.endBlock()
		return true
	case d.next < len(d.in):
		return true // the buffer is full
	case s.ended:
		s.err = errTruncated
	}
	return false
}

// endBlock is what follows a block: the next, unless this one was final.
func (s *Stream) endBlock() {
	s.block = blockNone
	if s.final {
		s.d.take(s.d.have & 7)
		s.block = blockAfterFinal
	}
}
