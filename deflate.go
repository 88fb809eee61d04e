// deflate.go compresses and decompresses the messages of a connection for permessage-deflate (RFC 7692).

package wsd

import (
	"errors"

	"github.com/seed62836080/wsd/internal/deflate"
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

const defaultThreshold = 512 // bytes

// maxBits returns the number of window bits that an option means.
func maxBits(bits int) int {
	if bits == 0 {
		return deflate.MaxWindowBits
	}
	return min(max(bits, deflate.MinWindowBits), deflate.MaxWindowBits)
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

// deflater compresses the messages that a connection sends, and tells which are to be.
type deflater struct {
	deflate.Deflater
	threshold int // the size in bytes from which messages with CompressAuto are compressed
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
	d := &deflater{deflate.New(agreed.Level, maxBits(bits), !alone), agreed.Threshold}
	if d.threshold == 0 {
		d.threshold = defaultThreshold
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

// Deflate is that of deflate.Deflater, with errors as callers get them.
func (d *deflater) Deflate(dst, data []byte) ([]byte, error) {
	dst, err := d.Deflater.Deflate(dst, data)
	return dst, notDeflated(err)
}

// Compress is that of deflate.Deflater, with errors as callers get them.
func (d *deflater) Compress(dst, data []byte) ([]byte, error) {
	dst, err := d.Deflater.Compress(dst, data)
	return dst, notDeflated(err)
}

// notDeflated is an error of the compressor, or nil, as callers get it.
func notDeflated(err error) error {
	if err == nil {
		return nil
	}
	return &causeError{"compressing a message", err}
}
