// ends_test.go holds the table of ends: who began, and what was written, against what CloseEvent tells.

package wsd_test

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// whatWasWritten is how far this side gets with its close frame.
type whatWasWritten int

const (
	written  whatWasWritten = iota // the peer reads everything
	unread                         // the peer reads nothing, and the transport is full
	unwanted                       // there is to be no close frame
)

// endRow is one way in which a connection ends.
type endRow struct {
	begin   func(c *wsd.Conn, p *peer) // begins the end
	answer  func(p *peer)              // what the peer does once it has read the close frame; nil if it does nothing
	written whatWasWritten
	want    wsd.CloseEvent // Err is compared by err
	err     func(t *testing.T, err error)
}

func is(target error) func(*testing.T, error) {
	return func(t *testing.T, err error) { require.ErrorIs(t, err, target) }
}

func closedWith(want wsd.CloseError) func(*testing.T, error) {
	return func(t *testing.T, err error) { require.Equal(t, &want, err) }
}

func protocolError(code wsd.StatusCode) func(*testing.T, error) {
	return func(t *testing.T, err error) {
		violation, ok := err.(*wsd.ProtocolError)
		require.True(t, ok, "%v", err)
		require.Equal(t, code, violation.Code)
	}
}

var (
	closes     = func(c *wsd.Conn, _ *peer) { c.StartClose(4001, "ours") }
	answers    = func(p *peer) { _, _ = p.rwc.Write(p.encode(frame{0x88, closePayload(4001, "")})); p.close() }
	peerCloses = func(_ *wsd.Conn, p *peer) { p.send(frame{0x88, closePayload(4002, "theirs")}) }
	violates   = func(_ *wsd.Conn, p *peer) { p.send(frame{0x83, nil}) }
	hangsUp    = func(_ *wsd.Conn, p *peer) { p.close() }
)

// then is one beginning after another, when the first has had its effect.
func then(first, second func(*wsd.Conn, *peer)) func(*wsd.Conn, *peer) {
	return func(c *wsd.Conn, p *peer) {
		first(c, p)
		synctest.Wait()
		second(c, p)
	}
}

var endTable = map[string]endRow{
	"this side closes, the peer answers": {closes, answers, written,
		wsd.CloseEvent{Code: 4001, Local: true, SentCode: 4001, SentReason: "ours", Clean: true},
		closedWith(wsd.CloseError{Code: 4001, Local: true})},
	"this side closes without a code, the peer answers": {
		func(c *wsd.Conn, _ *peer) { c.StartClose(wsd.StatusNoStatus, "") },
		func(p *peer) { _, _ = p.rwc.Write(p.encode(frame{0x88, nil})); p.close() }, written,
		wsd.CloseEvent{Code: wsd.StatusNoStatus, Local: true, SentCode: wsd.StatusNoStatus, Clean: true},
		closedWith(wsd.CloseError{Code: wsd.StatusNoStatus, Local: true})},
	"this side closes with a code that may not be sent": {
		func(c *wsd.Conn, _ *peer) { c.StartClose(1006, "ours") }, answers, written,
		wsd.CloseEvent{Code: 4001, Local: true, SentCode: wsd.StatusInternalError, Clean: true},
		closedWith(wsd.CloseError{Code: 4001, Local: true})},
	"this side closes, the peer is silent": {closes, nil, written,
		wsd.CloseEvent{Code: wsd.StatusAbnormalClosure, Local: true, SentCode: 4001, SentReason: "ours"}, is(wsd.ErrCloseTimeout)},
	"this side closes, the peer does not read": {closes, nil, unread,
		wsd.CloseEvent{Code: wsd.StatusAbnormalClosure, Local: true}, is(wsd.ErrCloseTimeout)},
	"this side closes, the peer hangs up": {closes, (*peer).close, written,
		wsd.CloseEvent{Code: wsd.StatusAbnormalClosure, Local: true, SentCode: 4001, SentReason: "ours"}, is(io.EOF)},
	"this side closes, the peer violates the protocol": {closes, func(p *peer) { violates(nil, p) }, written,
		wsd.CloseEvent{Code: wsd.StatusProtocolError, Local: true, SentCode: 4001, SentReason: "ours"},
		protocolError(wsd.StatusProtocolError)},
	"CloseNow": {func(c *wsd.Conn, _ *peer) { c.CloseNow() }, nil, unwanted,
		wsd.CloseEvent{Code: wsd.StatusAbnormalClosure, Local: true}, is(net.ErrClosed)},
	"CloseNow behind a Close that is written": {
		func(c *wsd.Conn, p *peer) { closes(c, p); _ = p.receive(); c.CloseNow() }, nil, unwanted,
		wsd.CloseEvent{Code: wsd.StatusAbnormalClosure, Local: true, SentCode: 4001, SentReason: "ours"}, is(net.ErrClosed)},
	"CloseNow behind a Close that is not": {then(closes, func(c *wsd.Conn, _ *peer) { c.CloseNow() }), nil, unread,
		wsd.CloseEvent{Code: wsd.StatusAbnormalClosure, Local: true}, is(net.ErrClosed)},
	"the peer closes": {peerCloses, (*peer).close, written,
		wsd.CloseEvent{Code: 4002, Reason: "theirs", SentCode: 4002, Clean: true}, closedWith(wsd.CloseError{Code: 4002, Reason: "theirs"})},
	"the peer closes without a code": {func(_ *wsd.Conn, p *peer) { p.send(frame{0x88, nil}) }, (*peer).close, written,
		wsd.CloseEvent{Code: wsd.StatusNoStatus, SentCode: wsd.StatusNoStatus, Clean: true}, closedWith(wsd.CloseError{Code: wsd.StatusNoStatus})},
	"the peer closes, and this side too while the consumer may still answer": {
		then(func(c *wsd.Conn, p *peer) { p.send(text("a question")); peerCloses(c, p) }, closes), (*peer).close, written,
		wsd.CloseEvent{Code: 4002, Reason: "theirs", SentCode: 4002, Clean: true}, closedWith(wsd.CloseError{Code: 4002, Reason: "theirs"})},
	"the peer hangs up, and this side closes while the consumer may still answer": {
		then(func(c *wsd.Conn, p *peer) { p.send(text("a question")); p.endsItsDirection() }, closes), nil, written,
		wsd.CloseEvent{Code: wsd.StatusAbnormalClosure, SentCode: 4001, SentReason: "ours"}, is(io.EOF)},
	"the peer violates the protocol, and this side closes while the consumer may still answer": {
		then(func(c *wsd.Conn, p *peer) { p.send(text("a question")); violates(c, p) }, closes), (*peer).close, written,
		wsd.CloseEvent{Code: wsd.StatusProtocolError, Local: true, SentCode: wsd.StatusProtocolError}, protocolError(wsd.StatusProtocolError)},
	"the peer closes, and does not read": {peerCloses, nil, unread,
		wsd.CloseEvent{Code: 4002, Reason: "theirs"}, closedWith(wsd.CloseError{Code: 4002, Reason: "theirs"})},
	"the peer closes, and hangs up": {then(peerCloses, hangsUp), nil, unread,
		wsd.CloseEvent{Code: 4002, Reason: "theirs"}, closedWith(wsd.CloseError{Code: 4002, Reason: "theirs"})},
	"the peer hangs up": {hangsUp, nil, unwanted, wsd.CloseEvent{Code: wsd.StatusAbnormalClosure}, is(io.EOF)},
	"the peer violates the protocol": {violates, (*peer).close, written,
		wsd.CloseEvent{Code: wsd.StatusProtocolError, Local: true, SentCode: wsd.StatusProtocolError}, protocolError(wsd.StatusProtocolError)},
	"the peer violates the protocol, and does not read": {violates, nil, unread,
		wsd.CloseEvent{Code: wsd.StatusProtocolError, Local: true}, protocolError(wsd.StatusProtocolError)},
	"the peer's close frame violates the protocol": {func(_ *wsd.Conn, p *peer) { p.send(frame{0x88, []byte{3}}) }, (*peer).close, written,
		wsd.CloseEvent{Code: wsd.StatusProtocolError, Local: true, SentCode: wsd.StatusProtocolError}, protocolError(wsd.StatusProtocolError)},
	"the consumer is slow": {func(_ *wsd.Conn, p *peer) { p.send(text("1"), text("2")) }, (*peer).close, written,
		wsd.CloseEvent{Code: wsd.StatusPolicyViolation, Local: true, SentCode: wsd.StatusPolicyViolation}, is(wsd.ErrSlowConsumer)},
	"the peer does not read": {func(*wsd.Conn, *peer) { time.Sleep(time.Hour) }, nil, unread,
		wsd.CloseEvent{Code: wsd.StatusAbnormalClosure, Local: true}, is(wsd.ErrWriteTimeout)},
	"the peer does not answer pings": {func(_ *wsd.Conn, p *peer) { _, _, _ = p.reads(0) }, nil, unwanted,
		wsd.CloseEvent{Code: wsd.StatusAbnormalClosure, Local: true}, is(wsd.ErrPongTimeout)},
	"a message in pieces is given up": {abandons, answers, written,
		wsd.CloseEvent{Code: wsd.StatusInternalError, Local: true, SentCode: wsd.StatusInternalError, Clean: true}, is(context.Canceled)},
	"a message in pieces is given up, the peer is silent": {abandons, nil, written,
		wsd.CloseEvent{Code: wsd.StatusInternalError, Local: true, SentCode: wsd.StatusInternalError}, is(context.Canceled)},
	"a large message is cut": {func(c *wsd.Conn, _ *peer) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.Send(ctx, wsd.Binary(make([]byte, 1<<20)))
	}, nil, unwanted, wsd.CloseEvent{Code: wsd.StatusAbnormalClosure, Local: true}, is(context.DeadlineExceeded)},
}

// abandons begins a message that is never completed.
func abandons(c *wsd.Conn, p *peer) {
	ctx, cancel := context.WithCancel(context.Background())
	w := c.Writer(ctx, wsd.BinaryMessage)
	_, _ = io.WriteString(w, "half a message")
	_ = p.receive()
	cancel()
}

func TestEveryEndTellsWhoBeganAndWhatWasWritten(t *testing.T) {
	for name, row := range endTable {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				cfg := wsd.Config{MessageBuffer: 1, SlowConsumer: wsd.CloseSlow, PingInterval: 20 * time.Minute}
				if row.written == unread {
					cfg.SendQueue = -1
				}
				c, p := pair(t, cfg)
				background := ends(t, c, p)
				if row.written == unread {
					queueMany(t, c, 1<<20)
				}
				row.begin(c, p)
				if row.written == written {
					f, _, err := p.reads(0x88)
					require.NoError(t, err)
					require.Equal(t, byte(0x88), f.first)
					if row.answer != nil {
						row.answer(p)
					}
				}
				if row.answer == nil && row.written == written {
					background.Go(func() { _, _ = io.Copy(io.Discard, p.rwc) })
				}
				select {
				case <-c.Closed():
				case <-time.After(2 * time.Hour):
					require.FailNow(t, "it does not end")
				}
				event := c.CloseEvent()
				require.Error(t, event.Err)
				row.err(t, event.Err)
				if code := row.want.Code; code == wsd.StatusProtocolError || code == wsd.StatusPolicyViolation || code == wsd.StatusInternalError {
					require.NotEmpty(t, event.Reason)
					event.Reason = "" // the text is not promised
					if event.SentCode == code {
						require.NotEmpty(t, event.SentReason)
						event.SentReason = ""
					}
				}
				event.Err = nil
				require.Equal(t, row.want, event)
				if err := c.Close(wsd.StatusNormalClosure, ""); row.want.Clean {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, wsd.ErrClosed)
				}
			})
		})
	}
}

// silentReader blocks in Read until it is closed, and fails to write.
type silentReader struct{ closed chan struct{} }

func (s *silentReader) Read([]byte) (int, error) {
	<-s.closed
	return 0, net.ErrClosed
}

func (s *silentReader) Write([]byte) (int, error) { return 0, errBroken }

func (s *silentReader) Close() error {
	close(s.closed)
	return nil
}

// A transport that fails to write has ended by itself, even if only this side's patience shows that nothing is to be read.
func TestFailedWriteIsNotThisSidesBeginning(t *testing.T) {
	c := wsd.NewConn(&silentReader{make(chan struct{})}, wsd.ServerRole, wsd.Config{PingInterval: -1})
	require.NoError(t, c.Send(t.Context(), wsd.Text("x")))
	<-c.Closed()
	event := c.CloseEvent()
	require.ErrorIs(t, event.Err, errBroken)
	event.Err = nil
	require.Equal(t, wsd.CloseEvent{Code: wsd.StatusAbnormalClosure}, event)
}
