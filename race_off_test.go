//go:build !race

package wsd

// RaceEnabled reports whether the race detector is at work, for the tests of both packages.
const RaceEnabled = false
