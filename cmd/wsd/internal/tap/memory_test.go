// memory_test.go checks that what passes does not stay.

package tap

import (
	"bytes"
	"compress/flate"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The page keeps so many bytes, of handshakes as of payloads.
func TestGalleryIsBounded(t *testing.T) {
	g := newGallery()
	head := strings.Repeat("x", maxHead)
	const events = 1000
	for range events {
		g.add(&Event{Event: "open", Request: head, Response: head})
		g.add(&Event{Event: "frame", data: []byte(head)})
	}
	kept := 0
	for _, e := range g.events {
		kept += len(e.Request) + len(e.Response) + len(e.data)
	}
	assert.LessOrEqual(t, kept, mostBytes)
	assert.Greater(t, kept, mostBytes-4*maxHead)
	assert.Equal(t, 2*events, g.first+len(g.events))
}

// The memory of a long message that was inflated does not stay with its connection.
func TestInflaterLetsGoOfALongMessage(t *testing.T) {
	var compressed bytes.Buffer
	w, err := flate.NewWriter(&compressed, flate.BestSpeed)
	require.NoError(t, err)
	_, err = w.Write(make([]byte, 4*spareOut))
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	i := &inflater{takeover: true, keep: recordKeep}
	i.begin()
	i.feed(bytes.TrimSuffix(compressed.Bytes(), []byte(tail)))
	data, length, ok := i.end()
	require.True(t, ok)
	assert.Len(t, data, 4*spareOut)
	assert.Equal(t, int64(4*spareOut), length)
	i.begin()
	defer i.end()
	assert.LessOrEqual(t, cap(i.out), spareOut)
}
