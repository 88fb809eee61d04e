// Package replay is the verb replay: the client's side of a recording, played to a server again.
package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
	"github.com/seed62836080/wsd/cmd/wsd/internal/client"
	"github.com/seed62836080/wsd/cmd/wsd/internal/tty"
)

// options are the verb's flags.
type options struct {
	client.Options
	fast   bool
	wait   time.Duration
	only   int
	ignore *regexp.Regexp
	json   bool
	quiet  bool
}

// Command returns the verb.
func Command() *cli.Command {
	return &cli.Command{
		Name: "replay", Args: "FILE URL",
		Summary: "play the client's side of a recording, tell where answers differ",
		Text: "Each connection of the recording is made again, with its header fields and subprotocols, at the recorded path unless the URL " +
			"has one. Its messages, pings and close frame are sent with their timing, or with -fast as soon as the answers that came before them have come. " +
			"Answers are compared in order, by type and content. The exit status is 3 if one differs, is missing or is one too many, or " +
			"if a connection was closed with another code.",
		Examples: []cli.Example{
			{Line: "wsd replay session.jsonl ws://127.0.0.1:8080", Does: "as it was"},
			{Line: "wsd replay -fast session.jsonl URL", Does: "as fast as possible"},
			{Line: "wsd replay -ignore '\"ts\":\\d+' session.jsonl URL", Does: "but for times"},
		},
		New: func(f *cli.Flags) func(context.Context, cli.Env, []string) error {
			o := &options{wait: 2 * time.Second}
			f.Group("How")
			f.Bool(&o.fast, "fast", "do not wait for the times of the recording").Common()
			f.Duration(&o.wait, "wait", "how long to wait for an answer").Common()
			f.Int(&o.only, "conn", "NUMBER", "play one connection of the recording", 1).Common()
			f.Set("ignore", "REGEXP", "leave out of the comparison what matches in answers", func(s string) (err error) {
				if o.ignore, err = regexp.Compile(s); err != nil {
					err = errors.New(strings.TrimPrefix(err.Error(), "error parsing regexp: "))
				}
				return err
			}).Common()
			f.Bool(&o.json, "json", "write the results as JSON").Common()
			f.Bool(&o.quiet, "q", "write differences only").Common()
			f.Rare()
			o.Declare(f)
			return func(ctx context.Context, env cli.Env, args []string) error { return o.run(ctx, env, args) }
		},
	}
}

func (o *options) run(ctx context.Context, env cli.Env, args []string) error {
	if err := cli.Operands("FILE and a URL", args, 2, 2); err != nil {
		return err
	}
	scripts, err := load(args[0])
	if err != nil {
		return err
	}
	if o.only > 0 {
		var chosen []*script
		for _, s := range scripts {
			if s.conn == o.only {
				chosen = append(chosen, s)
			}
		}
		if scripts = chosen; len(scripts) == 0 {
			return cli.Usagef("-conn: there is no connection %d in %s", o.only, args[0])
		}
	}
	target, err := client.URL(args[1])
	if err != nil {
		return err
	}
	dial, err := o.DialOptions()
	if err != nil {
		return err
	}
	outcomes := make([]*outcome, len(scripts))
	var players sync.WaitGroup
	begin := time.Now()
	for i, s := range scripts {
		players.Go(func() {
			p := &player{options: o, script: s, target: target, dial: dial, begin: begin, offset: s.began.Sub(scripts[0].began)}
			outcomes[i] = p.play(ctx)
		})
	}
	players.Wait()
	return o.report(env.Stdout, outcomes)
}

// outcome is what came of one connection.
type outcome struct {
	Conn        int      `json:"conn"`
	Sent        int      `json:"sent"`
	Same        int      `json:"same"`
	Differences []string `json:"differences"`
	Failed      string   `json:"failed,omitempty"`
}

// mostShown bounds the differences of one connection that are told.
const mostShown = 20

func (o *options) report(w io.Writer, outcomes []*outcome) error {
	sent, same, differ, failed := 0, 0, 0, 0
	var b strings.Builder
	for _, c := range outcomes {
		sent, same, differ = sent+c.Sent, same+c.Same, differ+len(c.Differences)
		if c.Failed != "" {
			failed++
			fmt.Fprintf(&b, "#%d: %s\n", c.Conn, tty.Safe(c.Failed))
		}
		for i, d := range c.Differences {
			if i == mostShown {
				fmt.Fprintf(&b, "#%d: %d further differences\n", c.Conn, len(c.Differences)-i)
				break
			}
			fmt.Fprintf(&b, "#%d: %s\n", c.Conn, tty.Safe(d))
		}
	}
	if !o.quiet {
		fmt.Fprintf(&b, "%d connections, %d messages sent, %d answers the same, %d differences\n", len(outcomes), sent, same, differ)
	}
	var err error
	if o.json {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(outcomes)
	} else {
		_, err = io.WriteString(w, b.String())
	}
	switch {
	case err != nil:
		return err
	case differ > 0:
		return cli.ErrCheck
	case failed > 0:
		return cli.ErrTold
	}
	return nil
}
