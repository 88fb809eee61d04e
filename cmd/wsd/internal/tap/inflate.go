// inflate.go inflates the messages of one direction (RFC 7692), with the window that its messages share.

package tap

import (
	"compress/flate"
	"errors"
	"io"
	"net/http"
	"strings"
)

// maxInflated bounds what is inflated of a message, in bytes. A message that is longer ends inflating: what follows refers to
// what was not seen.
const maxInflated = 64 << 20

// spareOut is how much memory for what is kept of a message stays for the next one, in bytes.
const spareOut = 1 << 20

// tail is what a message's data lacks (RFC 7692, section 7.2.2).
const tail = "\x00\x00\xff\xff"

// inflater inflates one direction. One goroutine uses it.
type inflater struct {
	takeover bool
	keep     int    // bytes of a message that are kept
	window   []byte // the last 32 KiB of what was inflated
	broken   bool

	in     *io.PipeWriter // of the message that is under way
	done   chan error     // closed when it has ended
	out    []byte         // what is kept of it
	length int64
}

// negotiated returns the inflaters of both directions, nil where the answer to a handshake has no permessage-deflate.
func negotiated(answer http.Header, keep int) (client, server *inflater) {
	for extension := range strings.SplitSeq(strings.Join(answer["Sec-Websocket-Extensions"], ","), ",") {
		parts := strings.Split(extension, ";")
		if strings.TrimSpace(parts[0]) != "permessage-deflate" {
			continue
		}
		client, server = &inflater{takeover: true, keep: keep}, &inflater{takeover: true, keep: keep}
		for _, parameter := range parts[1:] {
			switch strings.TrimSpace(parameter) {
			case "client_no_context_takeover":
				client.takeover = false
			case "server_no_context_takeover":
				server.takeover = false
			}
		}
		return client, server
	}
	return nil, nil
}

var errTooLong = errors.New("longer than is inflated")

// begin begins a message.
func (i *inflater) begin() {
	i.end()
	if cap(i.out) > spareOut {
		i.out = nil
	}
	reader, writer := io.Pipe()
	i.in, i.done, i.out, i.length = writer, make(chan error, 1), i.out[:0], 0
	decoder := flate.NewReaderDict(reader, i.window)
	done := i.done
	if !i.takeover {
		i.window = i.window[:0]
	}
	go func() {
		buffer := make([]byte, 16<<10)
		for {
			n, err := decoder.Read(buffer)
			i.add(buffer[:n])
			if err == nil && i.length > maxInflated {
				err = errTooLong
			}
			if err != nil {
				reader.CloseWithError(err) // feed does not wait
				done <- err
				return
			}
		}
	}()
}

// add takes what was inflated.
func (i *inflater) add(b []byte) {
	i.length += int64(len(b))
	i.out = append(i.out, b[:min(len(b), i.keep-len(i.out))]...)
	if i.takeover {
		i.window = append(i.window, b...)
		if spare := len(i.window) - 32<<10; spare > 32<<10 {
			i.window = append(i.window[:0], i.window[spare:]...)
		}
	}
}

// feed takes compressed bytes.
func (i *inflater) feed(b []byte) {
	if i.in != nil {
		_, _ = i.in.Write(b)
	}
}

// end ends a message, and returns the beginning of it with its length.
func (i *inflater) end() (data []byte, length int64, ok bool) {
	if i.in == nil {
		return nil, 0, false
	}
	_, _ = io.WriteString(i.in, tail)
	_ = i.in.Close()
	err := <-i.done
	i.in = nil
	if err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		i.broken = true
	}
	return i.out, i.length, !i.broken
}
