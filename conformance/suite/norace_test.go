//go:build !race

// Says that the race detector is off.

package suite_test

const underRace = false
