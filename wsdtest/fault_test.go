// fault_test.go checks that the faulty transport breaks what it promises to break, and nothing else.

package wsdtest_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/wiretest"
	"github.com/seed62836080/wsd/wsdtest"
)

// faultyPair returns a faulty end and the sound one that it is connected to.
func faultyPair(faults wsdtest.Faults) (*wsdtest.FaultyTransport, *wsdtest.End) {
	a, b := wsdtest.Transport()
	return wsdtest.Faulty(a, faults), b
}

// sample is 1,000 bytes no two neighbours of which are the same.
var sample = bytes.Repeat([]byte("0123456789"), 100)

func TestNoFaults(t *testing.T) {
	f, other := faultyPair(wsdtest.Faults{})
	_, err := other.Write(sample)
	require.NoError(t, err)
	require.NoError(t, other.CloseWrite())
	require.NoError(t, iotest.TestReader(f, sample))
	n, err := f.Write(sample)
	require.NoError(t, err)
	require.Equal(t, len(sample), n)
	require.NoError(t, f.CloseWrite())
	require.NoError(t, iotest.TestReader(other, sample))
	require.NoError(t, f.Close())
	_, err = f.Read(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = f.Write(sample)
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, f.Close(), "again")
}

// calls counts the calls that reach a transport, and how much each is for.
type calls struct {
	io.ReadWriteCloser
	sizes []int
}

func (c *calls) Write(p []byte) (int, error) {
	c.sizes = append(c.sizes, len(p))
	return len(p), nil
}

func TestShortReadsAndWritesAreTheSeeds(t *testing.T) {
	pieces := func(seed uint64) (reads, writes []int) {
		a, other := wsdtest.Transport()
		below := &calls{ReadWriteCloser: a}
		f := wsdtest.Faulty(below, wsdtest.Faults{Seed: seed, MaxRead: 7, MaxWrite: 5})
		_, err := f.Write(sample)
		require.NoError(t, err)
		_, err = other.Write(sample)
		require.NoError(t, err)
		var got []byte
		for len(got) < len(sample) {
			b := make([]byte, 100)
			n, err := f.Read(b)
			require.NoError(t, err)
			got = append(got, b[:n]...)
			reads = append(reads, n)
		}
		require.Equal(t, sample, got)
		return reads, below.sizes
	}
	reads, writes := pieces(1)
	for _, size := range []int{1, 5} {
		require.Contains(t, reads, size)
		require.Contains(t, writes, size)
	}
	for _, n := range reads {
		require.LessOrEqual(t, n, 7)
	}
	for _, n := range writes {
		require.LessOrEqual(t, n, 5)
	}
	again, writesAgain := pieces(1)
	require.Equal(t, reads, again)
	require.Equal(t, writes, writesAgain)
	other, _ := pieces(2)
	require.NotEqual(t, reads, other)
}

func TestBreaksAtEveryByte(t *testing.T) {
	for _, kind := range []wsdtest.BreakKind{wsdtest.Cut, wsdtest.Reset, wsdtest.Stall, wsdtest.Dead} {
		t.Run(kind.String(), func(t *testing.T) {
			for after := range 20 {
				synctest.Test(t, func(t *testing.T) {
					at := wsdtest.Break{Kind: kind, After: int64(after), For: time.Minute}
					f, other := faultyPair(wsdtest.Faults{Read: at})
					_, err := other.Write(sample[:20])
					require.NoError(t, err)
					got, err := readUntil(t, f, 20)
					switch kind {
					case wsdtest.Cut:
						require.Equal(t, io.EOF, err)
					case wsdtest.Reset:
						require.ErrorIs(t, err, syscall.ECONNRESET)
						_, err = other.Write(sample)
						require.Error(t, err, "the other end is told")
					case wsdtest.Dead:
						require.ErrorIs(t, err, errWaits)
					}
					if kind == wsdtest.Stall {
						require.Equal(t, sample[:20], got)
					} else {
						require.Equal(t, string(sample[:after]), string(got))
					}
					require.NoError(t, errors.Join(f.Close(), other.Close()))

					f, other = faultyPair(wsdtest.Faults{Write: at, MaxWrite: 3})
					start := time.Now()
					n, err := f.Write(sample[:20])
					switch kind {
					case wsdtest.Cut:
						require.ErrorIs(t, err, io.ErrClosedPipe)
					case wsdtest.Reset:
						require.Equal(t, wsdtest.ErrReset, err)
					default:
						require.NoError(t, err)
						require.Equal(t, 20, n)
					}
					if kind == wsdtest.Stall {
						require.Equal(t, time.Minute, time.Since(start), "it goes on after that")
						after = 20
					}
					got, err = readUntil(t, other, 20)
					require.Equal(t, string(sample[:after]), string(got))
					if kind == wsdtest.Cut || kind == wsdtest.Reset {
						require.Equal(t, after, n)
						require.Equal(t, io.EOF, err)
						_, err = f.Write(sample)
						require.Error(t, err, "and from then on")
					}
					require.NoError(t, errors.Join(f.Close(), other.Close()))
				})
			}
		})
	}
}

var errWaits = errors.New("waits")

// readUntil reads size bytes, as far as they come within an hour of the bubble's time.
func readUntil(t *testing.T, r io.ReadWriteCloser, size int) (got []byte, err error) {
	t.Helper()
	guard := time.AfterFunc(time.Hour, func() { _ = r.Close() })
	defer guard.Stop()
	for len(got) < size {
		b := make([]byte, size-len(got))
		start := time.Now()
		n, err := r.Read(b)
		got = append(got, b[:n]...)
		if time.Since(start) == time.Hour {
			return got, errWaits
		}
		if err != nil {
			return got, err
		}
	}
	return got, nil
}

func TestDeadDirectionFillsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, other := faultyPair(wsdtest.Faults{Write: wsdtest.Break{Kind: wsdtest.Dead, After: 10}})
		for range 64 {
			_, err := f.Write(make([]byte, 1<<10))
			require.NoError(t, err)
		}
		waits := make(chan error, 1)
		go func() {
			_, err := f.Write(make([]byte, 1<<10))
			waits <- err
		}()
		synctest.Wait()
		require.Empty(t, waits)
		// The other direction is alive.
		_, err := other.Write(sample)
		require.NoError(t, err)
		_, err = io.ReadFull(f, make([]byte, len(sample)))
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.ErrorIs(t, <-waits, net.ErrClosed)
		got, err := io.ReadAll(other)
		require.NoError(t, err)
		require.Len(t, got, 10)
	})
}

func TestDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, other := faultyPair(wsdtest.Faults{Delay: time.Second, DelayOneIn: 10})
		delayed, longest := 0, time.Duration(0)
		for range 1000 {
			start := time.Now()
			_, err := f.Write([]byte("x"))
			require.NoError(t, err)
			if took := time.Since(start); took > 0 {
				delayed++
				longest = max(longest, took)
			}
		}
		require.InDelta(t, 100, delayed, 50, "one call in ten")
		require.LessOrEqual(t, longest, time.Second)
		require.Greater(t, longest, time.Second/2)
		require.NoError(t, other.Close())
		require.NoError(t, f.Close())

		// Close ends a call that is delayed.
		f, other = faultyPair(wsdtest.Faults{Delay: 1000 * time.Hour})
		failed := make(chan error, 1)
		start := time.Now()
		go func() {
			_, err := f.Read(make([]byte, 1))
			failed <- err
		}()
		synctest.Wait()
		require.NoError(t, f.Close())
		require.ErrorIs(t, <-failed, net.ErrClosed)
		require.Zero(t, time.Since(start))
		require.NoError(t, other.Close())
	})
}

func TestDeadlinesArePassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, other := faultyPair(wsdtest.Faults{})
		require.NoError(t, f.SetDeadline(time.Now().Add(time.Second)))
		_, err := f.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, errors.Join(f.Close(), other.Close()))
	})
	f := wsdtest.Faulty(&calls{}, wsdtest.Faults{})
	require.ErrorIs(t, f.SetDeadline(time.Now()), os.ErrNoDeadline)
	require.ErrorIs(t, f.CloseWrite(), errors.ErrUnsupported)
}

func TestResetOfATCPConnection(t *testing.T) {
	dialed, accepted := wiretest.Pair(t, "tcp")
	f := wsdtest.Faulty(dialed, wsdtest.Faults{Write: wsdtest.Break{Kind: wsdtest.Reset, After: 3}})
	_, err := f.Write(sample)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	_, err = io.ReadAll(accepted)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

// TestConnectionCutAtEveryByte cuts a short conversation at each of its bytes, and finds all messages that were whole
// before the cut, none after it, and an end that is reported.
func TestConnectionCutAtEveryByte(t *testing.T) {
	whole := []string{"first", strings.Repeat("second ", 30), "third"}
	var ends []int64 // of the frames of a server
	var end int64
	for _, m := range whole {
		end += 2 + int64(len(m))
		if len(m) > 125 {
			end += 2
		}
		ends = append(ends, end)
	}
	for after := range end + 1 {
		synctest.Test(t, func(t *testing.T) {
			a, b := wsdtest.Transport()
			client := wsd.NewConn(wsdtest.Faulty(a, wsdtest.Faults{
				Read: wsdtest.Break{Kind: wsdtest.Cut, After: after},
			}), wsd.ClientRole, wsd.Config{})
			server := wsd.NewConn(b, wsd.ServerRole, wsd.Config{})
			for _, m := range whole {
				if server.Send(t.Context(), wsd.Text(m)) != nil {
					break // the cut has been told already
				}
			}
			var got []string
			for m := range client.Messages() {
				got = append(got, string(m.Data))
			}
			var want []string
			for i, m := range whole {
				if ends[i] <= after {
					want = append(want, m)
				}
			}
			require.Equal(t, want, got)
			require.ErrorIs(t, <-client.Errors(), io.EOF)
			<-client.Closed()
			require.False(t, client.CloseEvent().Clean)
			<-server.Closed()
		})
	}
}

// A Break at or before the first byte does not affect a Read into an empty slice.
func TestReadWithoutRoom(t *testing.T) {
	for _, after := range []int64{0, -1} {
		for _, kind := range []wsdtest.BreakKind{wsdtest.Cut, wsdtest.Reset, wsdtest.Stall, wsdtest.Dead} {
			f, other := faultyPair(wsdtest.Faults{MaxRead: 1, Read: wsdtest.Break{Kind: kind, After: after}})
			n, err := f.Read(nil)
			require.NoError(t, err)
			require.Zero(t, n)
			require.NoError(t, f.Close())
			require.NoError(t, other.Close())
		}
	}
}
