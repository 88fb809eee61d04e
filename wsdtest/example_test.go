// example_test.go shows what the package is for, in functions that go test runs.

package wsdtest_test

import (
	"context"
	"fmt"
	"io"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// A handler is tested without a socket or a handshake.
func ExamplePipe() {
	shout := func(conn *wsd.Conn) {
		for msg := range conn.Messages() {
			conn.Send(conn.Context(), wsd.Text(string(msg.Data)+"!"))
		}
	}
	client, server := wsdtest.Pipe()
	go shout(server)

	ctx := context.Background()
	client.Send(ctx, wsd.Text("hello"))
	msg, err := client.Receive(ctx)
	fmt.Println(string(msg.Data), err)
	client.Close(wsd.StatusNormalClosure, "")
	// Output: hello! <nil>
}

// A test can play a peer byte by byte: here, a client that sends a ping and reads the pong.
func ExampleTransport() {
	transport, peer := wsdtest.Transport()
	conn := wsd.NewConn(transport, wsd.ServerRole, wsd.Config{})

	peer.Write([]byte("\x89\x82\x00\x00\x00\x00Hi"))
	pong := make([]byte, 4)
	io.ReadFull(peer, pong)
	fmt.Printf("%q\n", pong)
	conn.CloseNow()
	// Output: "\x8a\x02Hi"
}
