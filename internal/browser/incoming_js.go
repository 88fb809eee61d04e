// incoming_js.go turns what the browser has received into frames, and bounds how much of it waits.

package browser

import (
	"encoding/binary"
	"io"
	"syscall/js"
)

const (
	// mostWaiting and mostWaitingBytes bound what has come and was not read: nothing makes a browser read more slowly. One
	// message may always wait, whatever its size.
	mostWaiting      = 1024
	mostWaitingBytes = 16 << 20

	// longPayload is the size in bytes from which a payload is left to the next read: a reader that knows its header has it
	// copied to its place, at once.
	longPayload = 4 << 10

	opText   = 0x1
	opBinary = 0x2
	opClose  = 0x8
	opMost   = 0xF
	fin      = 0x80
)

// frame is one that has come. Its payload is in Go, or still in the browser, from where it is copied where it belongs.
type frame struct {
	opcode byte
	text   string
	data   js.Value // a Uint8Array
	size   int      // of either, in bytes
}

// frameOf returns the frame of what a message event brings: a string, or an ArrayBuffer.
func frameOf(data js.Value) frame {
	if data.Type() == js.TypeString {
		text := data.String()
		return frame{opcode: opText, text: text, size: len(text)}
	}
	bytes := uint8Array.New(data)
	return frame{opcode: opBinary, data: bytes, size: bytes.Length()}
}

func closeFrame(payload []byte) frame {
	return frame{opcode: opClose, text: string(payload), size: len(payload)}
}

// incoming is what has come and was not read.
type incoming struct {
	waiting   []frame
	bytes     int    // in them
	present   frame  // what is being read
	header    []byte // what is left of its header
	taken     int    // what has been read of its payload
	overflown bool   // more came than may wait
}

// add adds a frame if it may wait, and reports whether it is the first that may not.
func (in *incoming) add(f frame) (overflows bool) {
	if f.opcode != opClose {
		full := len(in.waiting) >= mostWaiting || len(in.waiting) > 0 && in.bytes+f.size > mostWaitingBytes
		if in.overflown || full {
			overflows = !in.overflown
			in.overflown = true
			return overflows
		}
	}
	in.waiting = append(in.waiting, f)
	in.bytes += f.size
	return false
}

// read fills p with what there is, and returns how much that is.
func (in *incoming) read(p []byte) (n int) {
	for n < len(p) {
		switch left := in.present.size - in.taken; {
		case len(in.header) > 0:
			copied := copy(p[n:], in.header)
			in.header = in.header[copied:]
			n += copied
			if left >= longPayload {
				return n
			}
		case left > 0:
			copied := in.present.copy(p[n:], in.taken)
			in.taken += copied
			n += copied
		case len(in.waiting) > 0:
			in.next()
		default:
			in.present = frame{}
			return n
		}
	}
	return n
}

// next begins with the frame that has waited longest.
func (in *incoming) next() {
	in.present, in.taken = in.waiting[0], 0
	in.waiting[0] = frame{}
	in.waiting = in.waiting[1:]
	in.bytes -= in.present.size
	in.header = appendHeader(in.header[:0], in.present.opcode, in.present.size)
}

// copy copies as much of the payload behind its first bytes as there is room for.
func (f *frame) copy(p []byte, behind int) int {
	if f.data.IsUndefined() {
		return copy(p, f.text[behind:])
	}
	from := f.data
	if n := min(len(p), f.size-behind); n < f.size {
		from = from.Call("subarray", behind, behind+n)
	}
	return js.CopyBytesToGo(p, from)
}

// appendHeader appends the header of a frame that is the last of its message.
func appendHeader(dst []byte, opcode byte, size int) []byte {
	switch {
	case size < 126:
		return append(dst, fin|opcode, byte(size))
	case size <= 0xFFFF:
		return append(dst, fin|opcode, 126, byte(size>>8), byte(size))
	}
	return binary.BigEndian.AppendUint64(append(dst, fin|opcode, 127), uint64(size))
}

// Read reads frames. After a close frame it returns io.EOF.
func (s *Socket) Read(p []byte) (int, error) {
	for {
		n, err := s.read(p)
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		<-s.arrived
	}
}

// read reads what there is, or returns an error if nothing more comes.
func (s *Socket) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch n := s.in.read(p); {
	case n > 0 || !s.over:
		return n, nil
	case s.lost != nil:
		return 0, s.lost
	}
	return 0, io.EOF
}
