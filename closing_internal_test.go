// closing_internal_test.go checks what of an end only a moment decides.

package wsd

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/clock"
)

// A consumer that has learned of the end answers nothing more, even if it learned of it before anybody waited for that.
func TestNobodyWaitsForAConsumerThatKnowsOfTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(Config{}, false)
		q.answers.delivered.Add(1)
		q.answers.noteEndTold()
		start := time.Now()
		q.awaitAnswers(clock.Now(), graceMost)
		require.Equal(t, start, time.Now())
	})
}

// newEnding returns the end of a connection that nobody reads or writes, and the causes with which it was cut short.
func newEnding(closeTimeout time.Duration) (e *ending, aborted chan error) {
	aborted = make(chan error, 4)
	c := newPlainConn(cutShort(func() { aborted <- e.closeEvent().Err }), ServerRole, &Config{CloseTimeout: closeTimeout}, &agreement{})
	c.queue.startWriter = func() {}
	return &c.ending, aborted
}

// cutShort is a transport that is not used, and told when it is cut short.
type cutShort func()

func (f cutShort) SetDeadline(time.Time) error { f(); return nil }
func (cutShort) Read([]byte) (int, error)      { return 0, io.EOF }
func (cutShort) Write([]byte) (int, error)     { return 0, io.EOF }
func (cutShort) Close() error                  { return nil }

// The answer to the close frame may be read in the moment in which this side gives up.
func TestEndIsNotCleanWhereTheAnswerIsReadTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := newEnding(time.Second)
		e.queueClose(4001, "", nil)
		e.closeWritten()
		time.Sleep(time.Minute)
		e.peerClosed(4001, "")
		e.complete(ErrCloseTimeout)
		require.Equal(t, CloseEvent{Code: StatusAbnormalClosure, Local: true, SentCode: 4001, Err: ErrCloseTimeout}, e.closeEvent())
	})
}

// What the peer began stays that, if the consumer closes in the same moment.
func TestCloseBesideThePeersCloseFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := newEnding(time.Second)
		e.peerClosed(4002, "theirs")
		e.queueClose(4001, "ours", nil)
		e.closeWritten()
		e.complete(e.enterRefusing())
		require.Equal(t, CloseEvent{Code: 4002, Reason: "theirs", SentCode: 4002, Clean: true,
			Err: &CloseError{Code: 4002, Reason: "theirs"}}, e.closeEvent())
	})
}

func TestChannelsThatAreMadeAfterTheEnd(t *testing.T) {
	e, _ := newEnding(time.Second)
	e.cause(CloseEvent{Code: StatusAbnormalClosure, Err: ErrPongTimeout})
	e.complete(ErrPongTimeout)
	e.announce(ErrPongTimeout)
	select {
	case <-e.closedChannel():
	default:
		require.Fail(t, "Closed is not closed")
	}
	require.ErrorIs(t, context.Cause(e.context()), ErrPongTimeout)
	clean, _ := newEnding(time.Second)
	clean.queueClose(1000, "", nil)
	clean.closeWritten()
	clean.peerClosed(1000, "")
	cause := clean.enterRefusing()
	clean.complete(cause)
	clean.announce(cause)
	select {
	case err, ok := <-clean.errorChannel():
		require.False(t, ok, "%v", err)
	default:
		require.Fail(t, "Errors is not closed")
	}
}

// Behind a failed write the reader has a moment to find the peer's close frame, and no more than that.
func TestLookBehindAFailedWriteEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, aborted := newEnding(-1)
		e.writeFailed(io.ErrClosedPipe)
		time.Sleep(writeFailedGrace - 1)
		require.Empty(t, aborted)
		require.Equal(t, io.ErrClosedPipe, <-aborted)
		require.False(t, e.closeEvent().Local)
	})
}

// A look whose timer runs late says that this process was stopped, and the close frame may be there, unread.
func TestLookThatEndsLateIsTakenOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, aborted := newEnding(-1)
		e.writeFailed(io.ErrClosedPipe)
		e.mu.Lock()
		e.course.lookDue.In(writeFailedGrace / 2) // as if it had been to run by then
		e.mu.Unlock()
		time.Sleep(writeFailedGrace * 3 / 2)
		require.Empty(t, aborted)
		time.Sleep(writeFailedGrace)
		require.Len(t, aborted, 1, "once")
		require.Equal(t, io.ErrClosedPipe, <-aborted)
	})
}

// A timer that runs late says that this process was stopped: the answer may be there, unread.
func TestCloseTimeoutThatRunsLateLooksOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, aborted := newEnding(time.Second)
		e.queueClose(4001, "", nil)
		defer func() { e.course.timer.Stop() }()
		e.mu.Lock()
		e.course.due.In(e.within() / 2) // as if it had been to run by then
		e.mu.Unlock()
		time.Sleep(e.within() * 3 / 2)
		require.Empty(t, aborted)
		time.Sleep(e.within())
		require.Len(t, aborted, 1, "once")
		require.Equal(t, ErrCloseTimeout, <-aborted)
	})
}
