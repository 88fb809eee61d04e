// Jsstay is an echo client that stays: it connects to the URL that it is given, again and again, and sends back what it
// receives. A page with it is left and come back to. With a second argument, which is how many connections it has at a time,
// the conformance suite judges it, and it prints nothing: in node, a program waits for what it prints.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/seed62836080/wsd"
)

func main() {
	var out io.Writer = os.Stdout
	if len(os.Args) > 2 {
		n, _ := strconv.Atoi(os.Args[2])
		out = io.Discard
		for range n - 1 {
			go stay(os.Args[1], out)
		}
	}
	stay(os.Args[1], out)
}

// stay keeps a connection.
func stay(url string, out io.Writer) {
	ctx := context.Background()
	opts := &wsd.RedialOptions{
		MinBackoff: time.Millisecond, MaxBackoff: 100 * time.Millisecond, ResetAfter: -1,
		Permanent: func(error) bool { return false },
	}
	for conn, err := range wsd.Redial(ctx, url, opts) {
		if err != nil {
			fmt.Fprintln(out, err)
			continue
		}
		fmt.Fprintln(out, "connected")
		echo(ctx, conn)
		<-conn.Closed()
		fmt.Fprintln(out, "closed:", conn.CloseEvent().Err)
	}
}

// echo sends back what comes, until the connection ends.
func echo(ctx context.Context, conn *wsd.Conn) {
	for msg := range conn.Messages() {
		if conn.Send(ctx, msg) != nil {
			return
		}
	}
}
