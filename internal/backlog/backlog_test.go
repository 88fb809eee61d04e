package backlog

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLongBacklogKeepsNoRoom(t *testing.T) {
	const binary = 0x2
	l := Backlog{Longest: 1 << 20}
	payload := make([]byte, 8<<10)
	for range 10_000 {
		l.AddMessage(binary, payload, nil)
	}
	var b Batch
	for !l.Empty() {
		l.Take(&b)
		b.Release()
	}
	require.LessOrEqual(t, cap(l.ahead.all), segmentsKept)
}
