// Package done says why a context is done. It has two users: the calls of a connection and those of a pool.
package done

import (
	"context"
	"errors"
)

// Why returns why ctx is done, as an error that reads as context.Cause(ctx) and matches that and ctx.Err(). So errors.Is
// finds context.Canceled even if somebody has given another cause, as an errgroup does.
func Why(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return &both{err, cause}
}

type both struct{ err, cause error }

func (b *both) Error() string   { return b.cause.Error() }
func (b *both) Unwrap() []error { return []error{b.err, b.cause} }
