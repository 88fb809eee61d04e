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
	requireIdleBelow(t, role{Library: wsdName, Work: serveIdle}, 6.5)
}

// Over an Inbox there is no such goroutine, and no Messages.
func TestAnIdleConnectionOverAnInboxTakesLess(t *testing.T) {
	requireIdleBelow(t, role{Library: wsdName, Work: serveIdle, Loop: inboxPath}, 4)
}

// requireIdleBelow checks that idle connections take less than so many KiB each.
func requireIdleBelow(t *testing.T, r role, most float64) {
	const conns = 4000
	set := moment
	var err error
	set.files, err = raiseFileLimit()
	require.NoError(t, err)
	set.idle = 300 * time.Millisecond
	held, err := idleMemory(r, conns, set)
	require.NoError(t, err)
	each := held / conns / 1024
	t.Logf("%.2f KiB", each)
	require.Less(t, each, most)
	require.Greater(t, each, 1.0, "measured nothing")
}
