// Client sends one text message to a WebSocket server and prints the answer.
//
//	go run ./examples/client URL [TEXT]
//
// TEXT defaults to "Hi". The exit status is 0 after an answer, 1 if none came, and 2 if the command line is wrong. Ctrl-C
// stops waiting and closes the connection with 1001.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/seed62836080/wsd"
)

func main() {
	flag.Usage = usage
	flag.Parse()
	if flag.NArg() < 1 || flag.NArg() > 2 {
		fmt.Fprintf(os.Stderr, "client: expected a URL and at most one text, got %q\n\n", flag.Args())
		usage()
		os.Exit(2)
	}
	text := "Hi"
	if flag.NArg() == 2 {
		text = flag.Arg(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for the closing handshake
	if err := run(ctx, os.Stdout, flag.Arg(0), text); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprint(flag.CommandLine.Output(), `usage: client URL [TEXT]

Client sends one text message, "Hi" unless you give another, to a WebSocket server and prints the answer. URLs begin with
ws://, wss://, http:// or https://. A text of several words needs quotes.
`)
}

// run sends text to url and writes the answer and a newline to stdout.
func run(ctx context.Context, stdout io.Writer, url, text string) error {
	conn, _, err := wsd.Dial(ctx, url, nil)
	if err != nil {
		return err
	}
	answer, err := ask(ctx, conn, text)
	if err != nil {
		_ = conn.Close(wsd.StatusGoingAway, "") // err says more
		return err
	}
	_ = conn.Close(wsd.StatusNormalClosure, "") // the answer is here, however the connection ends
	_, err = fmt.Fprintf(stdout, "%s\n", answer.Data)
	return err
}

// ask sends text and returns the message that comes next.
func ask(ctx context.Context, conn *wsd.Conn, text string) (wsd.Message, error) {
	if err := conn.Send(ctx, wsd.Text(text)); err != nil {
		return wsd.Message{}, err
	}
	return conn.Receive(ctx)
}
