// closing_internal_test.go checks what of an end only a moment decides.

package wsd

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/clock"
	"github.com/seed62836080/wsd/internal/netio"
)

// A consumer that has learned of the end answers nothing more, even if it learned of it before anybody waited for that.
func TestNobodyWaitsForAConsumerThatKnowsOfTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a answers
		q, _ := newQueue(Config{}, false)
		a.delivered.Add(1)
		a.noteEndTold()
		start := time.Now()
		a.await(q, clock.Now(), graceMost)
		require.Equal(t, start, time.Now())
	})
}

// newEnding returns the end of a connection that has not begun, and the causes with which it was cut short.
func newEnding() (e *ending, aborted *[]error) {
	q, _ := newQueue(Config{}, false)
	aborted = new([]error)
	e = &ending{queue: q, transport: new(netio.Transport), within: time.Second}
	e.transport.Init(struct{ io.ReadWriteCloser }{})
	e.abort = func(cause error) {
		e.cause(CloseEvent{Code: StatusAbnormalClosure, Err: cause, Local: true})
		*aborted = append(*aborted, cause)
	}
	return e, aborted
}

// The answer to the close frame may be read in the moment in which this side gives up.
func TestEndIsNotCleanWhereTheAnswerIsReadTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := newEnding()
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
		e, _ := newEnding()
		e.peerClosed(4002, "theirs")
		e.queueClose(4001, "ours", nil)
		e.closeWritten()
		e.complete(e.enterRefusing())
		require.Equal(t, CloseEvent{Code: 4002, Reason: "theirs", SentCode: 4002, Clean: true,
			Err: &CloseError{Code: 4002, Reason: "theirs"}}, e.closeEvent())
	})
}
