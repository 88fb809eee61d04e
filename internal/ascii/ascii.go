// Package ascii judges and compares texts as HTTP does: letters are those of ASCII (RFC 9110, sections 5.1 and 5.6).
package ascii

import "strings"

// EqualFold compares ignoring the case of ASCII letters; strings.EqualFold also folds other letters.
func EqualFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if Lower(a[i]) != Lower(b[i]) {
			return false
		}
	}
	return true
}

// Lower returns the lower case of an ASCII letter, and anything else as it is.
func Lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// IsAlphanumeric reports whether c is an ASCII letter or digit.
func IsAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// TrimSpace removes what RFC 9110, section 5.6.3, calls optional white space.
func TrimSpace(s string) string { return strings.Trim(s, " \t") }
