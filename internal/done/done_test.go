// done_test.go holds that an error of a context's end is both that the context has ended and why.

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
