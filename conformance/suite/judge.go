// The two runs: one dials the server under test for each case, the other is the server that clients under test connect
// to, one case per connection.

package suite

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// JudgeServer tries the cases on the server at a ws, wss, http or https URL, which must echo every message with its type.
// It returns the results in the order of the cases.
//
// An error without results says that the server cannot be judged: the URL is none, or nothing answers there. Once ctx is
// done, connections are cut, and the error is the context's; cases that had not ended until then are NotRun.
func JudgeServer(ctx context.Context, rawURL string, cases []Case, o *Options) ([]Result, error) {
	opts := o.orDefaults()
	s, err := parseEndpoint(rawURL, opts)
	if err != nil {
		return nil, err
	}
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("the server cannot be reached: %w", err)
	}
	conn.Close()

	ended := make(chan numbered)
	var next atomic.Int64 // the number of the next case
	var players sync.WaitGroup
	for range opts.Parallel {
		players.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(cases) {
					return
				}
				began := time.Now()
				note, err := s.play(ctx, cases[i])
				ended <- numbered{i, cases[i].judged(ctx, Server, err, note, time.Since(began))}
			}
		})
	}
	go func() {
		players.Wait()
		close(ended)
	}()
	results := gather(cases, Server, opts, ended, func() {}, "the run was ended")
	return results, context.Cause(ctx)
}

// JudgeClients gives each client that connects to the listener the next of the cases, until all have ended, and returns
// the results in the order of the cases. Clients must connect again and again, and echo every message with its type until
// their connection ends. A connection for which no case is left is refused with 410. JudgeClients closes the listener, which
// may be [Requests].
//
// Once ctx is done, connections are cut, and the error is the context's; cases for which no client came are NotRun.
func JudgeClients(ctx context.Context, l net.Listener, cases []Case, o *Options) ([]Result, error) {
	opts := o.orDefaults()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var refused error // set before ended is closed
	ended := make(chan numbered)
	go func() {
		defer close(ended)
		var next atomic.Int64 // the number of the next case
		var connections sync.WaitGroup
		defer connections.Wait()
		limit := make(chan struct{}, opts.Parallel)
		for {
			limit <- struct{}{}
			conn, err := l.Accept()
			if err != nil {
				refused = err
				return
			}
			connections.Go(func() {
				defer func() { <-limit }()
				began := time.Now()
				s := newSession(ctx, conn, Client, opts.Timeout)
				defer s.shut()
				if s.awaitRequest() != nil { // no case is spent on a connection that asks for nothing
					return
				}
				i := int(next.Add(1)) - 1
				if i >= len(cases) {
					s.send(headBytes("HTTP/1.1 410 Gone", fields{{"Content-Length", "0"}, {"Connection", "close"}}), 0)
					s.halfClose()
					s.endOfStream("")
					return
				}
				err := s.playClient(cases[i])
				ended <- numbered{i, cases[i].judged(ctx, Client, err, s.note, time.Since(began))}
			})
		}
	}()
	allEnded := false
	results := gather(cases, Client, opts, ended, func() { allEnded = true; l.Close() }, "no client came")
	switch {
	case allEnded:
		return results, nil
	case ctx.Err() != nil:
		return results, context.Cause(ctx)
	}
	return results, fmt.Errorf("no further client can be accepted: %w", refused)
}

// A numbered result knows its case's place in the run.
type numbered struct {
	at     int
	result Result
}

// gather takes results as they come until ended is closed, and calls all once there is one for every case. Cases without
// a result are not run, for the reason why.
func gather(cases []Case, role Role, o Options, ended <-chan numbered, all func(), why string) []Result {
	results := make([]Result, len(cases))
	missing := len(cases)
	if missing == 0 {
		all()
	}
	for e := range ended {
		results[e.at] = e.result
		o.Ended(e.result)
		if missing--; missing == 0 {
			all()
		}
	}
	for i, c := range cases {
		if results[i].Verdict == "" {
			results[i] = c.result(role, NotRun, why)
			o.Ended(results[i])
		}
	}
	return results
}

func (c Case) result(role Role, v Verdict, detail string) Result {
	return Result{Case: c.ID, Topic: c.Topic, Name: c.Name, Section: c.Section, Role: role, Verdict: v, Detail: detail}
}

// judged makes a result of what playing a case returned.
func (c Case) judged(ctx context.Context, role Role, err error, note string, took time.Duration) Result {
	r := c.result(role, Passed, "")
	r.Note, r.Took = note, took
	if err == nil {
		return r
	}
	r.Verdict, r.Detail = Failed, err.Error()
	switch {
	case ctx.Err() != nil:
		r.Verdict, r.Detail = NotRun, "the run was ended"
	case errors.Is(err, errNotApplicable):
		r.Verdict = NotApplicable
	case errors.Is(err, errUnreachable):
		r.Verdict = NotRun
	}
	return r
}

// errUnreachable is wrapped by the error of a case for which no connection to the server came about.
var errUnreachable = errors.New("the server cannot be reached")

// An endpoint is a server under test. Cases that do no opening handshake of their own see nothing of it but the session
// that connect returns, so what they try does not depend on how the stream below them came about.
type endpoint struct {
	address, target, host string
	tls                   *tls.Config // nil: no TLS
	timeout               time.Duration
	url                   *url.URL
	transport             http.RoundTripper // nil: HTTP/1.1 over TCP
}

func parseEndpoint(rawURL string, o Options) (endpoint, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return endpoint{}, err
	}
	port, known := map[string]string{"ws": "80", "http": "80", "wss": "443", "https": "443"}[u.Scheme]
	if !known || u.Hostname() == "" {
		return endpoint{}, fmt.Errorf("the URL is %q, expected ws://host/path, or wss, http or https", rawURL)
	}
	e := endpoint{address: u.Host, target: u.RequestURI(), host: u.Host, timeout: o.Timeout, url: u, transport: o.Transport}
	if u.Port() == "" {
		e.address = net.JoinHostPort(u.Hostname(), port)
	}
	if port == "443" {
		e.tls = &tls.Config{}
		if o.TLS != nil {
			e.tls = o.TLS.Clone()
		}
		e.tls.NextProtos = []string{"http/1.1"}
	}
	return e, nil
}

func (e endpoint) dial(ctx context.Context) (net.Conn, error) {
	if e.transport != nil {
		return carry(ctx, e.transport, e.url), nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	if e.tls != nil {
		return (&tls.Dialer{Config: e.tls}).DialContext(ctx, "tcp", e.address)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", e.address)
}

// open returns a session ahead of its opening handshake.
func (e endpoint) open(ctx context.Context, c Case) (*session, error) {
	conn, err := e.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreachable, err)
	}
	s := newSession(ctx, conn, Server, e.timeout)
	s.seed(c)
	s.target, s.host = e.target, e.host
	return s, nil
}

// connect returns a session behind its opening handshake.
func (e endpoint) connect(ctx context.Context, c Case) (*session, error) {
	s, err := e.open(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := s.connect(c.offer); err != nil {
		s.shut()
		return nil, err
	}
	return s, nil
}

// play tries a case on the server.
func (e endpoint) play(ctx context.Context, c Case) (note string, err error) {
	if c.many != nil {
		return "", c.many(func() (*session, error) { return e.connect(ctx, c) })
	}
	begin := e.connect
	if c.ownHandshake {
		begin = e.open
	}
	s, err := begin(ctx, c)
	if err != nil {
		return "", err
	}
	defer s.shut()
	err = c.run(s)
	return s.note, err
}

// playClient tries a case on the client whose request has come.
func (s *session) playClient(c Case) error {
	s.seed(c)
	if !c.ownHandshake {
		if err := s.acceptWith(c.accept); err != nil {
			return err
		}
	}
	return c.run(s)
}
