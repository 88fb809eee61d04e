//go:build unix && !race

// alloc_unix_test.go counts allocations, where sync.Pool keeps what it is given.

package netio_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadsAndWritesAllocateNothing(t *testing.T) {
	tr, _, far := link(t, "unix")
	head, body, into := []byte("head"), []byte("body"), make([]byte, 64)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := far.Write(head); err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Read(nil, true); err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Read(nil, false); err == nil {
			t.Fatal("expected nothing")
		}
		if _, err := tr.TryWrite(head, nil); err != nil {
			t.Fatal(err)
		}
		if err := tr.Write(head, body); err != nil {
			t.Fatal(err)
		}
		if _, err := far.Read(into); err != nil {
			t.Fatal(err)
		}
	}))
}
