// Package quote puts what a peer sent into error messages, escaped and cut.
package quote

import "strconv"

// most is how many bytes of a text are shown.
const most = 64

// Short returns s in double quotes, up to its first 64 bytes.
func Short(s string) string {
	if len(s) > most {
		return strconv.Quote(s[:most]) + "..."
	}
	return strconv.Quote(s)
}
