// window.go keeps what distances refer to, for either end of a stream: decoders look into it, and compressors take a
// dictionary from it.

package inflate

import "slices"

// Window is the end of a stream: what a distance may reach back to. It grows with the data, up to its size.
type Window struct {
	data []byte
	size int // bytes at the most
	next int // where the next byte goes once data has its full size, replacing the oldest one
}

// NewWindow returns an empty window of size bytes.
func NewWindow(size int) *Window { return &Window{size: size} }

// Widen lets the window grow to size bytes, if it is smaller.
func (w *Window) Widen(size int) {
	if size <= w.size {
		return
	}
	if w.next > 0 {
		// Appending to a slice of it would allocate more than the size.
		w.data = slices.Concat(w.data[w.next:], w.data[:w.next])
		w.next = 0
	}
	w.size = size
}

// Add puts b at the end.
func (w *Window) Add(b []byte) {
	b = b[max(0, len(b)-w.size):]
	if free := w.size - len(w.data); free > 0 {
		n := min(free, len(b))
		if need := len(w.data) + n; need > cap(w.data) {
			w.data = append(make([]byte, 0, min(w.size, max(need, 2*cap(w.data)))), w.data...)
		}
		w.data = append(w.data, b[:n]...)
		b = b[n:]
	}
	for len(b) > 0 {
		n := copy(w.data[w.next:], b)
		b = b[n:]
		w.next += n
		if w.next == len(w.data) {
			w.next = 0
		}
	}
}

// copyFrom copies to dst what begins back bytes before the end, and returns how many bytes it copied: len(dst), or back
// if that is less.
func (w *Window) copyFrom(back int, dst []byte) int {
	dst = dst[:min(back, len(dst))]
	at := w.next - back
	if at >= 0 {
		return copy(dst, w.data[at:])
	}
	at += len(w.data)
	n := copy(dst, w.data[at:])
	return n + copy(dst[n:], w.data)
}

// AppendLast appends the last n bytes, or all if there are fewer, to dst.
func (w *Window) AppendLast(dst []byte, n int) []byte {
	n = min(n, len(w.data))
	dst = slices.Grow(dst, n)
	end := len(dst)
	dst = dst[:end+n]
	w.copyFrom(n, dst[end:])
	return dst
}
