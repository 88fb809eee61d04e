// conformance_test.go has the conformance suite judge servers and clients over HTTP/2, through a gateway: the suite speaks
// HTTP/1.1 with it, and frames pass through streams. Handshakes over HTTP/1.1 are no part of that.

package h2_test

import (
	"bufio"
	"context"
	"io"
	"net"
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
)

// patient is for peers on a slow machine.
var patient = suite.Options{Parallel: 8, Timeout: 15 * time.Second}

var compressing = wsd.Config{Compression: &wsd.Compression{}}

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

func TestTheSuiteJudgesServersOverHTTP2(t *testing.T) {
	ws := &wsd.Server{Handler: echoAll, AcceptOptions: wsd.AcceptOptions{Config: compressing}}
	s := serve(t, true, ws)
	url := gateway(t, s.Listener.Addr().String(), s.transport)
	results, err := suite.JudgeServer(t.Context(), url, casesOfFrames(suite.Server), &patient)
	require.NoError(t, err)
	requireAllPassed(t, results)
	require.NoError(t, ws.Shutdown(t.Context()))
}

// flushing sends what is written at once.
type flushing struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (f flushing) Write(b []byte) (int, error) {
	n, err := f.ResponseWriter.Write(b)
	if err == nil {
		err = f.control.Flush()
	}
	return n, err
}

func TestTheSuiteJudgesClientsOverHTTP2(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		passOn(w, r, listener.Addr().String())
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	transport := &h2.Transport{Base: &http.Transport{TLSClientConfig: server.Client().Transport.(*http.Transport).TLSClientConfig}}
	opts := &wsd.DialOptions{Config: compressing, HTTPClient: &http.Client{Transport: transport}}
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range patient.Parallel {
		clients.Go(func() {
			for ctx.Err() == nil {
				if conn, _, err := wsd.Dial(ctx, server.URL, opts); err == nil {
					echoAll(conn)
					<-conn.Closed()
				}
			}
		})
	}
	// Behind END_STREAM net/http takes nothing any more, so the answers that some cases expect would not reach them.
	cases := slices.DeleteFunc(casesOfFrames(suite.Client), func(c suite.Case) bool {
		return strings.HasPrefix(c.Name, "the suite's direction ends")
	})
	results, err := suite.JudgeClients(t.Context(), listener, cases, &patient)
	cancel()
	clients.Wait()
	require.NoError(t, transport.Close())
	require.NoError(t, err)
	requireAllPassed(t, results)
}

// passOn passes an extended CONNECT on to the suite as a request of HTTP/1.1.
func passOn(w http.ResponseWriter, r *http.Request, suiteAt string) {
	conn, err := net.Dial("tcp", suiteAt)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer func() { _ = conn.Close() }()
	delete(r.Header, ":protocol")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: suite\r\n")
	_ = r.Header.Write(conn)
	_, _ = io.WriteString(conn, "\r\n")
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		w.WriteHeader(resp.StatusCode)
		return
	}
	for _, name := range []string{"Sec-Websocket-Extensions", "Sec-Websocket-Protocol"} {
		if v := resp.Header[name]; len(v) > 0 {
			w.Header()[name] = v
		}
	}
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	_ = control.Flush()
	go func() { // END_STREAM and RST_STREAM of the client
		if _, err := io.Copy(conn, r.Body); err != nil {
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
			return
		}
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	if _, err := io.Copy(flushing{w, control}, in); err != nil {
		panic(http.ErrAbortHandler)
	}
}
