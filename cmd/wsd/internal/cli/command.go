// Package cli is what all verbs of a command have in common: flags that stand anywhere, help, shell completion and a manual
// that are made from one declaration, and exit statuses that scripts can rely on.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/seed62836080/wsd/cmd/wsd/internal/tty"
)

// The exit statuses.
const (
	StatusDone   = 0 // it was done
	StatusFailed = 1 // the peer, the network or this machine failed
	StatusUsage  = 2 // it was called wrongly
	StatusCheck  = 3 // it was done, and what was checked is not as it should be
)

// Command is one verb.
type Command struct {
	Name     string
	Args     string // what is expected besides flags, as in "LISTEN URL"
	Summary  string // one line, which begins with a verb and has no full stop
	Text     string // a paragraph for the manual and for help VERB
	Examples []Example
	// Meant says what somebody who is used to another program means by a flag that this verb does not have.
	Meant map[string]string
	// New returns a fresh run of the verb: it declares its flags, and what is returned is called once they are set.
	New func(*Flags) func(ctx context.Context, env Env, args []string) error
}

// Example is a line that can be typed, and what it does.
type Example struct{ Line, Does string }

// Env is what a verb has of the outside.
type Env struct {
	Stdin          *os.File
	Stdout, Stderr io.Writer
	// Impatient has the next interrupt end the process at once, as the second one does anyway.
	Impatient func()
}

// UsageError is the error of a verb that was called wrongly.
type UsageError struct{ Problem string }

// Error says what was expected and what came.
func (e *UsageError) Error() string { return e.Problem }

// Usagef returns a UsageError.
func Usagef(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// ErrCheck is returned by a verb that has found, and told, that something is not as it should be.
var ErrCheck = errors.New("a check failed")

// ErrTold is returned by a verb that failed and has told why.
var ErrTold = errors.New("failed, and said why")

// Status returns the exit status for what a verb returned.
func Status(err error) int {
	var usage *UsageError
	switch {
	case err == nil, closedOutput(err):
		return StatusDone
	case errors.As(err, &usage):
		return StatusUsage
	case errors.Is(err, ErrCheck):
		return StatusCheck
	}
	return StatusFailed
}

// closedOutput reports whether whoever read the standard output has had enough, as head does.
func closedOutput(err error) bool {
	var path *os.PathError
	return errors.As(err, &path) && path.Path == os.Stdout.Name() && errors.Is(err, syscall.EPIPE)
}

// App is a program with verbs.
type App struct {
	Name     string
	Summary  string
	Commands []*Command
}

// Run runs a program: args are what follows its name. It returns the exit status.
func (a *App) Run(ctx context.Context, env Env, args []string) int {
	err := a.dispatch(ctx, env, args)
	status := Status(err)
	if status != StatusDone && !errors.Is(err, ErrTold) && !errors.Is(err, ErrCheck) {
		name := a.Name
		if len(args) > 0 && (a.command(args[0]) != nil || args[0] == "completion") {
			name += " " + args[0]
		}
		fmt.Fprintf(env.Stderr, "%s: %s\n", name, Line(err.Error()))
		if status == StatusUsage {
			fmt.Fprintf(env.Stderr, "%s -h shows examples and flags\n", name)
		}
	}
	return status
}

func (a *App) dispatch(ctx context.Context, env Env, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(env.Stderr, a.overview())
		return ErrToldUsage
	}
	switch verb := strings.TrimLeft(args[0], "-"); {
	case verb == "help", args[0] == "-h", args[0] == "--h":
		text, err := a.help(args[1:])
		if err != nil {
			return err
		}
		_, err = io.WriteString(env.Stdout, text)
		return err
	case verb == "version":
		_, err := fmt.Fprintln(env.Stdout, a.Name, version())
		return err
	case verb == "completion":
		script, err := a.completion(args[1:])
		if err != nil {
			return err
		}
		_, err = io.WriteString(env.Stdout, script)
		return err
	}
	c := a.command(args[0])
	if c == nil {
		return a.unknown(args[0])
	}
	flags := newFlags()
	run := c.New(flags)
	operands, err := flags.parse(c, args[1:])
	if errors.Is(err, errHelp) {
		_, err = io.WriteString(env.Stdout, a.shortHelp(c))
		return err
	}
	if err != nil {
		return err
	}
	return run(ctx, env, operands)
}

// help returns what help shows, of a verb or of all.
func (a *App) help(args []string) (string, error) {
	if len(args) == 0 || args[0] == "help" || args[0] == "version" {
		return a.overview(), nil
	}
	if args[0] == "completion" {
		return a.completionHelp(), nil
	}
	c := a.command(args[0])
	if c == nil {
		return "", a.unknown(args[0])
	}
	return a.fullHelp(c), nil
}

// ErrToldUsage is ErrTold for a wrong call.
var ErrToldUsage = errors.Join(ErrTold, &UsageError{"expected a verb"})

func (a *App) command(name string) *Command {
	i := slices.IndexFunc(a.Commands, func(c *Command) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return a.Commands[i]
}

// unknown is the error of a first word that is no verb, with what was probably meant.
func (a *App) unknown(word string) error {
	var names []string
	for _, c := range a.Commands {
		names = append(names, c.Name)
	}
	switch near := nearest(word, append(names, "help", "version", "completion")); {
	case strings.Contains(word, "://"):
		return Usagef("expected a verb before the URL, as in: %s %s %s", a.Name, names[0], word)
	case strings.HasPrefix(word, "-"):
		return Usagef("expected a verb before %s: %s", word, strings.Join(names, ", "))
	case near != "":
		return Usagef("there is no verb %q, did you mean %s?", word, near)
	}
	return Usagef("there is no verb %q, expected one of %s", word, strings.Join(names, ", "))
}

// Operands checks how many operands there are.
func Operands(c string, args []string, least, most int) error {
	switch {
	case len(args) < least:
		return Usagef("expected %s", c)
	case len(args) > most:
		return Usagef("unexpected argument %q, expected %s", args[most], c)
	}
	return nil
}

// Line returns text as one line that a terminal shows as it is, for what others have written.
func Line(text string) string {
	return tty.Safe(lineEnds.Replace(strings.TrimSpace(text)))
}

var lineEnds = strings.NewReplacer("\r\n", " ", "\n", " ", "\t", " ")
