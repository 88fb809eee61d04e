// Package first sets GODEBUG ahead of net/http's initialization, which reads it. Packages are initialized in the order of
// their paths as far as their imports allow it: this one's is ahead of net/http, and it imports nothing that net/http does
// not import too.
package first

import (
	"os"
	"strings"
)

const (
	name    = "GODEBUG"
	setting = "http2xconnect"
)

var (
	before     string
	was, isSet bool
)

func init() {
	if before, was = os.LookupEnv(name); strings.Contains(before, setting+"=") {
		return
	}
	value := setting + "=1"
	if before != "" {
		value = before + "," + value
	}
	isSet = os.Setenv(name, value) == nil
}

// Restore makes GODEBUG what it was, for what this process starts.
func Restore() {
	switch {
	case isSet && was:
		_ = os.Setenv(name, before)
	case isSet:
		_ = os.Unsetenv(name)
	}
}
