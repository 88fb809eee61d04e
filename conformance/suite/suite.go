// Package suite tests WebSocket servers and clients, byte by byte, against RFC 6455 and RFC 7692.
//
// [Cases] has everything that can be tried, [Select] picks from it, and [JudgeServer] and [JudgeClients] try it on peers
// that echo every message with its type. [Tallies] counts the results by topic:
//
//	cases := suite.Select(suite.Cases(suite.Load{}), suite.Server, regexp.MustCompile("^framing/"))
//	results, err := suite.JudgeServer(ctx, "ws://127.0.0.1:8080/echo", cases, &suite.Options{})
//
// Frames, handshakes and DEFLATE are the suite's own: it shares no code with any library that it could judge.
package suite

import (
	"crypto/tls"
	"net/http"
	"regexp"
	"time"
)

// A Role is the role of the peer that is judged. The suite plays the other one.
type Role string

// The roles of RFC 6455.
const (
	Server Role = "server"
	Client Role = "client"
)

// Topics returns the topics of all cases, in the order of reports.
func Topics() []string {
	return []string{
		"handshake", "framing", "pings and pongs", "reserved bits", "reserved opcodes", "fragmentation", "utf-8", "close", "limits",
		"compression handshake", "compression",
	}
}

// A Case is one thing that is tried on a peer. Cases are made by [Cases] alone.
type Case struct {
	ID      string // the topic and a number within it, "framing/12": always the same, whatever else is selected
	Topic   string // one of Topics
	Name    string // what is tried, unique among the topic's cases for a role
	Section string // the section that demands something of the peer, "RFC 6455, 5.2"

	role         Role       // the only role that can be judged so, or none
	offer        string     // the extension to offer to a server
	accept       *agreement // the extension to accept from a client
	ownHandshake bool       // run does the opening handshake, too

	run  func(*session) error
	many func(dial func() (*session, error)) error // instead of run, servers only: over many connections
}

// Judges reports whether the case can judge peers of the role.
func (c Case) Judges(r Role) bool { return c.role == "" || c.role == r }

// A Load bounds what one of the compression cases sends each way. Both bounds hold; 0 stands for the default.
type Load struct {
	Messages int // 1,000 by default
	Bytes    int // of messages before compression, 1 GiB by default; cases with a few large messages may exceed it
}

// Cases returns every case, by topic in the order of [Topics]. The load changes the names of compression cases, never
// their IDs.
func Cases(l Load) []Case {
	if l.Messages <= 0 {
		l.Messages = 1000
	}
	if l.Bytes <= 0 {
		l.Bytes = 1 << 30
	}
	c := &catalogue{numbers: make(map[string]int)}
	handshakeCases(c)
	framingCases(c)
	pingCases(c)
	reservedCases(c)
	fragmentationCases(c)
	utf8Cases(c)
	closeCases(c)
	limitCases(c)
	compressionHandshakeCases(c)
	compressionCases(c, l)
	return c.cases
}

// Select returns those of the cases that can judge peers of the role and whose ID or Name matches the pattern. An empty
// role and a nil pattern stand for all.
func Select(cases []Case, role Role, pattern *regexp.Regexp) []Case {
	var chosen []Case
	for _, c := range cases {
		if (role == "" || c.Judges(role)) && (pattern == nil || pattern.MatchString(c.ID) || pattern.MatchString(c.Name)) {
			chosen = append(chosen, c)
		}
	}
	return chosen
}

// Options say how a run is done. The zero value is ready for use.
type Options struct {
	// Parallel is how many cases are tried at a time, 16 by default.
	Parallel int
	// Timeout is how long a peer may be silent where an answer is due, 5 seconds by default.
	Timeout time.Duration
	// TLS is for servers at wss and https URLs. The server's name is the URL's unless it says otherwise.
	TLS *tls.Config
	// Transport, if set, performs the handshakes with a server in another way than that of HTTP/1.1, such as the Transports of
	// wsd's modules h2 and h3. It is given requests for an upgrade, answers 101 with a Body that is an io.ReadWriteCloser, and
	// should permit deadlines and CloseWrite there. The cases of the topic handshake are about HTTP/1.1: leave them out.
	Transport http.RoundTripper
	// Ended, if set, is called with each result as soon as there is one, on the goroutine that called JudgeServer or
	// JudgeClients, so never twice at a time.
	Ended func(Result)
}

func (o *Options) orDefaults() Options {
	var set Options
	if o != nil {
		set = *o
	}
	if set.Parallel <= 0 {
		set.Parallel = 16
	}
	if set.Timeout <= 0 {
		set.Timeout = 5 * time.Second
	}
	if set.Ended == nil {
		set.Ended = func(Result) {}
	}
	return set
}

// A Verdict is how a case went.
type Verdict string

// The verdicts. Passed and NotApplicable speak for a peer, Failed against it, and NotRun says nothing about it.
const (
	Passed        Verdict = "passed"
	Failed        Verdict = "failed"
	NotApplicable Verdict = "not applicable" // the peer does not do what the case is about, and need not
	NotRun        Verdict = "not run"        // the server could not be reached, no client came, or the run was ended
)

// A Result is the outcome of one case.
type Result struct {
	Case    string        `json:"case"` // the case's ID
	Topic   string        `json:"topic"`
	Name    string        `json:"name"`
	Section string        `json:"section"`
	Role    Role          `json:"role"`
	Verdict Verdict       `json:"verdict"`
	Detail  string        `json:"detail,omitempty"` // what came and what was expected, or why there is no judgement
	Note    string        `json:"note,omitempty"`   // something that the RFC allows but does not recommend
	Took    time.Duration `json:"took_ns"`
}

// A Tally counts verdicts.
type Tally struct {
	Topic                                 string
	Passed, Failed, NotApplicable, NotRun int
}

// Cases returns the number of all verdicts.
func (t Tally) Cases() int { return t.Passed + t.Failed + t.NotApplicable + t.NotRun }

// Add counts one more verdict.
func (t *Tally) Add(v Verdict) {
	switch v {
	case Passed:
		t.Passed++
	case Failed:
		t.Failed++
	case NotApplicable:
		t.NotApplicable++
	case NotRun:
		t.NotRun++
	}
}

// Tallies counts the results by topic, in the order of [Topics] and without topics that do not occur, and all of them.
func Tallies(results []Result) (byTopic []Tally, all Tally) {
	for _, topic := range Topics() {
		t := Tally{Topic: topic}
		for _, r := range results {
			if r.Topic == topic {
				t.Add(r.Verdict)
				all.Add(r.Verdict)
			}
		}
		if t.Cases() > 0 {
			byTopic = append(byTopic, t)
		}
	}
	all.Topic = "all"
	return byTopic, all
}
