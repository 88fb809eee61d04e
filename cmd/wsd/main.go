// Command wsd is for WebSockets what curl, a load generator and a wire tap are for other protocols.
//
//	wsd dial URL           talk to a server
//	wsd serve              echo, broadcast, run programs, bridge to TCP
//	wsd tunnel LISTEN URL  TCP through a WebSocket
//	wsd bench URL          load a server, measure rate and latency
//	wsd check URL          test a server, byte by byte
//	wsd tap LISTEN URL     show every frame between a client and a server
//	wsd replay FILE URL    play a recording of that again
//
// Run it as "go run ./cmd/wsd" in a clone, or install it with "go -C cmd/wsd install .". docs/command.md has the manual.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/seed62836080/wsd/cmd/wsd/internal/bench"
	"github.com/seed62836080/wsd/cmd/wsd/internal/check"
	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
	"github.com/seed62836080/wsd/cmd/wsd/internal/dial"
	"github.com/seed62836080/wsd/cmd/wsd/internal/replay"
	"github.com/seed62836080/wsd/cmd/wsd/internal/serve"
	"github.com/seed62836080/wsd/cmd/wsd/internal/tap"
	"github.com/seed62836080/wsd/cmd/wsd/internal/tunnel"
)

// app returns the program.
func app() *cli.App {
	return &cli.App{
		Name:     "wsd",
		Summary:  "wsd talks, serves, measures and looks into WebSockets.",
		Commands: []*cli.Command{dial.Command(), serve.Command(), tunnel.Command(), bench.Command(), check.Command(), tap.Command(), replay.Command()},
	}
}

//go:generate go test -run TestManual -update .

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once
	// A closed standard output is an error of the write, as everywhere else, so that connections are closed behind it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	env := cli.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Impatient: stop}
	os.Exit(app().Run(ctx, env, os.Args[1:]))
}
