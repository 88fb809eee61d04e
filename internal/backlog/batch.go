// batch.go is what is taken out of a backlog to be written.

package backlog

import (
	"time"

	"github.com/seed62836080/wsd/internal/bufpool"
	"github.com/seed62836080/wsd/internal/clock"
)

// Batch is what goes with one write: Head followed by Body.
type Batch struct {
	Head, Body []byte
	lent       [2][]byte     // the loans that they are part of, nil for what is another's
	Last       uint64        // the number up to which everything is written once this is
	Since      time.Duration // on clock: when its oldest bytes began to wait; 0 if they did not
	HasClose   bool          // the close frame is in it
	midMessage bool          // it has a part of a message that is not the last
}

// Len returns how many bytes it has.
func (b *Batch) Len() int { return len(b.Head) + len(b.Body) }

// HasData reports whether it has data from senders.
func (b *Batch) HasData() bool { return b.Last > 0 || b.midMessage }

// NoteWait notes that its bytes wait, if they have not before.
func (b *Batch) NoteWait() {
	if b.Since == 0 {
		b.Since = clock.Now()
	}
}

// advance takes the first n bytes out.
func (b *Batch) advance(n int) {
	ofHead := min(n, len(b.Head))
	b.Head, b.Body = b.Head[ofHead:], b.Body[n-ofHead:]
}

// Release gives back the buffers, and leaves b empty.
func (b *Batch) Release() {
	bufpool.Put(b.lent[0])
	bufpool.Put(b.lent[1])
	*b = Batch{}
}
