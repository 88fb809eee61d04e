// stream.go is what -stream and -show-pings add to a conversation.

package dial

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
	"github.com/seed62836080/wsd/cmd/wsd/internal/tty"
)

// streamAbove is how long a message may be that is held whole with -stream, in bytes.
const streamAbove = 64 << 10

// save writes a message to the file of -stream.
func (c *conversation) save(ctx context.Context, m wsd.Message) {
	// The loop that does so otherwise waits here; what has not come within CloseTimeout is cut off.
	stop := context.AfterFunc(ctx, func() { _ = c.conn.StartClose(wsd.StatusNormalClosure, "") })
	defer stop()
	body := m.Body()
	defer body.Close()
	n, err := io.Copy(c.file, body)
	if err != nil {
		c.err = fmt.Errorf("-stream: %w", err)
		c.close(wsd.StatusNormalClosure, "")
		return
	}
	c.note("%v message, %s", m.Type, tty.Bytes(n))
}

// traceOf returns a trace that tells of pings and pongs. What finds no room is not told: a peer can send very many.
func traceOf(notes chan<- string) *wsd.Trace {
	tell := func(text string) {
		select {
		case notes <- text:
		default:
		}
	}
	with := func(payload []byte) string {
		if len(payload) == 0 {
			return ""
		}
		return " " + cli.Line(fmt.Sprintf("%q", payload))
	}
	return &wsd.Trace{
		PingReceived: func(_ *wsd.Conn, payload []byte) { tell("ping from the server" + with(payload)) },
		PongReceived: func(_ *wsd.Conn, payload []byte) { tell("pong from the server" + with(payload)) },
		RoundTrip: func(_ *wsd.Conn, took time.Duration) {
			tell(fmt.Sprintf("round trip %v", took.Round(time.Microsecond)))
		},
	}
}
