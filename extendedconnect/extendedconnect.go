// Package extendedconnect has net/http's servers announce extended CONNECT (RFC 8441), by which WebSockets begin over
// HTTP/2. It is imported for that alone:
//
//	import _ "github.com/seed62836080/wsd/extendedconnect"
//
// net/http knows it but keeps it off, unless GODEBUG holds http2xconnect=1 when the program begins. This package has it
// do so while net/http is initialized, and restores GODEBUG behind that. A GODEBUG that mentions http2xconnect already is
// left as it is.
//
// It holds for the whole process: all its servers announce it. Browsers whose page has come over HTTP/2 then ask for a
// WebSocket in the same way, also a handler that knows only HTTP/1.1's Upgrade, where it fails: they do not ask again.
// So import it in programs all of whose WebSockets are of package wsd, or whose other servers do not offer HTTP/2.
package extendedconnect

import (
	_ "net/http" // is initialized ahead of this package, and behind the one below

	"github.com/seed62836080/wsd/extendedconnect/internal/first"
)

func init() { first.Restore() }
