//go:build !race

package wsd_test

const raceEnabled = false
