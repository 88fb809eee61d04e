// conformance_test.go has the conformance suite judge servers and clients over HTTP/3. Handshakes over HTTP/1.1 are no part
// of that.

package h3_test

import (
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/conformance/suite"
	"github.com/seed62836080/wsd/internal/streamtest"
)

// patient is for peers on a slow machine.
var patient = suite.Options{Parallel: 8, Timeout: 15 * time.Second}

// casesOfFrames are those behind the handshake in which the way of the bytes can matter, with short compression cases, and
// without messages of 16 MiB, which take their time under the race detector.
func casesOfFrames(role suite.Role) (cases []suite.Case) {
	for _, c := range suite.Select(suite.Cases(suite.Load{Messages: 10, Bytes: 4 << 10}), role, nil) {
		if !slices.Contains([]string{"handshake", "utf-8", "compression handshake"}, c.Topic) && !strings.Contains(c.Name, "16777216") {
			cases = append(cases, c)
		}
	}
	return cases
}

func requireAllPassed(t *testing.T, results []suite.Result) {
	t.Helper()
	for _, r := range results {
		if r.Verdict == suite.Failed || r.Verdict == suite.NotRun {
			t.Errorf("%s: %s: %s (%s): %s", r.Verdict, r.Case, r.Name, r.Section, r.Detail)
		}
	}
	_, all := suite.Tallies(results)
	require.Greater(t, all.Passed, 100)
	t.Logf("%d passed, %d not applicable", all.Passed, all.NotApplicable)
}

func TestTheSuiteJudgesServersOverHTTP3(t *testing.T) {
	ws := &wsd.Server{Handler: streamtest.EchoAll, AcceptOptions: wsd.AcceptOptions{Config: wsd.Config{Compression: &wsd.Compression{}}}}
	url, opts := serve(t, ws, nil)
	judging := patient
	judging.Transport = opts.HTTPClient.Transport
	results, err := suite.JudgeServer(t.Context(), url, casesOfFrames(suite.Server), &judging)
	require.NoError(t, err)
	requireAllPassed(t, results)
	require.NoError(t, ws.Shutdown(t.Context()))
}

// judging is a stream of a client that the suite judges.
type judging struct {
	*http3.Stream
	writing sync.Mutex // held by Write, beside which quic-go permits no Close
}

func (s *judging) Write(b []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.Stream.Write(b)
}

func (s *judging) CloseWrite() error { return s.Stream.Close() }

// Close ends what is sent, and has a client that has not ended its bytes stop.
func (s *judging) Close() error {
	s.CancelRead(quic.StreamErrorCode(http3.ErrCodeNoError))
	_ = s.SetWriteDeadline(past)
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.Stream.Close()
}

// past is a deadline that ends what waits.
var past = time.Unix(1, 0)

func TestTheSuiteJudgesClientsOverHTTP3(t *testing.T) {
	requests := new(suite.Requests)
	url, opts := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Serve(r, func(status int, header http.Header) (io.ReadWriteCloser, error) {
			maps.Copy(w.Header(), header)
			w.WriteHeader(status)
			if status != http.StatusOK {
				return nil, nil
			}
			stream, err := w.(http3.HTTPStreamer).HTTPStream()
			return &judging{Stream: stream}, err
		})
	}), nil)
	opts.Compression = &wsd.Compression{}
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range patient.Parallel {
		clients.Go(func() {
			for ctx.Err() == nil {
				if conn, _, err := wsd.Dial(ctx, url, opts); err == nil {
					streamtest.EchoAll(conn)
					<-conn.Closed()
				}
			}
		})
	}
	results, err := suite.JudgeClients(t.Context(), requests, casesOfFrames(suite.Client), &patient)
	cancel()
	clients.Wait()
	require.NoError(t, err)
	requireAllPassed(t, results)
}
