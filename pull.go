//go:build !js

// pull.go is a connection that is read by its callers, in the reading call: it has no reader goroutine, answers nothing on
// its own, and its senders write themselves.

package wsd

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/seed62836080/wsd/internal/pulled"
)

// endedWithin is how long what is queued may take to be written after the end.
const endedWithin = 5 * time.Second

func init() {
	pulled.Ask = func(config any) { config.(*Config).pulled = true }
	pulled.Of = func(conn any) pulled.Conn { return newPuller(conn.(*Conn)) }
}

// puller implements pulled.Conn.
type puller struct {
	conn *Conn

	mu    sync.Mutex // guards all below: callers that read at once, which they must not, harm themselves alone and no pool
	rest  []byte     // what has been read and not parsed, in the transport's buffer
	again bool       // the parser may have more without any bytes
}

func newPuller(c *Conn) *puller {
	p := &puller{conn: c}
	if c.agreed != nil {
		p.rest, c.agreed.early = c.agreed.early, nil
	}
	return p
}

func (p *puller) Next(limit, above int64) (pulled.Event, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.conn
	c.reader.takeParser(c.settings)
	parser := c.reader.parser
	parser.setLimit(messageLimit(limit))
	parser.setParts(above)
	for {
		for len(p.rest) > 0 || p.again {
			event, n, err := parser.Parse(p.rest)
			p.took(n)
			p.again = event.Part != WholeMessage
			if err != nil || event.Opcode != OpContinuation {
				return p.found(event, err)
			}
		}
		direct := parser.direct()
		c.transport.ExpectLong(parser.expectsLong())
		b, err := c.transport.Read(direct, true)
		switch {
		case err != nil:
			return p.found(Event{}, err)
		case direct == nil:
			p.rest = b
		default:
			event, err := parser.filled(len(b))
			p.again = event.Part != WholeMessage
			if err != nil || event.Opcode != OpContinuation {
				return p.found(event, err)
			}
		}
	}
}

// took notes that the first n bytes of rest have been parsed.
func (p *puller) took(n int) {
	p.rest = p.rest[n:]
	// A sender that answers looks at this to see whether it will soon have more to answer.
	p.conn.queue.noteLeft(len(p.rest) > 0)
}

// found returns what a call has found. The caller may take its time with that: no memory stays on loan that is not needed.
// Behind an error, and a close frame, nothing is read.
func (p *puller) found(event Event, err error) (pulled.Event, error) {
	if err != nil || event.Opcode == OpClose {
		p.rest = nil
		p.conn.reader.returnParser()
	}
	if len(p.rest) == 0 {
		p.conn.transport.Release()
	}
	return pulled.Event{Opcode: byte(event.Opcode), Code: uint16(event.Code), Part: pulled.Part(event.Part), Data: event.Data}, err
}

func (p *puller) SendControl(ctx context.Context, opcode byte, payload []byte) error {
	c := p.conn
	writeTo, err := c.queue.addControl(opcode, payload)
	if err != nil {
		return c.callError(err)
	}
	if writeTo > 0 {
		c.write(writeTo)
	}
	return c.callError(c.queue.awaitTaken(ctx))
}

func (p *puller) SendClose(ctx context.Context, code uint16, reason string) error {
	c := p.conn
	if checkCloseCode(StatusCode(code), reason) != nil && StatusCode(code) != StatusNoStatus {
		code = uint16(StatusInternalError)
	}
	writeTo, err := c.queue.addLast(appendClosePayload(nil, StatusCode(code), cutReason(reason)))
	if err != nil {
		return c.callError(err)
	}
	if writeTo > 0 {
		c.write(writeTo)
	}
	return c.callError(c.queue.awaitLast(ctx))
}

func (p *puller) SetLevel(level int) {
	if d := p.conn.deflater; d != nil {
		p.conn.deflater = &deflater{d.WithLevel(level), d.threshold}
	}
}

func (p *puller) Compresses() bool { return p.conn.deflater != nil }

func (p *puller) Waits() bool { return !p.conn.transport.CanTry() }

func (p *puller) OnWrite(f func(data bool)) { p.conn.queue.onWrite(f) }

func (p *puller) NetConn() net.Conn {
	switch conn := p.conn.transport.Under().(type) {
	case *bodyConn:
		return conn.Conn
	case net.Conn:
		return conn
	}
	return nil
}

func (p *puller) Failure() error {
	if failed, ok := p.conn.queue.failure().(*causeError); ok {
		return failed.err
	}
	return nil
}

func (p *puller) End() {
	c := p.conn
	if c.queue.takeLast(p.Waits()) {
		p.close()
		return
	}
	c.transport.Rouse(true) // the reading call
	go func() {
		late := time.AfterFunc(endedWithin, c.queue.stop)
		defer late.Stop()
		c.queue.awaitEmpty()
		p.close()
	}()
}

// close closes the transport, and with that ends the writer goroutine, if there is one. If something could not be written,
// nor can TLS say goodbye.
func (p *puller) close() {
	if p.conn.queue.halted() {
		p.conn.transport.Abort()
	} else {
		p.conn.transport.Close()
	}
}
