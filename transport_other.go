//go:build !js

// transport_other.go is what calls may ask of a transport, which is anything, where no browser is one (dial_js.go).

package wsd

// checkClose checks what a caller wants to close with.
func (*Conn) checkClose(code StatusCode, reason string) *CloseArgumentError {
	return checkCloseCode(code, reason)
}

// checkPing returns the error of a Ping that cannot be sent.
func (*Conn) checkPing() error { return nil }
