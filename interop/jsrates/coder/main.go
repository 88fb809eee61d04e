// Coder measures coder/websocket's client.
package main

import (
	"context"

	"github.com/coder/websocket"

	"github.com/seed62836080/wsd/interop/jsrates"
)

type conn struct{ *websocket.Conn }

func (c conn) Send(ctx context.Context, text bool, data []byte) error {
	if text {
		return c.Write(ctx, websocket.MessageText, data)
	}
	return c.Write(ctx, websocket.MessageBinary, data)
}

func (c conn) Receive(ctx context.Context) ([]byte, error) {
	_, data, err := c.Read(ctx)
	return data, err
}

func (c conn) Close() error { return c.Conn.Close(websocket.StatusNormalClosure, "") }

func main() {
	jsrates.Main(func(ctx context.Context, url string) (jsrates.Conn, error) {
		c, _, err := websocket.Dial(ctx, url, nil)
		if err != nil {
			return nil, err
		}
		c.SetReadLimit(-1)
		return conn{c}, nil
	})
}
