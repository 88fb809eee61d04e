package wsd

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMessageHelpers(t *testing.T) {
	require.Equal(t, Message{Type: TextMessage, Data: []byte("hi")}, Text("hi"))
	data := []byte{1, 2}
	binary := Binary(data)
	require.Same(t, &data[0], &binary.Data[0])
	require.Equal(t, BinaryMessage, binary.Type)
	type point struct{ X, Y int }
	m, err := JSON(point{1, 2})
	require.NoError(t, err)
	require.Equal(t, Text(`{"X":1,"Y":2}`), m)
	var p point
	require.NoError(t, m.Decode(&p))
	require.Equal(t, point{1, 2}, p)
	_, err = JSON(make(chan int))
	require.Error(t, err)
	require.Error(t, Text("{").Decode(&p))
}

func TestAssemblyGrowsWithWhatArrives(t *testing.T) {
	nobodyReleases(t)
	var a assembly
	a.reserve(100, 1<<62, true, 0)
	require.LessOrEqual(t, cap(a.data), minGrown)
	a.data = a.data[:100]
	copies := 0
	for len(a.data) < 8<<20 {
		before := cap(a.data)
		a.reserve(1000, 8<<20+500, true, 0)
		if cap(a.data) != before {
			copies++
		}
		a.data = a.data[:len(a.data)+1000]
		require.LessOrEqual(t, cap(a.data), max(growth*len(a.data), minGrown))
		require.LessOrEqual(t, cap(a.data), 8<<20+500)
	}
	require.Less(t, copies, 10)

	// A peer that has sent a megabyte before gets one at once.
	a = assembly{}
	a.reserve(100, 8<<20, true, 1<<20)
	require.Equal(t, 1<<20, cap(a.data))
	a = assembly{}
	a.reserve(100, 5000, true, 1<<20)
	require.Equal(t, 5000, cap(a.data))

	// In fragments, whose number is not known, copying must stay linear too.
	a, copies = assembly{}, 0
	for range 65536 {
		before := cap(a.data)
		a.reserve(64, uint64(len(a.data)+64), false, 0)
		if cap(a.data) != before {
			copies++
		}
		a.data = append(a.data, bytes.Repeat([]byte{1}, 64)...)
	}
	require.Less(t, copies, 25)
}
