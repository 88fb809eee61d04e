// deflate.go is permessage-deflate (RFC 7692): what is negotiated, and the compression of messages.
package wsd

// Compression holds what permessage-deflate (RFC 7692) may be negotiated with.
type Compression struct{}

// inflater decompresses the messages of one connection.
type inflater struct{}

// newInflater returns nil where nothing was negotiated.
func newInflater(Role, *Compression) *inflater { return nil }

// compressedLimit is how long, in bytes, a compressed message may be that inflates to limit bytes.
func (i *inflater) compressedLimit(limit uint64) uint64 { return limit }

func (i *inflater) inflate(data []byte, limit uint64) ([]byte, error) { return data, nil }

// deflater compresses the messages of one connection.
type deflater struct{}

// newDeflater returns nil where nothing was negotiated.
func newDeflater(Role, *Compression) *deflater { return nil }

// wants reports whether a message is to be compressed.
func (d *deflater) wants(m Message) bool { return false }

// deflate appends data, compressed, to dst.
func (d *deflater) deflate(dst, data []byte) ([]byte, error) { return append(dst, data...), nil }

// deflateOffer is the Sec-WebSocket-Extensions value of a client that wants c.
func deflateOffer(c *Compression) string { return "" }

// chooseDeflate takes the first offer of a client's Sec-WebSocket-Extensions values that a server told want can keep, and
// returns what was agreed with the value of the answering header, or nil where none can be.
func chooseDeflate(offers []string, want *Compression) (agreed *Compression, answer string) {
	return nil, ""
}

// checkDeflate judges a server's Sec-WebSocket-Extensions values against what was offered, and returns what was agreed, nil
// where the server declined.
func checkDeflate(answer []string, offered *Compression) (agreed *Compression, err error) {
	return nil, nil
}
