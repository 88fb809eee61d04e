// deflate.go compresses and decompresses the messages of a connection for permessage-deflate (RFC 7692).

package wsd

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/flate"
)

// Compression holds the parameters for negotiating permessage-deflate (RFC 7692). A nil *Compression leaves the extension
// off. The zero value asks for it with context takeover and 32 KiB windows in both directions, at the fastest level.
// Takeover makes a feed of 1 KiB messages a quarter smaller than no takeover does, and takes no longer. A connection
// keeps no compressor for it. It keeps the end of what it received, up to 32 KiB, and the end of what it sent: 4 KiB,
// plus a quarter of the longest message if messages are longer, up to 32 KiB. Smaller windows keep less, and no takeover
// keeps nothing; docs/compression.md has figures.
//
// In a Config for NewConn or NewParser, it holds what has already been negotiated. Messages sent through a Conn.Writer
// are not compressed.
//
// The size of compressed data tells an observer how alike its parts are: do not compress secrets together with text that
// others choose (CompressNever).
type Compression struct {
	// Level is the effort, from 1, the fastest, to 9, the smallest. 0 means 1, and other values mean the nearest of
	// these. With takeover, level 5 takes up to two thirds longer than level 1 and makes messages an eighth smaller;
	// level 9 takes eight to eighteen times as long and makes them a fifth smaller. Windows smaller than 32 KiB have a
	// single level, which is like 5.
	Level int
	// ServerNoContextTakeover makes the server compress each message on its own, without reference to earlier ones. A
	// server also does so if the client asks. A client's handshake fails if the server does not agree to it.
	ServerNoContextTakeover bool
	// ClientNoContextTakeover makes the client compress each message on its own, whether client or server asks for it.
	ClientNoContextTakeover bool
	// ServerMaxWindowBits bounds how far back the server's compressor looks: 8 to 15 stand for 2^8 to 2^15 bytes. 0 means
	// 15, and other values mean the nearest of these. A client's handshake fails if the server does not agree to it.
	ServerMaxWindowBits int
	// ClientMaxWindowBits is the same for the client's compressor, except that a client keeps to its own setting if the
	// server's answer allows more (RFC 7692, section 7.1.2.2). A server cannot ask this of a client that did not offer to
	// be asked, and asks such a client for no context takeover instead.
	ClientMaxWindowBits int
	// Threshold is the size in bytes from which messages with CompressAuto are compressed (Message.Compress). Default
	// 512: shorter ones fit in a packet either way. Negative means all messages.
	Threshold int
}

const (
	minWindowBits    = 8  // RFC 7692, section 7.1.2
	maxWindowBits    = 15 // the widest window of RFC 1951
	defaultThreshold = 512
)

// deflateTail ends the compressed form of each message and is not sent (RFC 7692, section 7.2.1): the length of an empty
// stored block.
const deflateTail = "\x00\x00\xff\xff"

// maxBits returns the number of window bits that an option means.
func maxBits(bits int) int {
	if bits == 0 {
		return maxWindowBits
	}
	return min(max(bits, minWindowBits), maxWindowBits)
}

// inflater decompresses the messages of one connection. It belongs to the connection's reader.
type inflater struct {
	reach   int     // the longest distance that the peer may use, in bytes
	history *window // nil without context takeover
}

// newInflater returns what decompresses the messages that a connection of the given role receives, or nil if agreed is
// nil, as nothing was negotiated.
func newInflater(role Role, agreed *Compression) *inflater {
	if agreed == nil {
		return nil
	}
	alone, bits := agreed.ClientNoContextTakeover, agreed.ClientMaxWindowBits
	if role == ClientRole {
		alone, bits = agreed.ServerNoContextTakeover, agreed.ServerMaxWindowBits
	}
	i := &inflater{reach: 1 << maxBits(bits)}
	if !alone {
		i.history = &window{size: i.reach}
	}
	return i
}

// compressedLimit returns the maximum length, in bytes, of a compressed message that inflates to limit bytes. DEFLATE can
// make data longer by any amount, but a compressor does so by less than a seventh, plus some bytes for each flush.
// Anything longer has blocks without data in it.
func (i *inflater) compressedLimit(limit uint64) uint64 {
	const flushes = 4 << 10 // bytes
	if longer := limit + limit/4 + flushes; longer > limit && longer <= unlimited {
		return longer
	}
	return unlimited
}

// inflate decompresses data and returns the message in a slice of its own. A message longer than limit bytes is a
// *ProtocolError with StatusMessageTooBig, found while it is inflated; one that is not DEFLATE has StatusInvalidPayload.
func (i *inflater) inflate(data []byte, limit uint64) ([]byte, error) {
	message, err := inflate(data, limit, i.history, i.reach)
	if err == nil && i.history != nil {
		i.history.add(message)
	}
	return message, err
}

// scratch holds the bytes of a compressed message until it is inflated.
type scratch struct{ data []byte }

const (
	minScratch = 9  // 512 bytes, as powers of two
	maxScratch = 16 // 64 KiB
)

// scratches holds scratches that can be reused, by size.
var scratches [maxScratch - minScratch + 1]sync.Pool

// newScratch returns a scratch with room for size bytes, and at most twice that many. Large ones are reused only if the
// program releases memory.
func newScratch(size int) *scratch {
	class := max(bits.Len(uint(max(size, 1)-1)), minScratch)
	if class > maxScratch {
		return &scratch{data: newPayload(size)}
	}
	if s, ok := scratches[class-minScratch].Get().(*scratch); ok {
		return s
	}
	return &scratch{data: make([]byte, 0, 1<<class)}
}

// free makes s, which may be nil, available for reuse.
func (s *scratch) free() {
	if s == nil {
		return
	}
	class := bits.Len(uint(cap(s.data))) - 1
	switch {
	case class > maxScratch:
		releasePayload(s.data)
	case class >= minScratch && cap(s.data) == 1<<class:
		s.data = s.data[:0]
		scratches[class-minScratch].Put(s)
	}
}

// deflater compresses the messages of one connection. With context takeover, only the sender whose turn it is uses it;
// without, any number may use it at a time, as it does not change.
type deflater struct {
	pool      *sync.Pool
	level     int // as newCompressor takes it
	threshold int
	reach     int     // the longest distance that was agreed on, in bytes
	history   *window // as much of what was sent as a dictionary may take; nil without context takeover
	// lease identifies the compressor that the last messages went through, so that it can be found again; 0 without
	// context takeover. Each time a different compressor is taken, the lease is a new one: earlier compressors have
	// missed messages.
	lease uint64
}

// leases counts the leases given out.
var leases atomic.Uint64

// newDeflater returns what compresses the messages that a connection of the given role sends, or nil if agreed is nil, as
// nothing was negotiated.
func newDeflater(role Role, agreed *Compression) *deflater {
	if agreed == nil {
		return nil
	}
	alone, bits := agreed.ServerNoContextTakeover, agreed.ServerMaxWindowBits
	if role == ClientRole {
		alone, bits = agreed.ClientNoContextTakeover, agreed.ClientMaxWindowBits
	}
	d := &deflater{level: min(max(agreed.Level, flate.BestSpeed), flate.BestCompression), threshold: agreed.Threshold}
	if d.threshold == 0 {
		d.threshold = defaultThreshold
	}
	bits = maxBits(bits)
	d.reach = 1 << bits
	d.pool = &compressors[d.level-1]
	if bits < maxWindowBits {
		d.level = -d.reach
		d.pool = &compressors[flate.BestCompression+bits-minWindowBits]
	}
	if !alone {
		d.history = &window{size: min(d.reach, leastDict)}
	}
	return d
}

// wants reports whether a message is to be compressed.
func (d *deflater) wants(m Message) bool {
	switch m.Compress {
	case CompressAlways:
		return true
	case CompressNever:
		return false
	}
	return len(m.Data) >= d.threshold
}

// compressor is the state for compressing a message, some 0.8 MB. Connections share compressors.
type compressor struct {
	flate *flate.Writer
	lease uint64 // of the deflater whose messages went through last, 0 for none
	dict  []byte // the dictionary in use: flate keeps a reference to it
	out   []byte
}

// Write appends flate's output to out.
func (c *compressor) Write(b []byte) (int, error) {
	c.out = append(c.out, b...)
	return len(b), nil
}

// compressors holds the idle ones, by level and then, for smaller windows, by window.
var compressors [flate.BestCompression + maxWindowBits - minWindowBits]sync.Pool

// newCompressor returns a compressor for a level, or for a window's size in bytes as a negative number.
func newCompressor(level int) *compressor {
	c := new(compressor)
	var err error
	if level < 0 {
		c.flate, err = flate.NewWriterWindow(c, -level)
	} else {
		c.flate, err = flate.NewWriter(c, level)
	}
	if err != nil {
		panic("wsd: " + err.Error()) // newDeflater makes all levels valid
	}
	return c
}

const (
	// warmSearch is the number of idle compressors among which a deflater looks for the one that it used last. It bounds
	// how many there are for each processor while connections take turns.
	warmSearch = 4
	// leastDict is how much of what was sent, in bytes, a deflater gives a compressor that it did not use last, in
	// addition to a quarter of the message's size. Reading in all 32 KiB would take eight times as long as compressing a
	// message of 1 KiB, and makes it no smaller if messages are alike.
	leastDict = 4 << 10
)

// dictionary returns how many bytes of what was sent help to compress a message of the given size.
func dictionary(size int) int { return leastDict + size/4 }

// compressor takes an idle compressor, preferring the one that d used last if it is among the first found, or makes one,
// and sets it up for a message of the given size.
func (d *deflater) compressor(size int) *compressor {
	var c *compressor
	var others [warmSearch]*compressor
	found := 0
	for found < len(others) {
		c, _ = d.pool.Get().(*compressor)
		if c == nil || c.lease == d.lease || d.history == nil {
			break
		}
		others[found] = c
		found++
		c = nil
	}
	if found == len(others) {
		found--
		c = others[found] // the one that was idle for longest
	}
	for _, other := range others[:found] {
		d.pool.Put(other)
	}
	if c == nil {
		c = newCompressor(d.level)
	}
	if d.history == nil {
		c.lease = 0
		c.flate.ResetDict(c, nil)
	} else if c.lease != d.lease || d.lease == 0 {
		d.lease = leases.Add(1)
		c.lease = d.lease
		c.dict = d.history.appendLast(c.dict[:0], dictionary(size))
		c.flate.ResetDict(c, c.dict)
	}
	return c
}

// deflate appends data, compressed, to dst (RFC 7692, section 7.2.1), and records it as sent.
func (d *deflater) deflate(dst, data []byte) ([]byte, error) {
	dst, err := d.compress(dst, data)
	if err == nil {
		d.remember(data)
	}
	return dst, err
}

// compress appends data, compressed, to dst. With context takeover either remember or forget must follow.
func (d *deflater) compress(dst, data []byte) ([]byte, error) {
	c := d.compressor(len(data))
	c.out = dst
	_, err := c.flate.Write(data)
	if err == nil {
		err = c.flate.Flush()
	}
	dst, c.out = c.out, nil
	if err != nil {
		return dst, err
	}
	d.pool.Put(c)
	if n := len(dst) - len(deflateTail); n >= 0 && binary.BigEndian.Uint32(dst[n:]) == 0x0000FFFF {
		dst = dst[:n]
	}
	return dst, nil
}

// remember records the message that was compressed last as sent: the next one may refer to it.
func (d *deflater) remember(data []byte) {
	if d.history != nil {
		// More is kept only if messages are long enough to use it.
		d.history.widen(min(d.reach, dictionary(len(data))/leastDict*leastDict))
		d.history.add(data)
	}
}

// forget records the message that was compressed last as not sent. The compressor that has seen it is not used again.
func (d *deflater) forget() { d.lease = 0 }
