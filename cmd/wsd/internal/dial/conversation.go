// conversation.go is one connection's part of the talk: a loop that owns all of it, and a goroutine that sends.

package dial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/seed62836080/wsd"
)

// conversation is what happens on one connection. The goroutine of run alone uses it.
type conversation struct {
	*dialer
	conn    *wsd.Conn
	first   []item     // to send ahead of the input: -preamble, and what the last connection did not take
	outbox  chan item  // to the sender, which is idle when something is put there
	acks    chan error // from the sender, with room for one
	sending *item
	notes   chan string // what came of pings
	timer   *time.Timer // of silence behind the input's end, or of an answer to -x
	closing bool
	err     error
}

// talk leads a conversation until the connection ends. done says that there is nothing to go on with.
func (d *dialer) talk(ctx context.Context, conn *wsd.Conn) (done bool, err error) {
	c := &conversation{dialer: d, conn: conn, outbox: make(chan item), acks: make(chan error, 1), notes: make(chan string, 16)}
	for _, text := range d.preamble {
		m, err := d.options.message(text)
		if err != nil {
			conn.StartClose(wsd.StatusNormalClosure, "")
			return true, err
		}
		c.first = append(c.first, item{message: m})
	}
	if d.pending != nil {
		c.first = append(c.first, *d.pending)
		d.pending = nil
	}
	if d.interactive {
		d.screen.connected(conn)
	}
	go c.send()
	defer close(c.outbox)
	c.timer = time.NewTimer(time.Hour)
	defer c.timer.Stop()
	c.run(ctx)
	return c.closing || ctx.Err() != nil, c.err
}

// run is the loop.
func (c *conversation) run(ctx context.Context) {
	interrupted := ctx.Done()
	for {
		input := c.input
		idle := c.sending == nil && c.pending == nil && !c.closing
		if !idle || c.finished || len(c.texts) > 0 && c.received < c.sent {
			input = nil
		}
		if idle && len(c.first) > 0 {
			c.dispatch(c.first[0])
			c.first = c.first[1:]
			continue
		}
		select {
		case i, more := <-input:
			if more {
				c.take(i)
			} else {
				c.finished = true
				c.timer.Reset(c.wait)
			}
		case err := <-c.acks:
			c.acknowledge(err)
		case m, more := <-c.conn.Messages():
			if !more {
				c.ended()
				return
			}
			c.show(m)
		case text := <-c.notes:
			c.note("%s", text)
		case <-c.timer.C:
			c.waited()
		case <-interrupted:
			interrupted = nil
			c.close(wsd.StatusNormalClosure, "")
		}
		if c.over() {
			c.close(wsd.StatusNormalClosure, "")
		}
	}
}

// take does what the input says.
func (c *conversation) take(i item) {
	switch {
	case i.err != nil && c.interactive:
		c.note("%v", i.err)
	case i.err != nil:
		c.err = i.err
		c.close(wsd.StatusNormalClosure, "")
	case i.command != "":
		c.command(i.command)
	default:
		c.dispatch(i)
	}
}

// dispatch hands an item to the sender.
func (c *conversation) dispatch(i item) {
	c.sending = &i
	c.outbox <- i
}

// send is the sender. It ends with outbox, but for a read of the standard input, which may stay behind until the process ends.
func (c *conversation) send() {
	for i := range c.outbox {
		var err error
		if i.whole != nil {
			t := wsd.TextMessage
			if c.binary {
				t = wsd.BinaryMessage
			}
			w := c.conn.Writer(c.conn.Context(), t, nil)
			_, err = io.Copy(w, i.whole)
			err = errors.Join(err, w.Close())
		} else {
			err = c.conn.Send(c.conn.Context(), i.message)
		}
		c.acks <- err
	}
}

// acknowledge is called when the sender is done with an item.
func (c *conversation) acknowledge(err error) {
	was := c.sending
	c.sending = nil
	switch {
	case err == nil:
		c.sent++
		if c.finished {
			c.timer.Reset(c.wait)
		} else if len(c.texts) > 0 {
			c.timer.Reset(c.Timeout)
		}
	case errors.Is(err, wsd.ErrClosed):
		c.pending = was // Messages tells of the end
	default:
		c.err = err
		c.close(wsd.StatusNormalClosure, "")
	}
}

// show prints what came.
func (c *conversation) show(m wsd.Message) {
	if c.output != nil || c.count > 0 && c.received >= c.count {
		return
	}
	c.received++
	if c.finished {
		c.timer.Reset(c.wait)
	}
	if c.output = c.out.message(m); c.output != nil {
		c.close(wsd.StatusNormalClosure, "")
	}
}

// over reports whether the conversation has come to its end.
func (c *conversation) over() bool {
	switch {
	case c.count > 0 && c.received >= c.count:
		return true
	case !c.finished || c.sending != nil || len(c.first) > 0 || c.limit > 0 || c.count > 0:
		return false
	}
	return c.interactive || c.received >= c.sent
}

// waited is called when the timer has run out.
func (c *conversation) waited() {
	switch {
	case c.finished && c.limit == 0 && c.count == 0 && c.sending == nil && (len(c.texts) == 0 || c.received >= c.sent):
		c.close(wsd.StatusNormalClosure, "")
	case len(c.texts) > 0 && c.received < c.sent && c.limit == 0 && c.count == 0:
		c.err = fmt.Errorf("no answer to -x within %v (-timeout)", c.Timeout)
		c.close(wsd.StatusNormalClosure, "")
	}
}

func (c *conversation) close(code wsd.StatusCode, reason string) {
	c.closing = true
	if err := c.conn.StartClose(code, reason); err != nil && c.err == nil {
		c.err = err
	}
}

// ended looks for what the end of the connection has left undone.
func (c *conversation) ended() {
	if c.sending != nil {
		select {
		case err := <-c.acks:
			c.acknowledge(err)
		case <-c.conn.Closed():
			c.pending = c.sending
		}
	}
	switch {
	case c.err != nil || c.reconnect && !c.closing:
	case len(c.texts) > 0 && (c.received < c.sent || c.pending != nil || len(c.input) > 0) && c.count == 0:
		c.err = errors.New("closed before -x was answered")
	case c.pending != nil && !c.interactive:
		c.err = errors.New("closed before everything was sent")
	}
}
