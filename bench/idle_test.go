//go:build linux && !race

// The race detector keeps memory of its own beside all that a program has, so what connections take is measured without.

package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What an idle connection takes is promised, with the stack of the goroutine that echoes: one call too deep and that stack
// is twice as large, which no other test would notice.
func TestAnIdleConnectionTakesSixKiB(t *testing.T) {
	const conns = 4000
	set := moment
	var err error
	set.files, err = raiseFileLimit()
	require.NoError(t, err)
	set.idle = 300 * time.Millisecond
	held, err := idleMemory(role{Library: wsdName, Work: serveIdle}, conns, set)
	require.NoError(t, err)
	each := held / conns / 1024
	t.Logf("%.2f KiB", each)
	require.Less(t, each, 6.5)
	require.Greater(t, each, 1.0, "measured nothing")
}
