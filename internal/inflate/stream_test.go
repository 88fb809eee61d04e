package inflate

import (
	"bytes"
	"compress/flate"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/deflatetest"
)

// inflateStream decodes a message that comes cut by next, into buffers of up to room bytes.
func inflateStream(data []byte, limit uint64, history *Window, next func(left int) int, room int) (out []byte, err error) {
	s := NewStream(limit, history, farthest)
	defer s.Close()
	buffer := make([]byte, room)
	drain := func() {
		for n := 1; n > 0 && err == nil; {
			n, err = s.Next(buffer)
			out = append(out, buffer[:n]...)
		}
	}
	for len(data) > 0 && err == nil {
		piece := s.Space(next(len(data)))
		data = data[copy(piece, data):]
		drain()
	}
	if err == nil {
		s.End()
		drain()
	}
	return out, err
}

// requireSameStream checks that a message decodes piece by piece to what Message makes of it, and leaves the same behind.
func requireSameStream(t *testing.T, data, dict []byte, limit uint64) {
	history := NewWindow(farthest)
	history.Add(dict)
	want, wantErr := Message(data, limit, history, farthest)
	if wantErr == nil {
		history.Add(want)
	}
	random := rand.New(rand.NewPCG(uint64(len(data)), limit))
	for i, next := range []func(int) int{
		func(left int) int { return left },
		func(int) int { return 1 },
		func(left int) int { return 1 + random.IntN(min(left, 20)) },
		func(left int) int { return 1 + random.IntN(min(left, 700)) },
	} {
		kept := NewWindow(farthest)
		kept.Add(dict)
		got, err := inflateStream(data, limit, kept, next, []int{1 << 16, 1 << 10, 7, 300}[i])
		require.LessOrEqual(t, uint64(len(got)), limit)
		require.Equal(t, wantErr == nil, err == nil, "cut %d: %v and %v", i, wantErr, err)
		if err == nil {
			require.True(t, bytes.Equal(want, got), "cut %d", i)
			require.Equal(t, history.AppendLast(nil, farthest), kept.AppendLast(nil, farthest), "cut %d", i)
		} else if wantErr == ErrTooLong {
			require.Equal(t, wantErr, err, "cut %d", i)
		}
	}
}

func TestStreamIsWhatMessageIs(t *testing.T) {
	for _, kind := range deflatetest.Kinds {
		for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, 1, 9} {
			for _, size := range []int{0, 1, 300, 40_000, 200_000} {
				data := deflatetest.Sample(kind, size)
				compressed := deflatetest.Compress(t, level, data)[0]
				requireSameStream(t, compressed, []byte("what came before"), noLimit)
				requireSameStream(t, compressed, nil, uint64(size))
				if size > 0 {
					requireSameStream(t, compressed, nil, uint64(size-1))
				}
			}
		}
	}
}

// What a flush has finished comes out at once, though codes that follow may be longer than what is there.
func TestStreamDoesNotHoldBack(t *testing.T) {
	var compressed bytes.Buffer
	w, err := flate.NewWriter(&compressed, 9)
	require.NoError(t, err)
	s := NewStream(noLimit, nil, farthest)
	defer s.Close()
	for n := range 200 {
		line := bytes.Repeat([]byte{byte('a' + n%26)}, 1+n%5)
		_, err = w.Write(line)
		require.NoError(t, err)
		require.NoError(t, w.Flush())
		copy(s.Space(compressed.Len()), compressed.Bytes())
		compressed.Reset()
		got := make([]byte, 100)
		n, err := s.Next(got)
		require.NoError(t, err)
		require.Equal(t, line, got[:n])
	}
}

// Zeros by the hundred megabytes take the memory of any other message.
func TestStreamIsBounded(t *testing.T) {
	const size = 1 << 28
	var compressed bytes.Buffer
	w, err := flate.NewWriter(&compressed, 1)
	require.NoError(t, err)
	zeros := make([]byte, 1<<20)
	for range size / len(zeros) {
		_, err = w.Write(zeros)
		require.NoError(t, err)
	}
	require.NoError(t, w.Flush())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s := NewStream(noLimit, nil, farthest)
	defer s.Close()
	total := 0
	for compressed.Len() > 0 {
		piece := s.Space(min(compressed.Len(), 4<<10))
		_, _ = compressed.Read(piece)
		for {
			n, err := s.Next(zeros)
			require.NoError(t, err)
			if total += n; n == 0 {
				break
			}
		}
	}
	require.Equal(t, size, total)
	runtime.ReadMemStats(&after)
	// With the race detector, pools lose some of what they are given.
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(size/32))
}
