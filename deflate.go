// deflate.go compresses and decompresses the messages of a connection as permessage-deflate has it (RFC 7692).

package wsd

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/flate"
)

// Compression is what permessage-deflate (RFC 7692) is negotiated with. A nil *Compression leaves the extension off. The
// zero value asks for it with context takeover and windows of 32 KiB both ways, at the fastest level: takeover makes a
// feed of messages of 1 KiB a quarter smaller than no takeover does and takes no longer. A connection keeps no
// compressor for it. It keeps the end of what came, up to 32 KiB, and the end of what went: 4 KiB, and where messages
// are longer a quarter of the longest more, up to 32 KiB. Smaller windows keep less, and no takeover keeps nothing;
// docs/compression.md has figures.
//
// In a Config for NewConn or NewParser it stands for what has been negotiated already. Messages that a Conn.Writer sends
// are not compressed.
//
// The size of what is compressed tells an observer how alike its parts are: do not compress secrets together with text
// that others choose (CompressNever).
type Compression struct {
	// Level is how hard to try, from 1, the fastest, to 9, the smallest; 0 stands for 1, and other values are taken as the
	// nearest. With takeover level 5 takes up to two thirds longer than level 1 and makes messages an eighth smaller,
	// level 9 takes eight to eighteen times as long and makes them a fifth smaller. Windows smaller than 32 KiB have one
	// level, which is like 5.
	Level int
	// ServerNoContextTakeover has the server compress each message on its own, without reference to those before it. A
	// server does as the client asks too. A client's handshake fails where the server does not agree to it.
	ServerNoContextTakeover bool
	// ClientNoContextTakeover has the client compress each message on its own, be it asked for by client or server.
	ClientNoContextTakeover bool
	// ServerMaxWindowBits bounds how far the server's compressor looks back: 2^8 to 2^15 bytes. 0 stands for 15; other
	// values are taken as the nearest of these. A client's handshake fails where the server does not agree to it.
	ServerMaxWindowBits int
	// ClientMaxWindowBits is the same of the client's compressor. A server cannot ask it of a client that did not offer
	// to be asked, and asks that client for no context takeover in its stead.
	ClientMaxWindowBits int
	// Threshold is the size in bytes from which messages are compressed that have no wish of their own
	// (Message.Compress). Default 512: what is shorter fits a packet either way. Negative means all messages.
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

// maxBits returns a number of window bits as it is meant.
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

// newInflater returns what decompresses the messages that a connection of the given role receives, or nil where agreed
// is: nothing was negotiated.
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

// compressedLimit is how long, in bytes, a compressed message may be that inflates to limit bytes. DEFLATE can make data
// longer by any amount, but a compressor does so by less than a seventh, and by some bytes more for each time it was
// flushed. What is longer has blocks without data in it.
func (i *inflater) compressedLimit(limit uint64) uint64 {
	const flushes = 4 << 10 // bytes
	if longer := limit + limit/4 + flushes; longer > limit && longer <= unlimited {
		return longer
	}
	return unlimited
}

// inflate returns the message that data is the compressed form of, in a slice of its own. A message longer than limit
// bytes is a *ProtocolError with StatusMessageTooBig, found while it is inflated; one that is not DEFLATE has
// StatusInvalidPayload.
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

// scratches holds what can be used again, by size.
var scratches [maxScratch - minScratch + 1]sync.Pool

// newScratch returns a scratch with room for size bytes, and at most twice that many. Large ones are kept only where
// memory is released.
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

// free lets s, which may be nil, be used again.
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

// deflater compresses the messages of one connection. With context takeover the sender whose turn it is uses it; without,
// any number may at a time, for it does not change.
type deflater struct {
	pool      *sync.Pool
	level     int // as newCompressor takes it
	threshold int
	reach     int     // the longest distance that was agreed on, in bytes
	history   *window // as much of what was sent as a dictionary may take; nil without context takeover
	// lease tells the compressor that all of the last messages went through, the one to be found again; 0 without
	// context takeover. It is a new one for each compressor that is taken up: an earlier one has missed messages.
	lease uint64
}

// leases counts what was given out.
var leases atomic.Uint64

// newDeflater returns what compresses the messages that a connection of the given role sends, or nil where agreed is:
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

// compressor is what compressing a message takes, some 0.8 MB, and is shared between connections.
type compressor struct {
	flate *flate.Writer
	lease uint64 // of the deflater whose messages went through last, 0 for none
	dict  []byte // the dictionary in use: flate keeps hold of it
	out   []byte
}

// Write takes what flate puts out.
func (c *compressor) Write(b []byte) (int, error) {
	c.out = append(c.out, b...)
	return len(b), nil
}

// compressors holds the idle ones, by level and then, for smaller windows, by window.
var compressors [flate.BestCompression + maxWindowBits - minWindowBits]sync.Pool

// newCompressor takes a level, or a window's size in bytes as a negative number.
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
	// warmSearch is among how many idle compressors a deflater looks for the one that it used last. It bounds how many
	// there are for each processor while connections take turns.
	warmSearch = 4
	// leastDict is how much of what was sent, in bytes, a deflater gives a compressor that it did not use last, beside a
	// quarter of the message's size. All of 32 KiB would cost a message of 1 KiB eight times its own time to read in,
	// and makes it no smaller where messages are alike.
	leastDict = 4 << 10
)

// dictionary is how much of what was sent helps a message of the given size, in bytes.
func dictionary(size int) int { return leastDict + size/4 }

// compressor takes one that is idle, the one that d used last if it is among the first to be found, or makes one, and
// sets it up for a message of the given size.
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

// deflate appends data, compressed, to dst (RFC 7692, section 7.2.1), and takes it as sent.
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

// remember takes the message that was compressed last as sent: the next one may refer to it.
func (d *deflater) remember(data []byte) {
	if d.history != nil {
		// More is kept only where the messages are such that more is used.
		d.history.widen(min(d.reach, dictionary(len(data))/leastDict*leastDict))
		d.history.add(data)
	}
}

// forget takes the message that was compressed last as not sent. The compressor that knows it is given up.
func (d *deflater) forget() { d.lease = 0 }
