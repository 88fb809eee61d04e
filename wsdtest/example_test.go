// example_test.go shows what the package is for, in functions that go test runs.

package wsdtest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"

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

// A whole server is tested in memory, here with a cookie; in a testing/synctest bubble its timeouts take no time.
func ExampleServe() {
	server := wsdtest.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := r.Cookie("session"); err != nil {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		if conn, err := wsd.Accept(w, r, nil); err == nil {
			conn.Close(wsd.StatusNormalClosure, "")
		}
	}))
	defer server.Close()

	ctx := context.Background()
	_, resp, _ := server.Dial(ctx, "/", nil)
	fmt.Println(resp.Status)
	conn, resp, err := server.Dial(ctx, "/", &wsd.DialOptions{Header: http.Header{"Cookie": {"session=1"}}})
	fmt.Println(resp.Status, err)
	<-conn.Closed()
	// Output:
	// 401 Unauthorized
	// 101 Switching Protocols <nil>
}

// Both ends of a connection that has agreed on a subprotocol.
func ExamplePair() {
	client, server := wsdtest.Pair(
		&wsd.DialOptions{Subprotocols: []string{"chat.v2", "chat.v1"}},
		&wsd.AcceptOptions{Subprotocols: []string{"chat.v1"}})
	fmt.Println(client.Subprotocol(), server.Subprotocol())
	client.Close(wsd.StatusNormalClosure, "")
	// Output: chat.v1 chat.v1
}
