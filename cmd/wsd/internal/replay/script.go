// script.go reads a recording into what each connection sends and is answered.

package replay

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
	"github.com/seed62836080/wsd/cmd/wsd/internal/tap"
)

// script is one connection of a recording.
type script struct {
	conn    int
	began   time.Time
	request *http.Request
	steps   []step
	answers []wsd.Message
	code    int // of the server's close frame, 0 if there was none

	client, server assembly
}

// step is something that the client sends.
type step struct {
	at      time.Duration // since the connection began
	answers int           // how many had come by then
	message wsd.Message
	opcode  wsd.Opcode // text and binary for a message, ping or close
	code    int
	reason  string
}

// assembly is a message of which not all frames have come.
type assembly struct {
	kind wsd.Opcode
	data []byte
	cut  bool
}

// load reads a recording.
func load(path string) ([]*script, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, cli.Usagef("%v", err)
	}
	defer f.Close()
	var scripts []*script
	lines := bufio.NewReader(f)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			if scripts, err = read(scripts, line); err != nil {
				return nil, fmt.Errorf("%s, line %d: %w", path, number, err)
			}
			continue
		}
		switch {
		case errors.Is(err, io.EOF) && len(scripts) == 0:
			return nil, fmt.Errorf("%s: no connection was recorded", path)
		case errors.Is(err, io.EOF):
			return scripts, nil
		case err != nil:
			return nil, err
		}
	}
}

// read adds one line.
func read(scripts []*script, line []byte) ([]*script, error) {
	var e tap.Event
	if err := json.Unmarshal(line, &e); err != nil {
		return scripts, fmt.Errorf("expected a JSON object: %w", err)
	}
	if e.Event == "open" {
		request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader([]byte(e.Request))))
		if err != nil {
			return scripts, fmt.Errorf("the request: %w", err)
		}
		return append(scripts, &script{conn: e.Conn, began: e.Time, request: request}), nil
	}
	at := slices.IndexFunc(scripts, func(s *script) bool { return s.conn == e.Conn })
	switch {
	case at < 0:
		return scripts, fmt.Errorf("connection %d has not been opened", e.Conn)
	case e.Event == "end":
		return scripts, nil
	case e.Event != "frame" || e.From != "client" && e.From != "server":
		return scripts, fmt.Errorf("expected open, end, or a frame from client or server, got %q from %q", e.Event, e.From)
	}
	return scripts, scripts[at].frame(&e)
}

// frame adds a frame, or a part of one.
func (s *script) frame(e *tap.Event) error {
	data, err := e.Data()
	if err != nil {
		return fmt.Errorf("base64: %w", err)
	}
	opcode := wsd.Opcode(e.Opcode)
	if opcode&8 != 0 {
		return s.control(e, opcode, data)
	}
	a := &s.client
	if e.From == "server" {
		a = &s.server
	}
	if opcode != wsd.OpContinuation && e.Offset == 0 {
		*a = assembly{kind: opcode}
	}
	a.data = append(a.data, data...)
	a.cut = a.cut || e.Cut
	if e.More || !e.Fin {
		return nil
	}
	message := wsd.Message{Type: wsd.MessageType(a.kind), Data: a.data}
	cut := a.cut
	*a = assembly{}
	switch {
	case message.Type != wsd.TextMessage && message.Type != wsd.BinaryMessage:
		return nil // what broke the protocol is not played
	case cut:
		return errors.New("the message is longer than a recording holds, so it cannot be played")
	case e.From == "server":
		s.answers = append(s.answers, message)
	default:
		s.steps = append(s.steps, step{at: e.Time.Sub(s.began), answers: len(s.answers), message: message, opcode: wsd.Opcode(message.Type)})
	}
	return nil
}

func (s *script) control(e *tap.Event, opcode wsd.Opcode, data []byte) error {
	switch {
	case opcode == wsd.OpClose && e.From == "server":
		s.code = e.Code
		if e.Code == 0 {
			s.code = int(wsd.StatusNoStatus)
		}
	case e.From == "server":
	case opcode == wsd.OpPing && len(data) <= 125:
		s.steps = append(s.steps, step{at: e.Time.Sub(s.began), answers: len(s.answers), opcode: opcode, message: wsd.Binary(data)})
	case opcode == wsd.OpClose && s.code == 0: // not the answer to the server's
		st := step{at: e.Time.Sub(s.began), answers: len(s.answers), opcode: opcode, code: e.Code}
		if len(data) > 2 {
			st.reason = string(data[2:])
		}
		s.steps = append(s.steps, st)
	}
	return nil
}
