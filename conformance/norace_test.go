//go:build !race

// Says that the race detector is off.

package main

const underRace = false
