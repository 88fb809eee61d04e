// player.go plays one connection.

package replay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/client"
)

// player plays one connection. Its goroutine alone uses it.
type player struct {
	*options
	script *script
	target string
	dial   *wsd.DialOptions
	begin  time.Time
	offset time.Duration // of this connection in the recording

	conn    *wsd.Conn
	got     int // answers
	ended   bool
	outcome outcome
}

// play plays the connection, and compares.
func (p *player) play(ctx context.Context) *outcome {
	p.outcome.Conn = p.script.conn
	p.outcome.Differences = []string{}
	if !p.fast && !p.pause(ctx, p.offset) {
		p.outcome.Failed = "interrupted"
		return &p.outcome
	}
	opened := time.Now()
	address, options := p.handshake()
	conn, _, err := wsd.Dial(ctx, address, options)
	if err != nil {
		p.outcome.Failed = client.Describe(err)
		return &p.outcome
	}
	p.conn = conn
	stop := context.AfterFunc(ctx, func() { _ = conn.StartClose(wsd.StatusGoingAway, "") })
	defer stop()
	for _, s := range p.script.steps {
		if p.ended {
			break
		}
		p.step(ctx, s, opened)
	}
	p.receive(len(p.script.answers), p.wait)
	_ = conn.StartClose(wsd.StatusNormalClosure, "")
	for m := range conn.Messages() {
		p.compare(m)
	}
	<-conn.Closed()
	p.judge(ctx)
	return &p.outcome
}

// handshake returns where and how to connect.
func (p *player) handshake() (string, *wsd.DialOptions) {
	options := *p.dial
	request := p.script.request
	options.Header = make(http.Header)
	for name, values := range request.Header {
		switch {
		case strings.HasPrefix(name, "Sec-Websocket-"), name == "Connection", name == "Upgrade", name == "Accept-Encoding":
		default:
			options.Header[name] = values
		}
	}
	for name, values := range p.dial.Header { // -H replaces what was recorded
		options.Header.Del(name)
		options.Header[name] = values
	}
	if len(options.Subprotocols) == 0 {
		options.Subprotocols = wsd.Subprotocols(request)
	}
	if strings.Contains(strings.Join(request.Header["Sec-Websocket-Extensions"], ","), "permessage-deflate") {
		options.Compression = &wsd.Compression{}
	}
	u, err := url.Parse(p.target)
	if err != nil {
		return p.target, &options // Dial says so
	}
	if u.Path == "" || u.Path == "/" {
		u.Path, u.RawPath, u.RawQuery = request.URL.Path, request.URL.RawPath, request.URL.RawQuery
	}
	if origin, err := url.Parse(request.Header.Get("Origin")); err == nil && origin.Host != "" && origin.Host == request.Host && len(p.dial.Header["Origin"]) == 0 {
		origin.Host = u.Host
		origin.Scheme = strings.Replace(u.Scheme, "ws", "http", 1)
		options.Header.Set("Origin", origin.String())
	}
	return u.String(), &options
}

// pause waits until a time after the beginning.
func (p *player) pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(time.Until(p.begin.Add(d))):
		return true
	case <-ctx.Done():
		return false
	}
}

// step sends one thing when it is due.
func (p *player) step(ctx context.Context, s step, opened time.Time) {
	if p.fast {
		p.receive(s.answers, p.wait)
	} else {
		p.receiveUntil(opened.Add(s.at))
	}
	if p.ended || ctx.Err() != nil {
		return
	}
	bounded, cancel := context.WithTimeout(p.conn.Context(), p.wait)
	defer cancel()
	switch s.opcode {
	case wsd.OpPing:
		go func() { _, _ = p.conn.Ping(p.conn.Context(), s.message.Data) }() // ends with the connection at the latest
	case wsd.OpClose:
		code := wsd.StatusCode(s.code)
		if code == 0 {
			code = wsd.StatusNormalClosure
		}
		_ = p.conn.StartClose(code, s.reason)
	default:
		sent := make(chan error, 1)
		go func() { sent <- p.conn.Send(bounded, s.message) }()
		if p.await(sent) == nil {
			p.outcome.Sent++
		}
	}
}

// await receives until something has been sent.
func (p *player) await(sent <-chan error) error {
	messages := p.conn.Messages()
	for {
		select {
		case err := <-sent:
			return err
		case m, ok := <-messages:
			if !ok {
				messages, p.ended = nil, true
				continue
			}
			p.compare(m)
		}
	}
}

// receive receives until so many answers have come in all, or none has for a time.
func (p *player) receive(answers int, patience time.Duration) {
	silence := time.NewTimer(patience)
	defer silence.Stop()
	for p.got < answers && !p.ended {
		select {
		case m, ok := <-p.conn.Messages():
			if !ok {
				p.ended = true
				return
			}
			p.compare(m)
			silence.Reset(patience)
		case <-silence.C:
			return
		}
	}
}

func (p *player) receiveUntil(t time.Time) {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	for {
		select {
		case m, ok := <-p.conn.Messages():
			if !ok {
				p.ended = true
				return
			}
			p.compare(m)
		case <-timer.C:
			return
		}
	}
}

func (p *player) differ(format string, args ...any) {
	p.outcome.Differences = append(p.outcome.Differences, fmt.Sprintf(format, args...))
}

// compare compares an answer with the recorded one.
func (p *player) compare(m wsd.Message) {
	defer m.Release()
	p.got++
	if p.got > len(p.script.answers) {
		p.differ("answer %d: expected none, got %s", p.got, quote(m, 0))
		return
	}
	want := p.script.answers[p.got-1]
	a, b := want.Data, m.Data
	if p.ignore != nil {
		a, b = p.ignore.ReplaceAll(a, nil), p.ignore.ReplaceAll(b, nil)
	}
	if m.Type == want.Type && string(a) == string(b) {
		p.outcome.Same++
		return
	}
	at := 0
	for at < len(a) && at < len(b) && a[at] == b[at] {
		at++
	}
	p.differ("answer %d: expected %s, got %s; byte %d is the first that differs", p.got,
		quote(wsd.Message{Type: want.Type, Data: a}, at), quote(wsd.Message{Type: m.Type, Data: b}, at), at)
}

// quote returns a message around a place in one line.
func quote(m wsd.Message, at int) string {
	const around = 30
	from, to := max(at-around, 0), min(at+around, len(m.Data))
	text := fmt.Sprintf("%q", m.Data[from:to])
	if from > 0 {
		text = "…" + text
	}
	if to < len(m.Data) {
		text += "…"
	}
	return m.Type.String() + " " + text
}

// judge compares how many answers came, and how it ended.
func (p *player) judge(ctx context.Context) {
	if missing := len(p.script.answers) - p.got; missing > 0 {
		if ctx.Err() != nil {
			p.outcome.Failed = "interrupted"
			return
		}
		p.differ("%d answers are missing, the first is %s", missing, quote(p.script.answers[p.got], 0))
	}
	event := p.conn.CloseEvent()
	var closed *wsd.CloseError
	switch {
	case p.script.code == 0 || event.Local && errors.As(event.Err, &closed):
	case int(event.Code) != p.script.code:
		p.differ("expected the end with %v, got %v", wsd.StatusCode(p.script.code), event.Code)
	}
}
