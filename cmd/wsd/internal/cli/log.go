// log.go is how verbs log that serve.

package cli

import "log/slog"

// Logger returns a logger that writes to the standard error, as text or as JSON.
func Logger(env Env, format string, quiet bool) *slog.Logger {
	level := slog.LevelInfo
	if quiet {
		level = slog.LevelError
	}
	settings := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(env.Stderr, settings))
	}
	return slog.New(slog.NewTextHandler(env.Stderr, settings))
}
