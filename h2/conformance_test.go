// conformance_test.go has the conformance suite judge servers and clients over HTTP/2. Handshakes over HTTP/1.1 are no part
// of that.

package h2_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/conformance/suite"
	"github.com/seed62836080/wsd/h2"
	"github.com/seed62836080/wsd/internal/streamtest"
)

// patient is for peers on a slow machine.
var patient = suite.Options{Parallel: 8, Timeout: 15 * time.Second}

var compressing = wsd.Config{Compression: &wsd.Compression{}}

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

func TestTheSuiteJudgesServersOverHTTP2(t *testing.T) {
	ws := &wsd.Server{Handler: streamtest.EchoAll, AcceptOptions: wsd.AcceptOptions{Config: compressing}}
	s := serve(t, true, ws)
	judging := patient
	judging.Transport = s.transport
	results, err := suite.JudgeServer(t.Context(), s.url, casesOfFrames(suite.Server), &judging)
	require.NoError(t, err)
	requireAllPassed(t, results)
	require.NoError(t, ws.Shutdown(t.Context()))
}

func TestTheSuiteJudgesClientsOverHTTP2(t *testing.T) {
	certificates := httptest.NewUnstartedServer(nil)
	certificates.StartTLS()
	certificates.Close()
	config := certificates.TLS.Clone()
	config.NextProtos = []string{"h2"}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	require.NoError(t, err)
	requests := new(suite.Requests)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { serveFramed(conn, requests) })
		}
	})
	transport := &h2.Transport{Base: &http.Transport{TLSClientConfig: certificates.Client().Transport.(*http.Transport).TLSClientConfig}}
	opts := &wsd.DialOptions{Config: compressing, HTTPClient: &http.Client{Transport: transport}}
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range patient.Parallel {
		clients.Go(func() {
			for ctx.Err() == nil {
				if conn, _, err := wsd.Dial(ctx, "wss://"+listener.Addr().String(), opts); err == nil {
					streamtest.EchoAll(conn)
					<-conn.Closed()
				}
			}
		})
	}
	results, err := suite.JudgeClients(t.Context(), requests, casesOfFrames(suite.Client), &patient)
	cancel()
	clients.Wait()
	require.NoError(t, transport.Close())
	require.NoError(t, listener.Close())
	serving.Wait()
	require.NoError(t, err)
	requireAllPassed(t, results)
}
