// screen.go is the terminal of an interactive conversation: a line that is edited, above which everything else is written.

package dial

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/tty"
)

// screen is a terminal in raw mode until close, or until the last line has been typed.
type screen struct {
	*options
	input   chan item
	printer *printer
	colours bool
	out     *os.File
	resized func() // stops watching the size
	left    func() // called when the last line has been typed

	mu       sync.Mutex // guards all below
	terminal *term.Terminal
	restore  func() // nil once it is no longer raw
	entering bool   // a line has ended that entered does not know of yet
	held     []byte // what is to be written behind that
}

// openScreen makes stdin and stdout a screen.
func openScreen(o *options, stdin, stdout *os.File, left func()) (*screen, error) {
	state, err := term.MakeRaw(int(stdin.Fd()))
	if err != nil {
		return nil, fmt.Errorf("the terminal: %w", err)
	}
	s := &screen{options: o, input: make(chan item), left: left, out: stdout, colours: tty.Colours(stdout)}
	s.terminal = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{&keys{File: stdin, screen: s}, stdout}, tty.Paint(s.colours, tty.Green, ">")+" ")
	s.terminal.SetBracketedPasteMode(true)
	s.restore = func() {
		s.terminal.SetBracketedPasteMode(false)
		_ = term.Restore(int(stdin.Fd()), state)
		fmt.Fprint(stdout, "\r\x1b[K")
	}
	s.printer = &printer{options: o, w: s, terminal: true, colours: s.colours, marked: !o.json}
	s.resized = watchSize(func() {
		columns, rows := tty.Size(stdout)
		_ = s.terminal.SetSize(columns, rows)
	})
	go s.read()
	return s, nil
}

// read turns lines into items until the end of the input, which Ctrl-C and Ctrl-D are.
func (s *screen) read() {
	defer close(s.input)
	for {
		line, err := s.terminal.ReadLine()
		if err != nil && !errors.Is(err, term.ErrPasteIndicator) {
			s.proceed()
			s.leave()
			s.left() // Ctrl-C is a signal again
			fmt.Fprintln(s, s.mark()+"closing, Ctrl-C does not wait for that")
			return
		}
		s.entered(line)
		text, isCommand := strings.CutPrefix(line, "/")
		if isCommand && !strings.HasPrefix(text, "/") {
			s.input <- item{command: line}
			continue
		}
		m, err := s.message(text) // a second slash stands for one
		s.input <- item{message: m, err: err}
	}
}

// Write writes above the line that is being edited.
func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.restore == nil:
		return s.out.Write(b)
	case s.entering:
		s.held = append(s.held, b...)
		return len(b), nil
	}
	return s.terminal.Write(b)
}

// keys is what is typed.
type keys struct {
	*os.File
	screen *screen
}

// Read is called by the terminal while a line is edited. With -time nothing is written between the end of a line and what
// entered makes of it.
func (k *keys) Read(b []byte) (int, error) {
	k.screen.proceed()
	n, err := k.File.Read(b)
	if k.screen.times && bytes.IndexByte(b[:n], '\r') >= 0 {
		k.screen.mu.Lock()
		k.screen.entering = true
		k.screen.mu.Unlock()
	}
	return n, err
}

// entered shows with -time when a line was entered: it writes over the line, or below it if that came with others, or may
// take other columns than it has characters.
func (s *screen) entered(line string) {
	if !s.times {
		return
	}
	defer s.proceed()
	s.mu.Lock()
	defer s.mu.Unlock()
	over := ""
	if s.entering && !strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
		columns, _ := tty.Size(s.out)
		over = fmt.Sprintf("\x1b[%dA\x1b[J", (len("> ")+len(line))/columns+1)
	}
	fmt.Fprintf(s.terminal, "%s%s%s %s\n", over, s.stamp(), tty.Paint(s.colours, tty.Green, ">"), tty.Safe(line))
}

// proceed writes what was held back.
func (s *screen) proceed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entering = false
	if len(s.held) > 0 {
		_, _ = s.terminal.Write(s.held)
		s.held = s.held[:0]
	}
}

// leave ends raw mode.
func (s *screen) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.restore != nil {
		s.restore()
		s.restore = nil
	}
}

func (s *screen) close() {
	s.resized()
	s.leave()
}

// mark is what lines about the connection begin with.
func (s *screen) mark() string { return s.stamp() + tty.Paint(s.colours, tty.Yellow, "*") + " " }

func (s *screen) stamp() string { return s.options.stamp(s.colours) }

// connected greets.
func (s *screen) connected(conn *wsd.Conn) {
	text := "connected"
	if p := conn.Subprotocol(); p != "" {
		text += ", subprotocol " + p
	}
	if e := conn.Extensions(); e != "" {
		text += ", " + e
	}
	fmt.Fprintln(s, s.mark()+tty.Safe(text)+" (/help lists commands, Ctrl-C closes)")
}
