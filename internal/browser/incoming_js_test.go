package browser

import (
	"strings"
	"syscall/js"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/netio"
)

// A payload that is long is left to the next read, which can put all of it to its place.
func TestLongPayloadsAreReadAtOnce(t *testing.T) {
	long, short := strings.Repeat("l", longPayload), strings.Repeat("s", longPayload-1)
	data := js.Global().Get("Uint8Array").New(longPayload)
	data.Call("fill", int('d'))
	for _, test := range []struct {
		name  string
		data  js.Value
		reads []string // without headers, where there is one
	}{
		{"long text", js.ValueOf(long), []string{"", long}},
		{"long data", data.Get("buffer"), []string{"", strings.Repeat("d", longPayload)}},
		{"short", js.ValueOf(short), []string{short}},
	} {
		s := &Socket{arrived: make(chan struct{}, 1)}
		s.receive(frameOf(test.data))
		s.receive(frameOf(js.ValueOf(""))) // ends a read behind a payload, since its header follows
		for i, want := range test.reads {
			into := make([]byte, 64<<10)
			if i == 1 {
				into = into[:len(want)]
			}
			n, err := s.Read(into)
			require.NoError(t, err)
			got := into[:n]
			if i == 0 {
				require.Equal(t, byte(126), got[1], "the length's form")
				got = got[4:]
			}
			if len(test.reads) == 1 {
				require.Equal(t, []byte{fin | opText, 0}, got[len(want):])
				got = got[:len(want)]
			}
			require.Equal(t, want, string(got), test.name)
		}
	}
}

// counted counts the calls of Write.
type counted struct {
	*Socket
	writes int
}

func (c *counted) Write(p []byte) (int, error) {
	c.writes++
	return c.Socket.Write(p)
}

func TestFramesAreWrittenAtOnce(t *testing.T) {
	s, _, calls := madeUp(t)
	c := &counted{Socket: s}
	var transport netio.Transport
	transport.Init(c)
	payload := make([]byte, 3*netio.PieceSize)
	require.NoError(t, transport.Write(appendHeader(nil, opBinary, len(payload)), payload))
	require.Equal(t, 2, c.writes, "one of them the header's")
	require.Equal(t, 1, calls["send"])
}
