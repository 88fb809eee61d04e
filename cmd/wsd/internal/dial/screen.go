// screen.go is the terminal of an interactive conversation: a line that is edited, above which everything else is written.

package dial

import (
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
	}{stdin, stdout}, tty.Paint(s.colours, tty.Green, ">")+" ")
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
			s.leave()
			s.left() // Ctrl-C is a signal again
			fmt.Fprintln(s, s.mark()+"closing, Ctrl-C does not wait for that")
			return
		}
		command, isCommand := strings.CutPrefix(line, "/")
		switch {
		case strings.HasPrefix(command, "/") || !isCommand:
			if isCommand {
				line = command // a second slash stands for one
			}
			m, err := s.message(line)
			s.input <- item{message: m, err: err}
		default:
			s.input <- item{command: command}
		}
	}
}

// Write writes above the line that is being edited.
func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.restore == nil {
		return s.out.Write(b)
	}
	return s.terminal.Write(b)
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
func (s *screen) mark() string { return tty.Paint(s.colours, tty.Yellow, "*") + " " }

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
