//go:build !js

// elsewhere.go is what a connection asks of this package where there is no browser.

package browser

import (
	"log/slog"
	"net"
)

// Present says that the program runs where a browser has the network.
const Present = false

// Carries reports whether addr is that of a Socket's peer.
func Carries(net.Addr) bool { return false }

// LogHookFailed tells slog's default logger that a hook has not returned.
func LogHookFailed(hook string, cause error, stack string) {
	slog.Default().Error("wsd: a hook failed", "hook", hook, "cause", cause, "stack", stack)
}
