// main_test.go runs the example.

package main

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEveryRequestIsAnswered(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, 2001, 50*time.Millisecond))
	t.Log(out.String())
	require.Regexp(t, `(?s)^\d+ requests answered, the server stops for 50ms\n2001 of 2001 requests answered, \d+ tries were `+
		`repeated\n\n.*acquired.*\n +3 +0 +[0-3] +2\d\d\d `, out.String())
}

func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, run(ctx, new(bytes.Buffer), 1<<30, 0), context.Canceled)
}
