// done_test.go checks that the error for a done context matches both ctx.Err() and the cause, and reads well.

package done_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/done"
)

func TestWhy(t *testing.T) {
	enough := errors.New("enough")

	plain, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, context.Canceled, done.Why(plain), "there is nothing to add")

	told, tell := context.WithCancelCause(t.Context())
	tell(enough)
	err := done.Why(told)
	require.EqualError(t, err, "enough")
	require.ErrorIs(t, err, enough)
	require.ErrorIs(t, err, context.Canceled)

	late, cancel := context.WithDeadlineCause(t.Context(), time.Now(), enough)
	defer cancel()
	err = done.Why(late)
	require.ErrorIs(t, err, enough)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, context.Canceled)
}

func TestCanceled(t *testing.T) {
	ended := errors.New("wsd: connection closed")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ended)
	err := done.Canceled("send", ctx)
	require.EqualError(t, err, "wsd: send: connection closed", "the prefix is there once")
	require.ErrorIs(t, err, ended)
	require.ErrorIs(t, err, context.Canceled)
}

func TestWithin(t *testing.T) {
	ended := errors.New("wsd: connection closed")
	require.Equal(t, "connection closed", done.Plain(ended))
	require.EqualError(t, done.Within(ended), "connection closed")
	require.ErrorIs(t, done.Within(ended), ended)
}
