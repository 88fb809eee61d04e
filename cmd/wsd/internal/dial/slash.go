// slash.go carries out the commands that can be typed.

package dial

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/tty"
)

const commands = `/ping [TEXT]            send a ping, show the round trip
/close [CODE [REASON]]  close the connection, with 1000 unless told
/binary FILE            send a file as a binary message
/json                   show JSON with indentation, or no longer
/stats                  what was sent and received
/help                   this
//TEXT                  send a text that begins with a slash`

// command carries out a line that begins with a slash.
func (c *conversation) command(line string) {
	line = strings.TrimSpace(line)
	name, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch name {
	case "/ping":
		c.ping(rest)
	case "/close":
		c.closeCommand(rest)
	case "/binary":
		c.sendFile(rest)
	case "/json":
		c.pretty = !c.pretty
		c.note("JSON is shown %s", map[bool]string{true: "with indentation", false: "as it comes"}[c.pretty])
	case "/stats":
		s := c.conn.Stats()
		c.note("messages: %s sent (%s), %s received (%s); %s wait to be sent", tty.Count(int64(s.MessagesSent)), tty.Bytes(int64(s.BytesSent)),
			tty.Count(int64(s.MessagesReceived)), tty.Bytes(int64(s.BytesReceived)), tty.Bytes(int64(s.QueuedBytes)))
	case "/help":
		for line := range strings.Lines(commands) {
			c.note("%s", strings.TrimRight(line, "\n"))
		}
	default:
		c.note("there is no command %s, /help lists them; /%s sends the text", name, line)
	}
}

// ping pings without keeping the conversation waiting.
func (c *conversation) ping(payload string) {
	var data []byte
	if payload != "" {
		data = []byte(payload)
	}
	conn, notes := c.conn, c.notes
	go func() {
		took, err := conn.Ping(conn.Context(), data)
		text := fmt.Sprintf("pong after %v", took.Round(time.Microsecond))
		if err != nil {
			text = strings.TrimPrefix(err.Error(), "wsd: ")
		}
		select {
		case notes <- text:
		case <-conn.Closed():
		}
	}()
}

func (c *conversation) closeCommand(rest string) {
	code := wsd.StatusNormalClosure
	word, reason, _ := strings.Cut(rest, " ")
	if word != "" {
		n, err := strconv.ParseUint(word, 10, 16)
		if err != nil {
			c.note("expected a code such as 1000 or 4001, got %q", word)
			return
		}
		code = wsd.StatusCode(n)
	}
	if !mayBeSent(code) {
		c.note("expected a code that may be sent: 1000 to 1003, 1007 to 1014 or 3000 to 4999, got %d", code)
		return
	}
	c.close(code, strings.TrimSpace(reason))
}

// mayBeSent reports whether a close frame may carry a code (RFC 6455, section 7.4).
func mayBeSent(code wsd.StatusCode) bool {
	return code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
}

func (c *conversation) sendFile(path string) {
	if path == "" {
		c.note("expected a file's name")
		return
	}
	data, err := os.ReadFile(path)
	if err != nil {
		c.note("%v", err)
		return
	}
	c.note("sending %s", tty.Bytes(int64(len(data))))
	c.dispatch(item{message: wsd.Binary(data)})
}
