// talk.go leads the conversation: what is sent and what is received on one connection after another.

package dial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
	"github.com/seed62836080/wsd/cmd/wsd/internal/client"
)

// dialer is one run of the verb. Its goroutine alone uses it.
type dialer struct {
	*options
	target      string
	dial        *wsd.DialOptions
	input       <-chan item
	out         *printer
	stderr      io.Writer
	screen      *screen // if it is interactive
	interactive bool

	pending  *item // was to be sent when the last connection ended
	received int   // messages on all connections
	sent     int
	finished bool  // there is no more input
	output   error // of the first write that failed
}

// note tells something about the connection.
func (d *dialer) note(format string, args ...any) {
	if d.quiet {
		return
	}
	fmt.Fprintln(d.stderr, d.mark()+cli.Line(fmt.Sprintf(format, args...)))
}

func (d *dialer) mark() string {
	if d.interactive {
		return d.screen.mark()
	}
	return ""
}

// connect talks on one connection, or with -reconnect on one after another.
func (d *dialer) connect(ctx context.Context) error {
	traced := ctx
	if d.verbose {
		traced = client.Trace(ctx, d.stderr, d.target, d.dial)
	}
	if d.reconnect {
		return d.connectAgain(ctx, traced)
	}
	conn, response, err := wsd.Dial(traced, d.target, d.dial)
	if d.verbose {
		client.ShowAnswer(d.stderr, response)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil // Ctrl-C, or the time of -for
		}
		return errors.New(client.Describe(err))
	}
	_, err = d.talk(ctx, conn)
	return d.judge(conn, err)
}

// connectAgain is connect with -reconnect. What one connection has not taken is sent on the next.
func (d *dialer) connectAgain(ctx, traced context.Context) error {
	var last error
	for conn, err := range wsd.Redial(traced, d.target, &wsd.RedialOptions{DialOptions: *d.dial}) {
		if err != nil {
			last = err
			d.note("%s", strings.TrimPrefix(err.Error(), "wsd: "))
			continue
		}
		last = nil
		if d.verbose {
			client.ShowAnswer(d.stderr, conn.Response())
		}
		done, err := d.talk(ctx, conn)
		err = d.judge(conn, err)
		if done || d.output != nil {
			return err
		}
	}
	if last != nil && ctx.Err() == nil {
		return cli.ErrTold // Redial has given up
	}
	return nil
}

// judge tells how a connection ended, and returns an error unless that was as it should be.
func (d *dialer) judge(conn *wsd.Conn, err error) error {
	<-conn.Closed()
	event := conn.CloseEvent()
	normal := event.Clean && (event.Local || event.Code == wsd.StatusNormalClosure || event.Code == wsd.StatusGoingAway ||
		event.Code == wsd.StatusNoStatus)
	if d.output == nil {
		d.output = d.out.closed(event, !normal)
	}
	switch text := ending(event); {
	case d.output != nil:
		return d.output
	case !normal && !d.interactive && !d.reconnect:
		return errors.New(text)
	case !normal:
		d.note("%s", text)
		return cli.ErrTold
	default:
		d.note("%s", text)
		return err
	}
}
