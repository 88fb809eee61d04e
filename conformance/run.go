// The runners: one dials the server under test for each case, the other is the server that clients under test connect to,
// one case per connection.

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"
)

// A verdict is how a case went.
type verdict string

const (
	passed        verdict = "passed"
	failed        verdict = "failed"
	notApplicable verdict = "not applicable"
)

// A result is one case's outcome.
type result struct {
	Case    string        `json:"case"`
	Topic   string        `json:"topic"`
	Name    string        `json:"name"`
	Section string        `json:"section"`
	Role    string        `json:"role"`
	Verdict verdict       `json:"verdict"`
	Detail  string        `json:"detail,omitempty"`
	Note    string        `json:"note,omitempty"`
	Took    time.Duration `json:"took_ns"`
}

// Options of a run.
type options struct {
	parallel int           // cases at a time
	timeout  time.Duration // how long a peer may be silent where an answer is due
	insecure bool          // wss without verification of the certificate
}

// number gives each case of a role its name: the topic and a number within it.
func number(cases []testCase) []string {
	seen := make(map[string]int)
	names := make([]string, len(cases))
	for i, t := range cases {
		seen[t.topic]++
		names[i] = fmt.Sprintf("%s/%d", t.topic, seen[t.topic])
	}
	return names
}

func (t testCase) judged(name string, r role, err error, note string, took time.Duration) result {
	res := result{Case: name, Topic: t.topic, Name: t.name, Section: t.section, Role: r.String(), Verdict: passed, Note: note, Took: took}
	if err != nil {
		res.Verdict, res.Detail = failed, err.Error()
		if declined(err) {
			res.Verdict = notApplicable
		}
	}
	return res
}

// judgeServer runs the cases against the server at rawURL.
func judgeServer(ctx context.Context, rawURL string, cases []testCase, o options) ([]result, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" {
		return nil, fmt.Errorf("the URL is %q, expected ws://host/path or wss://host/path", rawURL)
	}
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), map[string]string{"ws": "80", "wss": "443"}[u.Scheme])
	}
	dial := func(seed uint64) (*session, error) {
		ctx, cancel := context.WithTimeout(ctx, o.timeout)
		defer cancel()
		var conn net.Conn
		var err error
		if u.Scheme == "wss" {
			d := tls.Dialer{Config: &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: o.insecure, NextProtos: []string{"http/1.1"}}}
			conn, err = d.DialContext(ctx, "tcp", address)
		} else {
			conn, err = new(net.Dialer).DialContext(ctx, "tcp", address)
		}
		if err != nil {
			return nil, err
		}
		s := newSession(conn, server, o.timeout, seed)
		s.target, s.host = u.RequestURI(), u.Host
		return s, nil
	}
	if s, err := dial(0); err != nil {
		return nil, fmt.Errorf("the server cannot be reached: %w", err)
	} else {
		s.shut()
	}

	names := number(cases)
	results := make([]result, len(cases))
	limit := make(chan struct{}, o.parallel)
	var running sync.WaitGroup
	for i, t := range cases {
		limit <- struct{}{}
		running.Go(func() {
			defer func() { <-limit }()
			began := time.Now()
			note := ""
			err := func() error {
				if t.many != nil {
					return t.many(func() (*session, error) {
						s, err := dial(t.seed())
						if err != nil {
							return nil, err
						}
						if err := s.connect(s.target, s.host, ""); err != nil {
							s.shut()
							return nil, err
						}
						return s, nil
					})
				}
				s, err := dial(t.seed())
				if err != nil {
					return err
				}
				defer s.shut()
				if !t.bare {
					if err := s.connect(s.target, s.host, t.offer); err != nil {
						return err
					}
				}
				err = t.run(s)
				note = s.note
				return err
			}()
			results[i] = t.judged(names[i], server, err, note, time.Since(began))
		})
	}
	running.Wait()
	return results, ctx.Err()
}

// judgeClients gives each client that connects to the listener the next case, until all are done. A client that comes
// when no case is left is told so by 410, and the run ends when every case has its result.
func judgeClients(ctx context.Context, l net.Listener, cases []testCase, o options) ([]result, error) {
	names := number(cases)
	results := make([]result, len(cases))
	var mu sync.Mutex // guards next
	next := 0
	var judging sync.WaitGroup
	judging.Add(len(cases))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		judging.Wait()
		cancel()
	}()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()

	var connections sync.WaitGroup
	limit := make(chan struct{}, o.parallel)
	for {
		limit <- struct{}{}
		conn, err := l.Accept()
		if err != nil {
			break
		}
		connections.Go(func() {
			defer func() { <-limit }()
			began := time.Now()
			s := newSession(conn, client, o.timeout, 0)
			defer s.shut()
			if s.awaitRequest() != nil { // no case is spent on a connection that asks for nothing
				return
			}
			mu.Lock()
			i := next
			next++
			mu.Unlock()
			if i >= len(cases) {
				s.send(headBytes("HTTP/1.1 410 Gone", fields{{"Content-Length", "0"}, {"Connection", "close"}}), 0)
				s.halfClose()
				s.endOfStream("")
				return
			}
			defer judging.Done()
			t := cases[i]
			s.seed(t.seed())
			err := func() error {
				if !t.bare {
					if err := s.acceptWith(t.accept); err != nil {
						return err
					}
				}
				return t.run(s)
			}()
			results[i] = t.judged(names[i], client, err, s.note, time.Since(began))
		})
	}
	connections.Wait()
	mu.Lock()
	defer mu.Unlock()
	if next < len(cases) {
		for i := next; i < len(cases); i++ {
			results[i] = cases[i].judged(names[i], client, errors.New("no client came for this case"), "", 0)
		}
		return results, context.Cause(ctx)
	}
	return results, nil
}
