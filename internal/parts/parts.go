// Package parts passes one message, in parts, from the goroutine that receives it to whoever reads it: a few parts at a
// time, so that neither has to wait for each single one, and no more, so that memory is bounded.
package parts

import (
	"errors"
	"sync"

	"github.com/seed62836080/wsd/internal/bufpool"
)

// most is how much memory, in bytes, the parts that wait to be read may take, if there are more than one: of large ones, two.
const most = 256 << 10

var (
	// ErrEnd is returned by a read behind the last byte of a message that is complete.
	ErrEnd = errors.New("parts: end of the message")
	// ErrClosed is returned by a read after Close.
	ErrClosed = errors.New("parts: read after Close")
	// ErrStopped is returned by a read that was stopped while it waited.
	ErrStopped = errors.New("parts: read stopped")
)

// Pipe holds what has come of a message and has not been read. Its methods are safe for concurrent use: of several
// readers each gets what none of the others does.
type Pipe struct {
	onRead func() // called whenever a read begins to wait, or has something

	mu       sync.Mutex    // guards all below
	parts    [][]byte      // each a loan from bufpool, or memory that it takes
	held     int           // the memory that they take, in bytes
	read     int           // bytes of the first that have been read
	complete bool          // the last part is among them, or has been
	closed   bool          // nobody reads on
	failure  error         // why no more parts come, nil while they may
	waiting  int           // reads that wait
	more     chan struct{} // made by a read that waits, closed when a part comes or none will any more
	room     chan struct{}
}

// NewPipe returns an empty pipe. onRead is called, without a lock, whenever a read begins to wait and when it has something.
func NewPipe(onRead func()) *Pipe {
	return &Pipe{onRead: onRead, room: make(chan struct{}, 1)}
}

// Add adds a part, which is the pipe's from then on, however many wait. last says that none follows. If nobody reads on,
// or no more parts were to come, it is dropped.
func (p *Pipe) Add(part []byte, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed || p.failure != nil || len(part) == 0:
		bufpool.Put(part)
	default:
		p.parts = append(p.parts, part)
		p.held += cap(part)
	}
	p.complete = p.complete || last && p.failure == nil
	p.signalMore()
}

// Full reports whether the next part has to wait until some are read, which Room tells.
func (p *Pipe) Full() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.closed && len(p.parts) > 1 && p.held >= most
}

// Finished reports whether there is nothing more to read, or nobody who would.
func (p *Pipe) Finished() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed || len(p.parts) == 0 && (p.complete || p.failure != nil)
}

// Waiting reports whether somebody waits for the next part.
func (p *Pipe) Waiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting > 0
}

// Room gets a value after a part has been read, or nobody reads on. One goroutine may wait for it.
func (p *Pipe) Room() <-chan struct{} { return p.room }

// Fail says why no more parts come. What has come can be read, and then the error. It has no effect on a message that is
// complete, and only the first one counts.
func (p *Pipe) Fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failure == nil && !p.complete {
		p.failure = err
		p.signalMore()
	}
}

// Close drops what has not been read, and all that follows.
func (p *Pipe) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, part := range p.parts {
		bufpool.Put(part)
	}
	p.parts, p.held, p.read = nil, 0, 0
	p.signalMore()
	p.signalRoom()
}

// Read reads up to len(b) bytes, as soon as there are any. It does not wait once stop, which may be nil, is closed.
func (p *Pipe) Read(b []byte, stop <-chan struct{}) (int, error) {
	p.onRead()
	defer p.onRead()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.await(stop); err != nil {
		return 0, err
	}
	n := copy(b, p.parts[0][p.read:])
	if p.read += n; p.read == len(p.parts[0]) {
		bufpool.Put(p.next())
	}
	return n, nil
}

// Take returns what has come first and has not been read, as soon as there is something. It is lent: Put takes it back.
func (p *Pipe) Take() ([]byte, error) {
	p.onRead()
	defer p.onRead()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.await(nil); err != nil {
		return nil, err
	}
	from := p.read
	return p.next()[from:], nil
}

// await waits until there is a part, or returns why there is none.
func (p *Pipe) await(stop <-chan struct{}) error {
	for stopped := false; ; {
		switch {
		case p.closed:
			return ErrClosed
		case len(p.parts) > 0:
			return nil
		case p.complete:
			return ErrEnd
		case p.failure != nil:
			return p.failure
		case stopped:
			return ErrStopped
		}
		if p.more == nil {
			p.more = make(chan struct{})
		}
		more := p.more
		p.waiting++
		p.mu.Unlock()
		select {
		case <-more:
		case <-stop:
			stopped = true
		}
		p.mu.Lock()
		p.waiting--
	}
}

// next takes the first part out.
func (p *Pipe) next() []byte {
	first := p.parts[0]
	p.parts = append(p.parts[:0], p.parts[1:]...)
	p.held -= cap(first)
	p.read = 0
	p.signalRoom()
	return first
}

func (p *Pipe) signalMore() {
	if p.more != nil {
		close(p.more)
		p.more = nil
	}
}

func (p *Pipe) signalRoom() {
	select {
	case p.room <- struct{}{}:
	default:
	}
}
