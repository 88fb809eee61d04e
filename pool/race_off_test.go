//go:build !race

package pool_test

// raceEnabled says that the race detector slows everything down.
const raceEnabled = false
