// output.go shows what comes: to people on a terminal, as bytes in a pipe, or as JSON objects for programs.

package dial

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
	"github.com/seed62836080/wsd/cmd/wsd/internal/tty"
)

// printer writes messages as the options say. It is used by one goroutine.
type printer struct {
	*options
	w        io.Writer
	terminal bool
	colours  bool
	marked   bool // lines begin with what they are: >, < and *
}

func newPrinter(o *options, env cli.Env) *printer {
	return &printer{options: o, w: env.Stdout, terminal: tty.Is(env.Stdout), colours: tty.Colours(env.Stdout)}
}

// jsonMessage is a message as -json writes it.
type jsonMessage struct {
	Event  string    `json:"event"`
	Time   time.Time `json:"time"`
	Type   string    `json:"type,omitempty"`
	Data   *string   `json:"data,omitempty"`   // a text
	Base64 *string   `json:"base64,omitempty"` // the bytes of a binary message
}

// jsonClose is the end of a connection as -json writes it.
type jsonClose struct {
	Event  string    `json:"event"`
	Time   time.Time `json:"time"`
	Code   uint16    `json:"code"`
	Reason string    `json:"reason"`
	Clean  bool      `json:"clean"`
	Local  bool      `json:"local"`
	Error  string    `json:"error,omitempty"`
}

// message writes a message that came.
func (p *printer) message(m wsd.Message) error {
	switch {
	case p.json:
		line := jsonMessage{Event: "message", Time: time.Now(), Type: m.Type.String()}
		text := string(m.Data)
		if m.Type == wsd.TextMessage {
			line.Data = &text
		} else {
			text = base64.StdEncoding.EncodeToString(m.Data)
			line.Base64 = &text
		}
		return p.object(line)
	case p.hex && m.Type == wsd.BinaryMessage:
		return p.line(hex.EncodeToString(m.Data))
	case p.terminal && m.Type == wsd.BinaryMessage:
		return p.line(fmt.Sprintf("binary, %s\n%s", tty.Bytes(int64(len(m.Data))), strings.TrimSuffix(tty.Hex(m.Data, 16), "\n")))
	}
	data := m.Data
	if p.pretty && m.Type == wsd.TextMessage {
		data = indent(data)
	}
	switch {
	case p.terminal:
		return p.line(tty.Safe(string(data)))
	case m.Type == wsd.BinaryMessage && !p.nul:
		_, err := p.w.Write(data)
		return err
	}
	return p.line(string(data))
}

// line writes text with its mark and its end.
func (p *printer) line(text string) error {
	var b strings.Builder
	b.WriteString(p.stamp(p.colours))
	if p.marked {
		b.WriteString(tty.Paint(p.colours, tty.Cyan, "<") + " ")
		text = strings.ReplaceAll(text, "\n", "\n  ")
	}
	b.WriteString(text)
	if p.nul {
		b.WriteByte(0)
	} else {
		b.WriteByte('\n')
	}
	_, err := io.WriteString(p.w, b.String())
	return err
}

// stamp returns the time for the beginning of a line, if it is to be shown.
func (o *options) stamp(colours bool) string {
	if !o.times {
		return ""
	}
	return tty.Paint(colours, tty.Dim, time.Now().Format("15:04:05.000")) + " "
}

func (p *printer) object(v any) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	out := b.Bytes()
	if p.terminal {
		out = []byte(tty.Safe(string(out)))
	}
	_, err := p.w.Write(out)
	return err
}

// closed writes the end of a connection for programs.
func (p *printer) closed(event wsd.CloseEvent, failed bool) error {
	if !p.json {
		return nil
	}
	line := jsonClose{Event: "close", Time: time.Now(), Code: uint16(event.Code), Reason: event.Reason, Clean: event.Clean, Local: event.Local}
	if failed {
		line.Error = event.Err.Error()
	}
	return p.object(line)
}

// indent returns JSON with indentation, and anything else as it is.
func indent(data []byte) []byte {
	if !utf8.Valid(data) {
		return data
	}
	var b bytes.Buffer
	if json.Indent(&b, bytes.TrimSpace(data), "", "  ") != nil {
		return data
	}
	return b.Bytes()
}

// ending describes the end of a connection in words: what whoever began it said, and the server too if that was something else.
func ending(event wsd.CloseEvent) string {
	said := func(code wsd.StatusCode, reason string) string {
		if reason == "" {
			return fmt.Sprint(code)
		}
		return fmt.Sprintf("%v: %s", code, cli.Line(reason))
	}
	switch {
	case event.Clean && event.Local && event.Code != event.SentCode:
		return fmt.Sprintf("closed by this side: %s; the server sent %s", said(event.SentCode, event.SentReason),
			said(event.Code, event.Reason))
	case event.Clean && event.Local:
		return "closed by this side: " + said(event.SentCode, event.SentReason)
	case event.Clean:
		return "closed by the server: " + said(event.Code, event.Reason)
	}
	text := fmt.Sprintf("ended without a closing handshake, %v: %s", event.Code, cli.Line(strings.TrimPrefix(event.Err.Error(), "wsd: ")))
	if event.Local && event.Code == wsd.StatusMessageTooBig {
		text += " (-max-size BYTES takes longer ones)"
	}
	return text
}
