// output.go writes frames: one at a time, many in one write where they gather.

package h2

import (
	"bufio"
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// maxAnswers is how many control frames may wait that the server has caused: floods of them end the connection.
	maxAnswers = 1000
	// writeTime is how long the transport may take nothing.
	writeTime = 30 * time.Second
	// outputSize is how many bytes of frames gather.
	outputSize = 32 << 10
)

var errTooManyAnswers = violation(http2.ErrCodeEnhanceYourCalm, "more frames that are to be answered than this side can")

// output writes the frames of a connection. Data is written by those who send it; what must not wait for the transport is
// queued for the goroutine of run.
type output struct {
	raw     net.Conn
	buffer  *bufio.Writer  // used in turn, as are the framer's writing methods, encoder and block
	encoder *hpack.Encoder // of request headers
	block   bytes.Buffer   // what it has encoded
	turn    chan struct{}  // has room for one, who is writing; no lock, since writing can take its time
	next    atomic.Int32   // how many want a turn: the last of them flushes

	mu      sync.Mutex
	frames  []func() error // called in turn
	stopped bool
	wake    chan struct{} // has room for one
}

func (o *output) init(raw net.Conn) {
	o.raw = raw
	o.buffer = bufio.NewWriterSize(timedWriter{raw}, outputSize)
	o.encoder = hpack.NewEncoder(&o.block)
	o.encoder.SetMaxDynamicTableSizeLimit(tableSize)
	o.turn = make(chan struct{}, 1)
	o.wake = make(chan struct{}, 1)
}

// timedWriter gives each write its time.
type timedWriter struct{ net.Conn }

func (w timedWriter) Write(b []byte) (int, error) {
	_ = w.SetWriteDeadline(time.Now().Add(writeTime))
	return w.Conn.Write(b)
}

// write has one or more frames written, and sent unless somebody else is about to write.
func (o *output) write(frames func() error) error {
	o.next.Add(1)
	o.turn <- struct{}{}
	defer func() { <-o.turn }()
	err := frames()
	if o.next.Add(-1) == 0 {
		if flushed := o.buffer.Flush(); err == nil {
			err = flushed
		}
	}
	return err
}

// queue has a frame written without waiting for that.
func (o *output) queue(frame func() error) {
	o.mu.Lock()
	if !o.stopped {
		o.frames = append(o.frames, frame)
	}
	o.mu.Unlock()
	o.signal()
}

// answer queues a frame that the server has caused.
func (o *output) answer(frame func() error) error {
	o.mu.Lock()
	full := len(o.frames) >= maxAnswers
	o.mu.Unlock()
	if full {
		return errTooManyAnswers
	}
	o.queue(frame)
	return nil
}

func (o *output) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run writes what is queued until the output is stopped.
func (o *output) run() error {
	for range o.wake {
		o.mu.Lock()
		frames, stopped := o.frames, o.stopped
		o.frames = nil
		o.mu.Unlock()
		if stopped {
			return nil
		}
		if len(frames) == 0 {
			continue
		}
		if err := o.write(func() error {
			for _, frame := range frames {
				if err := frame(); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// last writes a frame ahead of the end, if nobody is writing, for a second at most.
func (o *output) last(frame func() error) {
	select {
	case o.turn <- struct{}{}:
	default:
		return
	}
	defer func() { <-o.turn }()
	if frame() == nil {
		stop := time.AfterFunc(time.Second, func() { _ = o.raw.Close() })
		defer stop.Stop()
		_ = o.buffer.Flush()
	}
}

// stop ends run.
func (o *output) stop() {
	o.mu.Lock()
	o.stopped, o.frames = true, nil
	o.mu.Unlock()
	o.signal()
}
