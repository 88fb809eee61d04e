//go:build !js

// transport_other.go is what calls may ask of a transport, which is anything, and where hooks that fail are told of, where no
// browser is (dial_js.go).

package wsd

import "log/slog"

// checkClose checks what a caller wants to close with.
func (*Conn) checkClose(code StatusCode, reason string) *CloseArgumentError {
	return checkCloseCode(code, reason)
}

// checkPing returns the error of a Ping that cannot be sent.
func (*Conn) checkPing() error { return nil }

func logHookFailed(hook string, cause error, stack string) {
	slog.Default().Error("wsd: a hook failed", "hook", hook, "cause", cause, "stack", stack)
}
