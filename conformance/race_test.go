//go:build race

// Says that the race detector is on.

package main

const underRace = true
