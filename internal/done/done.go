// Package done says why a call has ended whose context is done. It has two users: the calls of a connection and those of a
// pool.
package done

import (
	"context"
	"errors"
	"strings"
)

// prefix is what the texts of the module's errors begin with, once.
const prefix = "wsd: "

// Canceled returns the error of a call whose ctx is done. ctx may be a connection's, and then has that connection's error
// as its cause.
func Canceled(call string, ctx context.Context) error { return &canceled{call, Why(ctx)} }

// Why returns why ctx is done, as an error that reads as context.Cause(ctx) and matches that and ctx.Err(). So errors.Is
// finds context.Canceled even if somebody has given another cause, as an errgroup does.
func Why(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return &both{err, cause}
}

// Plain returns err's text without the prefix that the surrounding text already has.
func Plain(err error) string { return strings.TrimPrefix(err.Error(), prefix) }

// Within returns err with the text that Plain returns, for the middle of another error.
func Within(err error) error { return &within{err} }

type canceled struct {
	call  string
	cause error
}

func (c *canceled) Error() string { return prefix + c.call + ": " + Plain(c.cause) }
func (c *canceled) Unwrap() error { return c.cause }

type both struct{ err, cause error }

func (b *both) Error() string   { return b.cause.Error() }
func (b *both) Unwrap() []error { return []error{b.err, b.cause} }

type within struct{ error }

func (w *within) Error() string { return Plain(w.error) }
func (w *within) Unwrap() error { return w.error }
