// Package deflate compresses the messages of connections, each flushed and cut as in RFC 7692, section 7.2.1. Between
// messages, all share their compressors: a connection keeps no more than what its next message may refer to.
package deflate

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/flate"

	"github.com/seed62836080/wsd/internal/bufpool"
	"github.com/seed62836080/wsd/internal/inflate"
)

// MinWindowBits and MaxWindowBits are the smallest and the widest window, as the number of its bits.
const (
	MinWindowBits = 8  // RFC 7692, section 7.1.2
	MaxWindowBits = 15 // the widest window of RFC 1951
)

// Deflater compresses the messages of one connection. With context takeover, only the sender whose turn it is uses it;
// without, any number may use it at a time, as it does not change.
type Deflater struct {
	pool        *sync.Pool
	make        func(level int) *compressor
	level       int             // as newCompressor takes it
	maxDistance int             // that was agreed on, in bytes
	history     *inflate.Window // as much of what was sent as a dictionary may take; nil without context takeover
	// following is the mark of the compressor that has seen everything sent so far and can go on from there, if it is
	// found again; 0 for none. Each time a different compressor takes over, the mark is a new one: earlier compressors
	// have missed messages.
	following uint64
}

// New returns what compresses at a level, from 1, the fastest, to 9, the smallest, or the nearest of these, and looks back
// as far as a window of MinWindowBits to MaxWindowBits bits. Windows of fewer bits than these have a single level.
func New(level, windowBits int, takeover bool) Deflater {
	d := Deflater{make: newCompressor, level: nearest(level), maxDistance: 1 << windowBits}
	d.pool = &compressors[d.level-1]
	if windowBits < MaxWindowBits {
		d.level = -d.maxDistance
		d.pool = &compressors[flate.BestCompression+windowBits-MinWindowBits]
	}
	if takeover {
		d.history = inflate.NewWindow(min(d.maxDistance, leastDict))
	}
	return d
}

// nearest returns the level that is nearest to one.
func nearest(level int) int { return min(max(level, flate.BestSpeed), flate.BestCompression) }

// WithLevel returns what goes on from d with messages at another level, as New takes it. With context takeover, d must not
// be used any more.
func (d *Deflater) WithLevel(level int) Deflater {
	changed := *d
	if d.level > 0 { // not a window that has a single level
		changed.level = nearest(level)
		changed.pool = &compressors[changed.level-1]
	}
	return changed
}

// Level returns the level, or for a window that has a single one, the window's size in bytes as a negative number. Without
// context takeover, those whose Level is the same make the same of a message.
func (d *Deflater) Level() int { return d.level }

// Takeover reports whether messages refer to those before them, so that the order of compressing must be that of sending.
func (d *Deflater) Takeover() bool { return d.history != nil }

// Compress appends data, compressed, to dst. dst is on loan from bufpool, as is what is returned in its place. With context
// takeover, Settle must follow.
func (d *Deflater) Compress(dst, data []byte) ([]byte, error) {
	c := d.takeCompressor(len(data))
	c.out = dst
	_, err := c.flate.Write(data)
	if err == nil {
		err = c.flate.Flush()
	}
	dst = c.takeOut()
	if err != nil {
		return dst, err
	}
	d.pool.Put(c)
	if n := len(dst) - len(inflate.Tail); n >= 0 && binary.BigEndian.Uint32(dst[n:]) == 0x0000FFFF {
		dst = dst[:n]
	}
	return dst, nil
}

// remember records the message that was compressed last as sent: the next one may refer to it.
func (d *Deflater) remember(data []byte) {
	if d.history != nil {
		// More is kept only if messages are long enough to use it.
		d.history.Widen(min(d.maxDistance, dictionary(len(data))/leastDict*leastDict))
		d.history.Add(data)
	}
}

// Settle records the message that was compressed last as sent if err is nil, otherwise as not sent: the compressor that has
// seen it is not used again then. It returns err.
func (d *Deflater) Settle(data []byte, err error) error {
	if err != nil {
		d.following = 0
	} else {
		d.remember(data)
	}
	return err
}

// takeCompressor takes a compressor that nobody uses, or makes one, and sets it up for a message of the given size.
func (d *Deflater) takeCompressor(size int) *compressor {
	c := d.idleCompressor()
	if c == nil {
		c = d.make(d.level)
	}
	switch {
	case d.history == nil:
		c.mark = 0
		c.flate.restart(nil)
	case c.mark != d.following || d.following == 0:
		d.following = marks.Add(1)
		c.mark = d.following
		c.dict = d.history.AppendLast(c.dict[:0], dictionary(size))
		c.flate.restart(c.dict)
	}
	return c
}

// idleCompressor takes the compressor that d used last if it is among the first that are found. Otherwise it takes one of
// these, or returns nil if there are fewer than it may look at.
func (d *Deflater) idleCompressor() *compressor {
	var others [warmSearch]*compressor
	found := 0
	defer func() {
		for _, other := range others[:found] {
			d.pool.Put(other)
		}
	}()
	for found < len(others) {
		c, _ := d.pool.Get().(*compressor)
		if c == nil || c.mark == d.following || d.history == nil {
			return c
		}
		others[found] = c
		found++
	}
	found--
	return others[found] // the one that was idle for longest
}

// dictionary returns how many bytes of what was sent help to compress a message of the given size.
func dictionary(size int) int { return leastDict + size/4 }

const (
	// warmSearch is the number of idle compressors among which a Deflater looks for the one that it used last. It bounds
	// how many there are for each processor while connections take turns.
	warmSearch = 4
	// leastDict is how much of what was sent, in bytes, a Deflater gives a compressor that it did not use last, in
	// addition to a quarter of the message's size. Reading in all 32 KiB would take eight times as long as compressing a
	// message of 1 KiB, and makes it no smaller if messages are alike.
	leastDict = 4 << 10
)

// compressor is the state for compressing a message, some 0.8 MB. Connections share compressors.
type compressor struct {
	flate flateWriter
	mark  uint64 // that the Deflater whose messages went through last follows, 0 for none
	dict  []byte // the dictionary in use: flate keeps a reference to it
	out   []byte
}

// flateWriter is what is used of a *flate.Writer, and all that is linked into a program that has no Deflater.
type flateWriter interface {
	Write(data []byte) (int, error)
	Flush() error
	restart(dict []byte)
}

type flateInto struct {
	*flate.Writer
	c *compressor
}

func (w flateInto) restart(dict []byte) { w.ResetDict(w.c, dict) }

// Write appends flate's output to out, which is on loan from bufpool.
func (c *compressor) Write(b []byte) (int, error) {
	c.out = append(bufpool.Grow(c.out, len(b)), b...)
	return len(b), nil
}

// takeOut takes the output away.
func (c *compressor) takeOut() []byte {
	out := c.out
	c.out = nil
	return out
}

// compressors holds the idle ones, by level and then, for smaller windows, by window. marks counts the marks given out.
var (
	compressors [flate.BestCompression + MaxWindowBits - MinWindowBits]sync.Pool
	marks       atomic.Uint64
)

// newCompressor returns a compressor for a level, or for a window's size in bytes as a negative number.
func newCompressor(level int) *compressor {
	c := new(compressor)
	var w *flate.Writer
	var err error
	if level < 0 {
		w, err = flate.NewWriterWindow(c, -level)
	} else {
		w, err = flate.NewWriter(c, level)
	}
	if err != nil {
		panic("deflate: " + err.Error()) // New makes all levels valid
	}
	c.flate = flateInto{w, c}
	return c
}
