// deflate.go compresses and decompresses the messages of a connection for permessage-deflate (RFC 7692).

package wsd

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/flate"

	"github.com/seed62836080/wsd/internal/bufpool"
	"github.com/seed62836080/wsd/internal/inflate"
)

// Compression holds the parameters for negotiating permessage-deflate (RFC 7692); nil leaves it off. The zero value asks
// for context takeover and 32 KiB windows in both directions, at the fastest level. With takeover, a connection keeps up
// to 32 KiB of what it received, and 4 to 32 KiB of what it sent; docs/compression.md has figures.
//
// In a Config for NewConn or NewParser, it holds what was negotiated.
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

// maxBits returns the number of window bits that an option means.
func maxBits(bits int) int {
	if bits == 0 {
		return maxWindowBits
	}
	return min(max(bits, minWindowBits), maxWindowBits)
}

// inflater decompresses the messages of one connection. It belongs to the connection's reader.
type inflater struct {
	maxDistance int             // that the peer may use, in bytes
	came        int             // the length in bytes of the message that was inflated last, as it came; 0 once another has begun
	history     *inflate.Window // nil without context takeover
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
	i := &inflater{maxDistance: 1 << maxBits(bits)}
	if !alone {
		i.history = inflate.NewWindow(i.maxDistance)
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
	i.came = len(data)
	message, err := inflate.Message(data, limit, i.history, i.maxDistance)
	if err != nil {
		return nil, notInflated(err)
	}
	if i.history != nil {
		i.history.Add(message)
	}
	return message, nil
}

// stream returns what decompresses a message piece by piece.
func (i *inflater) stream(limit uint64) *inflate.Stream {
	return inflate.NewStream(limit, i.history, i.maxDistance)
}

// notInflated is the violation that an error of the decoder means. RFC 7692 says to fail the connection without naming a
// code; 1007 is for "data within a message that was not consistent with the type of the message" (RFC 6455, section
// 7.4.1), while the frames, which are what 1002 is about, are in order.
func notInflated(err error) error {
	var corrupt inflate.CorruptError
	if !errors.As(err, &corrupt) {
		return tooBig()
	}
	return &ProtocolError{
		Code: StatusInvalidPayload, Section: "RFC 7692, section 7.2.2", Problem: "compressed message is not DEFLATE: " + string(corrupt),
	}
}

// deflater compresses the messages of one connection. With context takeover, only the sender whose turn it is uses it;
// without, any number may use it at a time, as it does not change.
type deflater struct {
	pool        *sync.Pool
	level       int // as newCompressor takes it
	threshold   int
	maxDistance int             // that was agreed on, in bytes
	history     *inflate.Window // as much of what was sent as a dictionary may take; nil without context takeover
	// following is the mark of the compressor that has seen everything sent so far and can go on from there, if it is
	// found again; 0 for none. Each time a different compressor takes over, the mark is a new one: earlier compressors
	// have missed messages.
	following uint64
}

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
	d.maxDistance = 1 << bits
	d.pool = &compressors[d.level-1]
	if bits < maxWindowBits {
		d.level = -d.maxDistance
		d.pool = &compressors[flate.BestCompression+bits-minWindowBits]
	}
	if !alone {
		d.history = inflate.NewWindow(min(d.maxDistance, leastDict))
	}
	return d
}

// wants reports whether a message is to be compressed.
func (d *deflater) wants(m *Message) bool {
	switch m.Compress {
	case CompressAlways:
		return true
	case CompressNever:
		return false
	}
	return len(m.Data) >= d.threshold
}

// deflate appends data, compressed, to dst (RFC 7692, section 7.2.1), and records it as sent. dst is on loan from bufpool,
// as is what is returned in its place.
func (d *deflater) deflate(dst, data []byte) ([]byte, error) {
	dst, err := d.compress(dst, data)
	if err == nil {
		d.remember(data)
	}
	return dst, err
}

// compress appends data, compressed, to dst. With context takeover, settle must follow.
func (d *deflater) compress(dst, data []byte) ([]byte, error) {
	c := d.takeCompressor(len(data))
	c.out = dst
	_, err := c.flate.Write(data)
	if err == nil {
		err = c.flate.Flush()
	}
	dst, c.out = c.out, nil
	if err != nil {
		return dst, &causeError{"compressing a message", err}
	}
	d.pool.Put(c)
	if n := len(dst) - len(inflate.Tail); n >= 0 && binary.BigEndian.Uint32(dst[n:]) == 0x0000FFFF {
		dst = dst[:n]
	}
	return dst, nil
}

// remember records the message that was compressed last as sent: the next one may refer to it.
func (d *deflater) remember(data []byte) {
	if d.history != nil {
		// More is kept only if messages are long enough to use it.
		d.history.Widen(min(d.maxDistance, dictionary(len(data))/leastDict*leastDict))
		d.history.Add(data)
	}
}

// settle records the message that was compressed last as sent if err is nil, otherwise as not sent. It returns err.
func (d *deflater) settle(data []byte, err error) error {
	if err != nil {
		d.forget()
	} else {
		d.remember(data)
	}
	return err
}

// forget records the message that was compressed last as not sent. The compressor that has seen it is not used again.
func (d *deflater) forget() { d.following = 0 }

// takeCompressor takes a compressor that nobody uses, or makes one, and sets it up for a message of the given size.
func (d *deflater) takeCompressor(size int) *compressor {
	c := d.idleCompressor()
	if c == nil {
		c = newCompressor(d.level)
	}
	switch {
	case d.history == nil:
		c.mark = 0
		c.flate.ResetDict(c, nil)
	case c.mark != d.following || d.following == 0:
		d.following = marks.Add(1)
		c.mark = d.following
		c.dict = d.history.AppendLast(c.dict[:0], dictionary(size))
		c.flate.ResetDict(c, c.dict)
	}
	return c
}

// idleCompressor takes the compressor that d used last if it is among the first that are found. Otherwise it takes one of
// these, or returns nil if there are fewer than it may look at.
func (d *deflater) idleCompressor() *compressor {
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
	// warmSearch is the number of idle compressors among which a deflater looks for the one that it used last. It bounds
	// how many there are for each processor while connections take turns.
	warmSearch = 4
	// leastDict is how much of what was sent, in bytes, a deflater gives a compressor that it did not use last, in
	// addition to a quarter of the message's size. Reading in all 32 KiB would take eight times as long as compressing a
	// message of 1 KiB, and makes it no smaller if messages are alike.
	leastDict = 4 << 10
)

// compressor is the state for compressing a message, some 0.8 MB. Connections share compressors.
type compressor struct {
	flate *flate.Writer
	mark  uint64 // that the deflater whose messages went through last follows, 0 for none
	dict  []byte // the dictionary in use: flate keeps a reference to it
	out   []byte
}

// Write appends flate's output to out, which is on loan from bufpool.
func (c *compressor) Write(b []byte) (int, error) {
	c.out = append(bufpool.Grow(c.out, len(b)), b...)
	return len(b), nil
}

// compressors holds the idle ones, by level and then, for smaller windows, by window. marks counts the marks given out.
var (
	compressors [flate.BestCompression + maxWindowBits - minWindowBits]sync.Pool
	marks       atomic.Uint64
)

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
