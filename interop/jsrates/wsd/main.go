// Wsd measures wsd's client.
package main

import (
	"context"
	"os"
	"strconv"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/interop/jsrates"
)

type conn struct{ *wsd.Conn }

func (c conn) Send(ctx context.Context, text bool, data []byte) error {
	if text {
		return c.Conn.Send(ctx, wsd.Message{Type: wsd.TextMessage, Data: data})
	}
	return c.Conn.Send(ctx, wsd.Binary(data))
}

func (c conn) Receive(ctx context.Context) ([]byte, error) {
	msg, err := c.Conn.Receive(ctx)
	return msg.Data, err
}

func (c conn) Close() error { return c.Conn.Close(wsd.StatusNormalClosure, "") }

func main() {
	var opts wsd.DialOptions
	if len(os.Args) > jsrates.Args { // how many bytes the browser may hold
		var err error
		if opts.SendQueue, err = strconv.Atoi(os.Args[jsrates.Args]); err != nil {
			panic(err)
		}
	}
	jsrates.Main(func(ctx context.Context, url string) (jsrates.Conn, error) {
		c, _, err := wsd.Dial(ctx, url, &opts)
		return conn{c}, err
	})
}
