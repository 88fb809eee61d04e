package wsd_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails the whole binary when a goroutine outlives its test.
func TestMain(m *testing.M) {
	code := m.Run()
	if leaked := leakedGoroutines(); code == 0 && leaked != "" {
		fmt.Fprintln(os.Stderr, "leaked goroutines:\n\n"+leaked)
		code = 1
	}
	os.Exit(code)
}

// leakedGoroutines returns the stacks of goroutines that do not end within a few seconds.
func leakedGoroutines() string {
	var left []string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		stacks := make([]byte, 16<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		left = left[:0]
		for _, stack := range strings.Split(string(stacks), "\n\n") {
			if !expectedGoroutine(stack) {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return ""
		}
	}
	return strings.Join(left, "\n\n")
}

func expectedGoroutine(stack string) bool {
	for _, known := range []string{"leakedGoroutines", "testing.(*F).Fuzz", "testing.runFuzzing", "os/signal.", "testing.(*M).startAlarm",
		"internal/fuzz", "runtime.ensureSigM", "runtime.handleEvent"} {
		if strings.Contains(stack, known) {
			return true
		}
	}
	return false
}

// goroutines counts the goroutines that there are. While the runtime passes on the records of those that have ended, it may
// count 32 of them once more: to read how much memory there is, it has to have finished that.
func goroutines() int {
	least := runtime.NumGoroutine()
	for range 10 {
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		least = min(least, runtime.NumGoroutine())
	}
	return least
}
