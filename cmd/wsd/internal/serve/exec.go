// exec.go runs a program for each connection: its lines, or its bytes, are messages both ways.

package serve

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
)

// maxLine bounds a line that a program writes, in bytes.
const maxLine = 16 << 20

// exitGrace is how long a program may go on when its connection has ended and its input with it, before it is killed.
const exitGrace = 2 * time.Second

// executing returns the mode of -exec.
func (s *server) executing() (func(http.ResponseWriter, *http.Request), error) {
	words, err := Words(s.exec)
	if err != nil {
		return nil, cli.Usagef("-exec: %v", err)
	}
	path, err := exec.LookPath(words[0])
	if err != nil {
		return nil, cli.Usagef("-exec: %v", err)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		environment := environmentOf(r)
		s.accept(w, r, func(conn *wsd.Conn) {
			cmd := exec.Command(path, words[1:]...)
			cmd.Env = environment
			s.execute(conn, cmd)
		})
	}, nil
}

// execute runs a program until it or the connection ends.
func (s *server) execute(conn *wsd.Conn, cmd *exec.Cmd) {
	stderr := &logWriter{s: s, remote: conn.RemoteAddr().String()}
	defer stderr.flush()
	cmd.Stderr = stderr
	cmd.WaitDelay = exitGrace // for children in groups of their own, who may hold on to the standard error
	group(cmd)
	stdin, err := cmd.StdinPipe()
	if err == nil {
		var stdout io.ReadCloser
		if stdout, err = cmd.StdoutPipe(); err == nil {
			if err = cmd.Start(); err == nil {
				s.pass(conn, cmd, stdin, stdout)
				return
			}
		}
	}
	s.log.Error("a program cannot be started", "error", err)
	_ = conn.Close(wsd.StatusInternalError, "the program cannot be started")
}

// pass passes messages and output on, kills what is left of the program when the connection ends, and closes the connection
// when the program has.
func (s *server) pass(conn *wsd.Conn, cmd *exec.Cmd, stdin io.WriteCloser, stdout io.ReadCloser) {
	var g errgroup.Group
	ended := make(chan struct{}) // closed when the program's output has ended
	g.Go(func() error {
		defer stdin.Close()
		for m := range conn.Messages() {
			data := m.Data
			if !s.binary {
				data = append(data, '\n')
			}
			if _, err := stdin.Write(data); err != nil {
				break // the program no longer reads
			}
			m.Release()
		}
		for range conn.Messages() { // so that the end of the connection is seen
		}
		return nil
	})
	g.Go(func() error {
		defer close(ended)
		if s.binary {
			return sendChunks(conn, stdout)
		}
		return sendLines(conn, stdout)
	})
	g.Go(func() error {
		select {
		case <-ended:
		case <-conn.Context().Done():
			stdin.Close()
			terminate(cmd)
			select {
			case <-ended:
			case <-time.After(exitGrace):
			}
		}
		kill(cmd) // and its children, who may hold on to the output
		select {
		case <-ended:
		case <-time.After(exitGrace):
			stdout.Close() // a child in a group of its own holds on to it
			<-ended
		}
		err := cmd.Wait()
		code, reason := wsd.StatusNormalClosure, ""
		if err != nil {
			code, reason = wsd.StatusInternalError, err.Error()
		}
		_ = conn.StartClose(code, reason)
		return nil
	})
	_ = g.Wait()
}

// sendLines sends each line as a text message. What is not UTF-8 in one is replaced.
func sendLines(conn *wsd.Conn, r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		line := bytes.ToValidUTF8(bytes.TrimSuffix(lines.Bytes(), []byte("\r")), []byte("\uFFFD"))
		if err := conn.Send(conn.Context(), wsd.TextBytes(line)); err != nil {
			return err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return conn.StartClose(wsd.StatusInternalError, "the program wrote a line that is too long")
	}
	return lines.Err()
}

// sendChunks sends bytes as they come.
func sendChunks(conn *wsd.Conn, r io.Reader) error {
	buffer := make([]byte, 16<<10) // less than Send would wait with
	for {
		n, err := r.Read(buffer)
		if n > 0 {
			if err := conn.Send(conn.Context(), wsd.Binary(buffer[:n])); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// logWriter logs what a program writes to its standard error, line by line.
type logWriter struct {
	s      *server
	remote string
	rest   []byte
}

func (l *logWriter) Write(b []byte) (int, error) {
	l.rest = append(l.rest, b...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok && len(l.rest) < 4096 {
			return len(b), nil
		}
		if !ok {
			line, rest = l.rest, nil
		}
		l.line(line)
		l.rest = rest
	}
}

func (l *logWriter) line(line []byte) {
	l.s.log.LogAttrs(context.Background(), slog.LevelInfo, "program", attr("remote", l.remote), attr("stderr", string(line)))
}

// flush logs what had no line end, once the program has ended.
func (l *logWriter) flush() {
	if len(l.rest) > 0 {
		l.line(l.rest)
	}
}

// Words takes a command line apart at spaces. Quotes keep words together, and a backslash takes the next character as it is,
// as in a shell, which is not involved.
func Words(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	begun, quote, escaped := false, rune(0), false
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, begun = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case r == ' ' || r == '\t' || r == '\n':
			if begun {
				words = append(words, word.String())
				word.Reset()
				begun = false
			}
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if begun {
		words = append(words, word.String())
	}
	switch {
	case quote != 0 || escaped:
		return nil, fmt.Errorf("expected a closing quote in %q", line)
	case len(words) == 0 || words[0] == "":
		return nil, errors.New("expected a program")
	}
	return words, nil
}
