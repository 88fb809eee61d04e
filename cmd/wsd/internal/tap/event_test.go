// event_test.go tests what a line of tap shows of a payload.

package tap

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPrintableLooksAtEachByte(t *testing.T) {
	for size := 1; size <= 24; size++ {
		for at := range size {
			data := bytes.Repeat([]byte{'~'}, size)
			for c := range 256 {
				data[at] = byte(c)
				require.Equal(t, c >= ' ' && c <= '~', printable(data), "%d of %d bytes is %#x", at, size, c)
				data[size-1-at] = byte(c)
				require.Equal(t, c >= ' ' && c <= '~', printable(data), "%d of %d bytes, and its counterpart", at, size)
				data[size-1-at] = ' '
			}
		}
	}
	require.True(t, printable(nil))
}
