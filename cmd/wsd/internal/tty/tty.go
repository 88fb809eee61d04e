// Package tty is what is written to people: colours where they are wanted, and nothing that could play tricks on a terminal.
package tty

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// Is reports whether w, or a reader, is a terminal.
func Is(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Colours reports whether to write colours to w: only to a terminal that has them, and not where NO_COLOR is set
// (no-color.org).
func Colours(w any) bool {
	return Is(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// Style is a colour, or another way to write.
type Style string

// The styles.
const (
	Plain  Style = ""
	Bold   Style = "1"
	Dim    Style = "2"
	Red    Style = "31"
	Green  Style = "32"
	Yellow Style = "33"
	Cyan   Style = "36"
)

// Paint writes text in a style, if colours are on.
func Paint(on bool, style Style, text string) string {
	if !on || style == Plain {
		return text
	}
	return "\x1b[" + string(style) + "m" + text + "\x1b[0m"
}

// Safe returns text for a terminal: characters that could control it, or turn the direction of writing, are spelled out.
// Line ends and tabs stay.
func Safe(text string) string {
	if !strings.ContainsFunc(text, tricky) && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case tricky(r):
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func tricky(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r < ' ', r >= 0x7f && r < 0xa0, // control characters
		r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f, r == 0x2028, r == 0x2029:
		return true
	}
	return false
}

// Hex returns bytes as a dump of at most so many lines: position, 16 bytes, characters.
func Hex(b []byte, lines int) string {
	var s strings.Builder
	for at := 0; at < len(b); at += 16 {
		if at/16 == lines {
			fmt.Fprintf(&s, "… %s of %s are not shown\n", Bytes(int64(len(b)-at)), Bytes(int64(len(b))))
			break
		}
		row := b[at:min(at+16, len(b))]
		fmt.Fprintf(&s, "%08x ", at)
		for i := range 16 {
			if i == 8 {
				s.WriteByte(' ')
			}
			if i < len(row) {
				fmt.Fprintf(&s, " %02x", row[i])
			} else {
				s.WriteString("   ")
			}
		}
		s.WriteString("  ")
		for _, c := range row {
			if c < ' ' || c > '~' {
				c = '.'
			}
			s.WriteByte(c)
		}
		s.WriteByte('\n')
	}
	return s.String()
}

// Bytes writes a number of bytes for people.
func Bytes(n int64) string {
	switch {
	case n == 1:
		return "1 byte"
	case n < 10_000:
		return Count(n) + " bytes"
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
}

// Count writes a number with its thousands set apart.
func Count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for at := len(digits) - 3; at > 0 && digits[at-1] != '-'; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// Size returns the columns and rows of a terminal, 80 and 24 where that is unknown.
func Size(w io.Writer) (columns, rows int) {
	if f, ok := w.(*os.File); ok {
		if columns, rows, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			return columns, rows
		}
	}
	return 80, 24
}
