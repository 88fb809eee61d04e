//go:build unix && !race

// idle_test.go bounds what an idle WebSocket needs. The race detector needs memory of its own.

package h2_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAnIdleWebSocketCostsLittleBeyondItsStream compares it with a stream whose handler only waits for bytes.
func TestAnIdleWebSocketCostsLittleBeyondItsStream(t *testing.T) {
	for _, secure := range []bool{false, true} {
		raw, ws := held(t, way{secure: secure, raw: true}, 400), held(t, way{secure: secure}, 400)
		t.Logf("%.1f KiB, of which net/http and the client have %.1f", ws/1024, raw/1024)
		require.Less(t, ws-raw, 20.0*1024, "BenchmarkIdle has 8.5 and 13.1 KiB; stacks grow in steps")
	}
}
