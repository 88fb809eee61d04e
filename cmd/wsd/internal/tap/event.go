// event.go is what is told of a connection: to people as a line, to a file as JSON.

package tap

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
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
	if e.Fin && e.RSV == 0 {
		return ""
	}
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

// appendPreview appends the beginning of the payload in one line.
func (e *Event) appendPreview(b []byte, limit int) []byte {
	data := e.data
	switch e.opcode() {
	case wsd.OpClose:
		if len(data) < 2 {
			return b
		}
		b = append(b, wsd.StatusCode(binary.BigEndian.Uint16(data)).String()...)
		if len(data) > 2 {
			b = appendOneLine(append(b, ": "...), data[2:], limit)
		}
		return b
	case wsd.OpPong:
		if e.RTT > 0 {
			b = append(append(b, "after "...), time.Duration(e.RTT).Round(time.Microsecond).String()...)
			if len(data) > 0 {
				b = append(b, ' ')
			}
		}
	}
	return appendOneLine(b, data, limit)
}

// appendOneLine appends bytes as text if they are, and in hexadecimal if not.
func appendOneLine(b, data []byte, limit int) []byte {
	cut := len(data) > limit
	if cut {
		data = data[:limit]
		for len(data) > 0 && !utf8.Valid(data) && len(data) > limit-utf8.UTFMax {
			data = data[:len(data)-1]
		}
	}
	switch {
	case printable(data):
		b = append(b, data...)
	case bytes.IndexByte(data, 0) >= 0 || !utf8.Valid(data):
		digits := data[:min(len(data), limit/4)]
		cut = cut || len(data) > len(digits)
		b = hex.AppendEncode(b, digits)
	default:
		b = append(b, lineEnds.Replace(tty.Safe(string(data)))...)
	}
	if cut {
		b = append(b, "…"...)
	}
	return b
}

// printable reports whether bytes are ASCII without control characters, as most are.
func printable(data []byte) bool {
	const each, high = 0x0101010101010101, 0x8080808080808080 // in eight bytes at a time
	for ; len(data) >= 8; data = data[8:] {
		word := binary.LittleEndian.Uint64(data)
		// Of bytes below 0x80, adding 1 carries 0x7f into the highest bit, and adding 0x60 all but those below 0x20.
		if word&high != 0 || (word+each)&high != 0 || (word+0x60*each)&high != high {
			return false
		}
	}
	for _, c := range data {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

var lineEnds = strings.NewReplacer("\n", `\n`, "\t", `\t`)

// appendLine appends the event for people.
func (e *Event) appendLine(b []byte, colours bool) []byte {
	return e.appendWhat(e.appendStart(b, colours), colours)
}

// appendStart appends what a line begins with: when it was, and where.
func (e *Event) appendStart(b []byte, colours bool) []byte {
	if colours {
		b = append(b, "\x1b["+tty.Dim+"m"...)
	}
	b = appendTime(b, e.Time)
	if colours {
		b = append(b, "\x1b[0m"...)
	}
	return append(strconv.AppendInt(append(b, " #"...), int64(e.Conn), 10), ' ')
}

// appendWhat appends the rest of a line.
func (e *Event) appendWhat(b []byte, colours bool) []byte {
	if e.Event == "frame" {
		return e.appendFrame(b, colours)
	}
	b = append(append(b, tty.Paint(colours, tty.Yellow, "*")...), ' ')
	switch e.Event {
	case "open":
		first, _, _ := strings.Cut(e.Request, "\r\n")
		status, _, _ := strings.Cut(e.Response, "\r\n")
		b = append(b, tty.Safe(e.Remote+" "+first+", "+status)...)
	case "end":
		b = append(b, "the end"...)
		if e.Problem != "" {
			b = append(append(b, ": "...), tty.Safe(e.Problem)...)
		}
	}
	return b
}

// appendTime appends a time of day to the microsecond.
func appendTime(b []byte, t time.Time) []byte {
	hour, minute, second := t.Clock()
	for i, n := range [...]int{hour, minute, second} {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, byte('0'+n/10), byte('0'+n%10))
	}
	b = append(b, '.')
	for n, digit := t.Nanosecond()/1000, 100_000; digit > 0; digit /= 10 {
		b = append(b, byte('0'+n/digit%10))
	}
	return b
}

// appendFrame appends what a line says of a frame, behind its beginning.
func (e *Event) appendFrame(b []byte, colours bool) []byte {
	arrow, style := "→", tty.Green
	if e.From == "server" {
		arrow, style = "←", tty.Cyan
	}
	b = append(append(b, tty.Paint(colours, style, arrow)...), ' ')
	name := shortName(e.opcode())
	b = append(append(b, name...), "       "[min(len(name), 6):]...)
	var room [48]byte
	length := strconv.AppendUint(room[:0], e.Length, 10)
	if e.Inflated > 0 {
		length = strconv.AppendInt(append(length, '/'), e.Inflated, 10)
	}
	b = append(append(append(b, "       "[min(len(length), 7):]...), length...), ' ')
	if flags := e.flags(); flags != "" {
		b = append(append(append(b, '['), flags...), "] "...)
	}
	b = e.appendPreview(b, 200)
	if e.Problem != "" {
		b = append(b, tty.Paint(colours, tty.Red, " ! "+tty.Safe(e.Problem))...)
	}
	return bytes.TrimRight(b, " ")
}

func shortName(o wsd.Opcode) string {
	if o == wsd.OpContinuation {
		return "cont"
	}
	return strings.TrimPrefix(o.String(), "opcode ")
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
