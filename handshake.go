package wsd

// agreement is what the opening handshake settled.
type agreement struct {
	subprotocol string
	extensions  string
	compression *Compression // nil: none
}
