//go:build race

// Says that the race detector is on.

package suite_test

const underRace = true
