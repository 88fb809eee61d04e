// conformance_test.go has the conformance suite judge a server over HTTP/3, through a gateway: the suite speaks HTTP/1.1 with
// it, and frames pass through streams. Handshakes over HTTP/1.1 are no part of that.

package h3_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/conformance/suite"
)

// patient is for peers on a slow machine.
var patient = suite.Options{Parallel: 8, Timeout: 15 * time.Second}

// casesOfFrames are those behind the handshake, with short compression cases, and without messages of 16 MiB, which say
// nothing more here and take their time under the race detector.
func casesOfFrames(role suite.Role) (cases []suite.Case) {
	for _, c := range suite.Select(suite.Cases(suite.Load{Messages: 10, Bytes: 4 << 10}), role, nil) {
		if c.Topic != suite.Topics()[0] && !strings.Contains(c.Name, "16777216") {
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

// halfCloser is a way that has two directions.
type halfCloser interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// bridge copies both ways. The end of one is the end of the other; what is reset on one side is reset on the other.
func bridge(tcp *net.TCPConn, early io.Reader, stream halfCloser) {
	var both sync.WaitGroup
	both.Go(func() {
		_, err := io.Copy(stream, early)
		if err == nil {
			err = stream.CloseWrite()
		}
		if err != nil {
			_ = tcp.CloseRead()
		}
	})
	both.Go(func() {
		_, err := io.Copy(tcp, stream)
		if err != nil {
			_ = tcp.SetLinger(0)
			_ = tcp.Close()
			return
		}
		_ = tcp.CloseWrite()
	})
	both.Wait()
	_ = stream.Close()
	_ = tcp.Close()
}

// gateway passes handshakes of HTTP/1.1 on to a transport, whose server is at host.
func gateway(t *testing.T, host string, transport http.RoundTripper) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var passing sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		passing.Wait()
	})
	passing.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { pass(conn.(*net.TCPConn), host, transport) })
		}
	})
	return "ws://" + listener.Addr().String()
}

// pass passes one connection on.
func pass(conn *net.TCPConn, host string, transport http.RoundTripper) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	req.URL.Scheme, req.URL.Host, req.Host, req.Body = "https", host, host, nil
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return
	}
	stream, ok := resp.Body.(halfCloser)
	if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Proto, resp.ProtoMajor, resp.ProtoMinor, resp.Close = "HTTP/1.1", 1, 1, true
		_ = resp.Write(conn)
		_ = resp.Body.Close()
		return
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n")
	_ = resp.Header.Write(conn)
	_, _ = io.WriteString(conn, "\r\n")
	bridge(conn, in, stream)
}

func TestTheSuiteJudgesServersOverHTTP3(t *testing.T) {
	ws := &wsd.Server{Handler: echoAll, AcceptOptions: wsd.AcceptOptions{Config: wsd.Config{Compression: &wsd.Compression{}}}}
	url, opts := serve(t, ws, nil)
	through := gateway(t, strings.TrimPrefix(url, "wss://"), opts.HTTPClient.Transport)
	results, err := suite.JudgeServer(t.Context(), through, casesOfFrames(suite.Server), &patient)
	require.NoError(t, err)
	requireAllPassed(t, results)
	require.NoError(t, ws.Shutdown(t.Context()))
}
