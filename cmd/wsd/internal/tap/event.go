// event.go is what is told of a connection: to people as a line, to a file as JSON.

package tap

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/tty"
)

// Event is a line of a recording.
type Event struct {
	Conn  int       `json:"conn"`
	Time  time.Time `json:"time"`
	Event string    `json:"event"`          // open, frame or end
	From  string    `json:"from,omitempty"` // of a frame: client or server

	// Of open: the handshake, as it was passed on.
	Remote   string `json:"remote,omitempty"`
	Request  string `json:"request,omitempty"`
	Response string `json:"response,omitempty"`

	// Of frame.
	Opcode   int     `json:"opcode,omitempty"`
	Fin      bool    `json:"fin,omitempty"`
	RSV      int     `json:"rsv,omitempty"`
	Masked   bool    `json:"masked,omitempty"`
	Length   uint64  `json:"length,omitempty"` // of the payload, as it was sent
	Offset   uint64  `json:"offset,omitempty"` // where this part of it begins
	More     bool    `json:"more,omitempty"`   // another part follows
	Inflated int64   `json:"inflated,omitempty"`
	Text     *string `json:"text,omitempty"`   // the payload, unmasked and inflated
	Base64   *string `json:"base64,omitempty"` // where it is not UTF-8, or has control characters
	Cut      bool    `json:"cut,omitempty"`    // there was more of it than is kept
	Code     int     `json:"code,omitempty"`   // of a close frame
	RTT      int64   `json:"rtt_ns,omitempty"` // of a pong
	Problem  string  `json:"problem,omitempty"`

	data []byte // the payload
}

// setData puts the payload into the fields for JSON.
func (e *Event) setData() {
	switch text := string(e.data); {
	case len(e.data) == 0:
	case utf8.ValidString(text) && !strings.ContainsFunc(text, unwieldy):
		e.Text = &text
	default:
		text = base64.StdEncoding.EncodeToString(e.data)
		e.Base64 = &text
	}
}

// unwieldy reports whether JSON has six letters for a character.
func unwieldy(r rune) bool { return r < ' ' && r != '\n' && r != '\t' && r != '\r' || r == 0x7f }

// Data returns the payload.
func (e *Event) Data() ([]byte, error) {
	switch {
	case e.Text != nil:
		return []byte(*e.Text), nil
	case e.Base64 != nil:
		return base64.StdEncoding.DecodeString(*e.Base64)
	}
	return nil, nil
}

func (e *Event) opcode() wsd.Opcode { return wsd.Opcode(e.Opcode) }

// flags says what is unusual about a frame.
func (e *Event) flags() string {
	var flags []string
	if !e.Fin {
		flags = append(flags, "more follows")
	}
	if e.RSV&4 != 0 {
		flags = append(flags, "deflate")
	}
	if e.RSV&3 != 0 {
		flags = append(flags, fmt.Sprintf("rsv %d", e.RSV&3))
	}
	return strings.Join(flags, ", ")
}

// preview returns the beginning of the payload in one line.
func (e *Event) preview(limit int) string {
	data := e.data
	switch e.opcode() {
	case wsd.OpClose:
		if len(data) < 2 {
			return ""
		}
		text := wsd.StatusCode(binary.BigEndian.Uint16(data)).String()
		if len(data) > 2 {
			text += ": " + oneLine(data[2:], limit)
		}
		return text
	case wsd.OpPong:
		if e.RTT > 0 {
			return strings.TrimSpace("after " + time.Duration(e.RTT).Round(time.Microsecond).String() + " " + oneLine(data, limit))
		}
	}
	return oneLine(data, limit)
}

// oneLine returns bytes as text if they are, and in hexadecimal if not.
func oneLine(data []byte, limit int) string {
	cut := len(data) > limit
	if cut {
		data = data[:limit]
		for len(data) > 0 && !utf8.Valid(data) && len(data) > limit-utf8.UTFMax {
			data = data[:len(data)-1]
		}
	}
	if bytes.IndexByte(data, 0) >= 0 || !utf8.Valid(data) {
		digits := data[:min(len(data), limit/4)]
		return hex.EncodeToString(digits) + map[bool]string{true: "…"}[cut || len(data) > len(digits)]
	}
	return lineEnds.Replace(tty.Safe(string(data))) + map[bool]string{true: "…"}[cut]
}

var lineEnds = strings.NewReplacer("\n", `\n`, "\t", `\t`)

// line returns the event for people.
func (e *Event) line(colours bool) string {
	begin := tty.Paint(colours, tty.Dim, e.Time.Format("15:04:05.000000")) + fmt.Sprintf(" #%d ", e.Conn)
	switch e.Event {
	case "open":
		first, _, _ := strings.Cut(e.Request, "\r\n")
		status, _, _ := strings.Cut(e.Response, "\r\n")
		return begin + tty.Paint(colours, tty.Yellow, "*") + " " + tty.Safe(e.Remote+" "+first+", "+status)
	case "end":
		text := "the end"
		if e.Problem != "" {
			text += ": " + e.Problem
		}
		return begin + tty.Paint(colours, tty.Yellow, "*") + " " + tty.Safe(text)
	}
	arrow := tty.Paint(colours, tty.Green, "→")
	if e.From == "server" {
		arrow = tty.Paint(colours, tty.Cyan, "←")
	}
	length := fmt.Sprint(e.Length)
	if e.RSV&4 != 0 && e.Inflated > 0 {
		length += "/" + fmt.Sprint(e.Inflated)
	}
	text := fmt.Sprintf("%s%s %-6s %7s ", begin, arrow, shortName(e.opcode()), length)
	if flags := e.flags(); flags != "" {
		text += "[" + flags + "] "
	}
	text += e.preview(200)
	if e.Problem != "" {
		text += tty.Paint(colours, tty.Red, " ! "+tty.Safe(e.Problem))
	}
	return strings.TrimRight(text, " ")
}

func shortName(o wsd.Opcode) string {
	if o == wsd.OpContinuation {
		return "cont"
	}
	return strings.Replace(o.String(), "opcode ", "", 1)
}

// encode returns the event as a line of a recording.
func (e *Event) encode() ([]byte, error) {
	e.setData()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(e)
	return b.Bytes(), err
}
