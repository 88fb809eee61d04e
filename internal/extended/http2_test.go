package extended

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// goneWriter is what net/http's ResponseWriter is once its handler has returned.
type goneWriter struct{ http.ResponseWriter }

func (goneWriter) Write([]byte) (int, error)        { panic("Write called after Handler finished") }
func (goneWriter) SetReadDeadline(time.Time) error  { panic("no stream") }
func (goneWriter) SetWriteDeadline(time.Time) error { panic("no stream") }

func TestAStreamWhoseHandlerHasReturnedFails(t *testing.T) {
	w := goneWriter{httptest.NewRecorder()}
	s := &stream{body: http.NoBody, below: w, control: http.NewResponseController(w)}
	_, err := s.Write([]byte("x"))
	require.ErrorIs(t, err, errReturned)
	require.ErrorIs(t, s.SetDeadline(past), errReturned)
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.SetDeadline(past), net.ErrClosed, "nothing is set behind the end")
}

// stuckWriter has deadlines, and cannot be written.
type stuckWriter struct {
	http.ResponseWriter
	deadlines []time.Time
	err       error
}

func (w *stuckWriter) SetReadDeadline(time.Time) error { return nil }
func (w *stuckWriter) SetWriteDeadline(t time.Time) error {
	w.deadlines = append(w.deadlines, t)
	return w.err
}
func (w *stuckWriter) FlushError() error { return errors.New("stuck") }

func extendedConnect() *http.Request {
	r := httptest.NewRequest(http.MethodConnect, "http://example.com/", nil)
	r.ProtoMajor, r.ProtoMinor, r.Proto = 2, 0, "HTTP/2.0"
	r.Header[ProtocolField] = []string{"websocket"}
	return r
}

func TestAnAnswerThatCannotBeSentResetsTheStream(t *testing.T) {
	w := &stuckWriter{ResponseWriter: httptest.NewRecorder()}
	stream, err := Of(extendedConnect()).Take(w, time.Minute)
	require.EqualError(t, err, "stuck")
	require.Nil(t, stream)
	require.NotErrorIs(t, err, ErrNotHandedOver)
	require.Len(t, w.deadlines, 2)
	require.Equal(t, past, w.deadlines[1])
}

func TestAWriterWithoutDeadlinesHandsNothingOver(t *testing.T) {
	w := &stuckWriter{ResponseWriter: httptest.NewRecorder(), err: http.ErrNotSupported}
	_, err := Of(extendedConnect()).Take(w, 0)
	require.ErrorIs(t, err, ErrNotHandedOver)
	require.ErrorIs(t, err, http.ErrNotSupported)
}

// loopWriter claims to be below itself.
type loopWriter struct{ http.ResponseWriter }

func (w loopWriter) Unwrap() http.ResponseWriter { return w }

func TestAWriterBelowItselfEndsTheSearch(t *testing.T) {
	require.NotNil(t, innermost(loopWriter{}))
}

func TestAddresses(t *testing.T) {
	r := extendedConnect()
	_, remote := addresses(r)
	require.Equal(t, r.RemoteAddr, remote.String())
	r = r.WithContext(t.Context())
	r.RemoteAddr = "@"
	local, remote := addresses(r)
	require.Nil(t, local)
	require.Nil(t, remote)
}
