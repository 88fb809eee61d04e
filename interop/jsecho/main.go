// Jsecho is an echo client, and no more than that: it connects to the URL that it is given, and sends back what it receives.
// It is the program whose size is bounded.
package main

import (
	"context"
	"os"

	"github.com/seed62836080/wsd"
)

func main() {
	ctx := context.Background()
	conn, _, err := wsd.Dial(ctx, os.Args[1], nil)
	if err != nil {
		println(err.Error())
		return
	}
	for msg := range conn.Messages() {
		if conn.Send(ctx, msg) != nil {
			return
		}
	}
}
