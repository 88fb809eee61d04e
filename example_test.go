// example_test.go shows every main use, in functions that the documentation prints and go test runs.

package wsd_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// webSocketURL is the WebSocket URL of a test server.
func webSocketURL(server *httptest.Server) string {
	return "ws" + strings.TrimPrefix(server.URL, "http")
}

// A server and a client, from the handshake to the end.
func Example() {
	ws := &wsd.Server{Handler: func(conn *wsd.Conn) {
		for msg := range conn.Messages() {
			conn.Send(conn.Context(), msg)
		}
	}}
	server := httptest.NewServer(ws)
	defer server.Close()

	ctx := context.Background()
	conn, _, err := wsd.Dial(ctx, webSocketURL(server), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	conn.Send(ctx, wsd.Text("hello"))
	msg, err := conn.Receive(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(msg.Type, string(msg.Data))
	conn.Close(wsd.StatusNormalClosure, "")
	fmt.Println(conn.CloseEvent().Code)
	// Output:
	// text hello
	// 1000 (normal closure)
}

// The natural loop: each message is the body's for one iteration, and its memory serves the next.
func ExampleConn_Each() {
	client, server := wsdtest.Pipe()
	ctx := context.Background()
	go func() {
		for msg, err := range server.Each(ctx) {
			if err != nil || server.Send(ctx, msg) != nil {
				return // it ended otherwise than by a closing handshake
			}
		}
	}()
	client.Send(ctx, wsd.Text("hello"))
	msg, err := client.Receive(ctx)
	fmt.Println(msg, err)
	client.Close(wsd.StatusNormalClosure, "")
	// Output: hello <nil>
}

// Values travel as JSON.
func ExampleConn_SendJSON() {
	type move struct {
		X, Y int
	}
	client, server := wsdtest.Pipe()
	ctx := context.Background()
	fmt.Println(client.SendJSON(ctx, move{3, 4}))
	var m move
	fmt.Println(server.ReceiveJSON(ctx, &m), m)
	client.CloseNow()
	// Output:
	// <nil>
	// <nil> {3 4}
}

// A sender that may not wait is told when there is no room, and once when there is some.
func ExampleConn_TrySend() {
	client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{SendQueue: 1000})
	update := wsd.Binary(make([]byte, 800))
	for {
		if err := server.TrySend(update); err != nil {
			fmt.Println(err) // the newest update will do, once there is room
			break
		}
	}
	room := make(chan struct{})
	server.NotifyRoom(func() { close(room) })
	go func() {
		for range client.Messages() {
		}
	}()
	<-room
	fmt.Println("room again")
	client.CloseNow()
	<-server.Closed()
	// Output:
	// wsd: the send queue is full
	// room again
}

// A login raises what its connection may send.
func ExampleConn_SetMaxMessageSize() {
	client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{MaxMessageSize: 1 << 10})
	ctx := context.Background()
	client.Send(ctx, wsd.Text("the password"))
	if msg, _ := server.Receive(ctx); msg.String() == "the password" {
		server.SetMaxMessageSize(1 << 20)
		server.Send(ctx, wsd.Text("welcome"))
	}
	client.Receive(ctx) // ahead of the answer, the old limit might hold
	client.Send(ctx, wsd.Binary(make([]byte, 100_000)))
	msg, err := server.Receive(ctx)
	fmt.Println(len(msg.Data), err)
	client.CloseNow()
	// Output: 100000 <nil>
}

// A server's log names its peers; a client reads what the server's answer to the handshake said.
func ExampleConn_RemoteAddr() {
	server := httptest.NewServer(&wsd.Server{
		AcceptOptions: wsd.AcceptOptions{Header: http.Header{"X-Node": {"7"}}},
		Handler: func(conn *wsd.Conn) {
			host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			conn.Send(conn.Context(), wsd.Text("hello "+host))
			<-conn.Closed()
		},
	})
	defer server.Close()
	ctx := context.Background()
	conn, _, err := wsd.Dial(ctx, webSocketURL(server), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close(wsd.StatusNormalClosure, "")
	msg, _ := conn.Receive(ctx)
	fmt.Printf("%s, from node %s at %v\n", msg, conn.Response().Header.Get("X-Node"), conn.RemoteAddr().Network())
	// Output: hello 127.0.0.1, from node 7 at tcp
}

// A server that speaks nothing but its own subprotocol refuses whoever does not ask for that.
func ExampleAcceptOptions_requireSubprotocol() {
	server := httptest.NewServer(&wsd.Server{
		AcceptOptions: wsd.AcceptOptions{Subprotocols: []string{"chat.v2"}, RequireSubprotocol: true},
		Handler:       func(conn *wsd.Conn) { <-conn.Closed() },
	})
	defer server.Close()
	for _, asked := range [][]string{nil, {"chat.v1"}, {"chat.v1", "chat.v2"}} {
		conn, resp, err := wsd.Dial(context.Background(), webSocketURL(server), &wsd.DialOptions{Subprotocols: asked})
		if err != nil {
			fmt.Println(resp.StatusCode)
			continue
		}
		fmt.Println(conn.Subprotocol())
		conn.Close(wsd.StatusNormalClosure, "")
	}
	// Output:
	// 400
	// 400
	// chat.v2
}

// A server that chooses by more than its own order of preference looks at what was asked for.
func ExampleSubprotocols() {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Sec-WebSocket-Protocol", "chat.v2, chat.v1")
	fmt.Println(wsd.Subprotocols(r))
	// Output: [chat.v2 chat.v1]
}

// What is encoded already needs no copy on its way into a text message.
func ExampleTextBytes() {
	client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{})
	defer client.CloseNow()
	ctx := context.Background()
	server.Send(ctx, wsd.TextBytes(strconv.AppendInt(nil, 42, 10)))
	msg, err := client.Receive(ctx)
	fmt.Println(msg, err)
	// Output: 42 <nil>
}

// A peer that cannot join fragments gets every message in one frame.
func ExampleConfig_maxFrameSize() {
	client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{MaxFrameSize: -1})
	defer client.CloseNow()
	go server.Send(context.Background(), wsd.Binary(make([]byte, 3<<20)))
	msg, err := client.Receive(context.Background())
	fmt.Println(len(msg.Data), err)
	// Output: 3145728 <nil>
}

// A publisher gives each message to all who have room for it, without a copy, and waits for nobody.
func ExampleConn_TrySendPrepared() {
	reader, reads := wsdtest.Pipe(wsd.Config{}, wsd.Config{})
	silent, deaf := wsdtest.Pipe(wsd.Config{MessageBuffer: -1}, wsd.Config{SendQueue: 1 << 10})
	defer reads.CloseNow()
	defer silent.CloseNow()
	go func() {
		for range reader.Messages() {
		}
	}()
	update, _ := wsd.Prepare(wsd.Binary(make([]byte, 500)))
	missed := map[*wsd.Conn]bool{}
	for len(missed) == 0 {
		for _, conn := range []*wsd.Conn{reads, deaf} {
			if err := conn.TrySendPrepared(update); errors.Is(err, wsd.ErrQueueFull) {
				missed[conn] = true
			}
		}
		reads.Flush(context.Background())
	}
	fmt.Println(missed[reads], missed[deaf])
	// Output: false true
}

// One select waits for everything that can happen. Messages is drained in any case: when it is closed, everything that
// arrived has been seen, and Receive or CloseEvent tell why there is no more.
func Example_select() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, peer := wsdtest.Pipe(wsd.Config{}, wsd.Config{})
	go func() {
		peer.Send(ctx, wsd.Text("one"))
		peer.Send(ctx, wsd.Text("two"))
		peer.Close(wsd.StatusGoingAway, "see you")
	}()

	ticker := time.NewTicker(time.Hour)
	defer ticker.Stop()
	messages, errs := conn.Messages(), conn.Errors()
	for messages != nil {
		select {
		case msg, ok := <-messages:
			if !ok {
				messages = nil // the last message has been received: the loop is over
				break
			}
			fmt.Println("message:", string(msg.Data))
		case err, ok := <-errs:
			if !ok {
				errs = nil // a closed channel is always ready, a nil one never
				break
			}
			fmt.Println("error:", err)
		case <-ticker.C:
			conn.Send(ctx, wsd.Text("still here"))
		case <-ctx.Done():
			conn.Close(wsd.StatusGoingAway, "") // Messages is closed soon
		}
	}
	<-conn.Closed()
	event := conn.CloseEvent()
	fmt.Println("closed:", event.Code, event.Reason, event.Clean)
	// Output:
	// message: one
	// message: two
	// closed: 1001 (going away) see you true
}

// A proxy couples two connections: the messages of each go to the other, and so does the end.
func ExampleRelay() {
	ended := make(chan wsd.CloseEvent, 1)
	back := httptest.NewServer(&wsd.Server{Handler: func(conn *wsd.Conn) {
		for msg := range conn.Messages() {
			conn.Send(conn.Context(), msg)
		}
		ended <- conn.CloseEvent()
	}})
	defer back.Close()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		backward, _, err := wsd.Dial(r.Context(), webSocketURL(back), nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		forward, err := wsd.Accept(w, r, nil)
		if err != nil {
			backward.CloseNow()
			return
		}
		go wsd.Relay(context.Background(), forward, backward)
	}))
	defer front.Close()

	ctx := context.Background()
	conn, _, err := wsd.Dial(ctx, webSocketURL(front), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	conn.Send(ctx, wsd.Text("hello"))
	msg, err := conn.Receive(ctx)
	fmt.Println(string(msg.Data), err)
	conn.Close(4000, "that was all")
	event := <-ended
	fmt.Println(event.Code, event.Reason)
	// Output:
	// hello <nil>
	// 4000 that was all
}

// An echo server with net/http: the handshake in a handler, the connection in the loop below it.
func ExampleAccept() {
	echo := func(w http.ResponseWriter, r *http.Request) {
		conn, err := wsd.Accept(w, r, nil)
		if err != nil {
			return // the request has been answered with what was wrong
		}
		for msg := range conn.Messages() {
			conn.Send(conn.Context(), msg)
		}
	}
	server := httptest.NewServer(http.HandlerFunc(echo))
	defer server.Close()

	fmt.Println(ask(webSocketURL(server), "hello"))
	// Output: hello
}

// ask sends text to url and returns the answer.
func ask(url, text string) string {
	ctx := context.Background()
	conn, _, err := wsd.Dial(ctx, url, nil)
	if err != nil {
		return err.Error()
	}
	defer conn.Close(wsd.StatusNormalClosure, "")
	conn.Send(ctx, wsd.Text(text))
	msg, err := conn.Receive(ctx)
	if err != nil {
		return err.Error()
	}
	return string(msg.Data)
}

// Options say who may connect and what a connection may cost.
func ExampleAcceptOptions() {
	opts := &wsd.AcceptOptions{
		Config: wsd.Config{
			MaxMessageSize: 1 << 20,          // bytes
			PingInterval:   10 * time.Second, // a proxy in between gives up after 15
			SlowConsumer:   wsd.CloseSlow,
		},
		Subprotocols: []string{"chat.v2", "chat.v1"}, // in order of preference
		Origins:      []string{"https://*.example.com"},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := wsd.Accept(w, r, opts)
		if err != nil {
			return
		}
		<-conn.Closed()
	}))
	defer server.Close()

	for _, origin := range []string{"https://app.example.com", "https://example.org"} {
		conn, resp, err := wsd.Dial(context.Background(), webSocketURL(server), &wsd.DialOptions{
			Header:       http.Header{"Origin": {origin}},
			Subprotocols: []string{"chat.v1", "chat.v2"},
		})
		if err != nil {
			fmt.Println(origin, resp.StatusCode)
			continue
		}
		fmt.Println(origin, conn.Subprotocol())
		conn.Close(wsd.StatusNormalClosure, "")
	}
	// Output:
	// https://app.example.com chat.v2
	// https://example.org 403
}

// A Server ends its connections when the http.Server above it shuts down: clients see 1001, and Shutdown waits for them.
func ExampleServer() {
	ws := &wsd.Server{Handler: func(conn *wsd.Conn) {
		for msg := range conn.Messages() {
			conn.Send(conn.Context(), msg)
		}
	}}
	limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	server := &http.Server{Handler: ws, ReadHeaderTimeout: 5 * time.Second}
	server.RegisterOnShutdown(func() { ws.Shutdown(limit) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	go server.Serve(listener)

	conn, _, err := wsd.Dial(context.Background(), "ws://"+listener.Addr().String(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}

	// This is what a program does on SIGTERM. The second call waits for what the first has begun.
	err = errors.Join(server.Shutdown(limit), ws.Shutdown(limit))
	fmt.Println("shut down:", err)
	<-conn.Closed()
	fmt.Println("client saw:", conn.CloseEvent().Code)
	// Output:
	// shut down: <nil>
	// client saw: 1001 (going away)
}

// What a Server counts is published under /debug/vars by expvar.
func ExampleServer_Stats() {
	ws := &wsd.Server{Handler: func(conn *wsd.Conn) {
		for msg := range conn.Messages() {
			conn.Send(conn.Context(), msg)
		}
	}}
	expvar.Publish("websockets", expvar.Func(func() any { return ws.Stats() }))
	mux := http.NewServeMux()
	mux.Handle("/echo", ws)
	mux.Handle("/debug/vars", expvar.Handler()) // for operators only
	server := httptest.NewServer(mux)
	defer server.Close()

	conn, _, err := wsd.Dial(context.Background(), server.URL+"/echo", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.CloseNow()
	conn.Send(context.Background(), wsd.Text("hello"))
	conn.Receive(context.Background())

	resp, err := http.Get(server.URL + "/debug/vars")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	var vars struct{ WebSockets wsd.ServerStats }
	if err := json.NewDecoder(resp.Body).Decode(&vars); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(vars.WebSockets.Connections, "connection,", vars.WebSockets.BytesReceived, "bytes received")
	// Output: 1 connection, 5 bytes received
}

// Dial opens a client's connection. Its context bounds only the handshake.
func ExampleDial() {
	server := httptest.NewServer(&wsd.Server{Handler: func(conn *wsd.Conn) {
		conn.Send(conn.Context(), wsd.Text("welcome"))
		<-conn.Closed()
	}})
	defer server.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	conn, _, err := wsd.Dial(ctx, webSocketURL(server), &wsd.DialOptions{
		Header: http.Header{"Authorization": {"Bearer s3cret"}},
	})
	cancel()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close(wsd.StatusNormalClosure, "")
	msg, err := conn.Receive(context.Background())
	fmt.Println(string(msg.Data), err)
	// Output: welcome <nil>
}

// Redial makes one connection after another. Here the server closes the first two with 1012, which means that it is back
// soon, and the last with a code that says not to come back.
func ExampleRedial() {
	var visits atomic.Int32
	server := httptest.NewServer(&wsd.Server{Handler: func(conn *wsd.Conn) {
		visit := visits.Add(1)
		conn.Send(conn.Context(), wsd.Text(fmt.Sprint("visit ", visit)))
		if visit < 3 {
			conn.Close(wsd.StatusServiceRestart, "back soon")
		} else {
			conn.Close(wsd.StatusUnauthorized, "three are enough")
		}
	}})
	defer server.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	opts := &wsd.RedialOptions{MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond}
	for conn, err := range wsd.Redial(ctx, webSocketURL(server), opts) {
		if err != nil {
			fmt.Println(err)
			continue
		}
		for msg := range conn.Messages() {
			fmt.Println(string(msg.Data))
		}
		// It ends after the last message: the next iteration gets the next connection.
	}
	// Output:
	// visit 1
	// visit 2
	// visit 3
	// wsd: connection closed: closed with 3000 (unauthorized): "three are enough" (attempt 3, the last)
}

// A test of a handler, handshake included, needs a server of net/http/httptest and a Dial. What the handler must refuse
// is in the error's Response.
func Example_testWithAHandshake() {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := r.Cookie("session")
		if err != nil {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		conn, err := wsd.Accept(w, r, &wsd.AcceptOptions{Subprotocols: []string{"chat.v1"}})
		if err != nil {
			return
		}
		defer conn.Close(wsd.StatusNormalClosure, "")
		conn.Send(conn.Context(), wsd.Text("hello "+session.Value))
	})

	server := httptest.NewServer(handler) // in a test: with t.Cleanup(server.Close) and t.Context()
	defer server.Close()
	ctx := context.Background()

	_, resp, err := wsd.Dial(ctx, webSocketURL(server), nil)
	var failed *wsd.HandshakeError
	fmt.Println(errors.As(err, &failed), resp.StatusCode)

	conn, _, err := wsd.Dial(ctx, webSocketURL(server), &wsd.DialOptions{
		Header:       http.Header{"Cookie": {"session=alice"}},
		Subprotocols: []string{"chat.v1"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	msg, err := conn.Receive(ctx)
	fmt.Println(conn.Subprotocol(), string(msg.Data), err)
	<-conn.Closed()
	fmt.Println(conn.CloseEvent().Code)
	// Output:
	// true 401
	// chat.v1 hello alice <nil>
	// 1000 (normal closure)
}

// NewConn makes a connection over any byte stream on which the handshake is already done, or that needs none.
func ExampleNewConn() {
	a, b := net.Pipe()
	client := wsd.NewConn(a, wsd.ClientRole, wsd.Config{})
	server := wsd.NewConn(b, wsd.ServerRole, wsd.Config{})

	ctx := context.Background()
	client.Send(ctx, wsd.Binary([]byte{1, 2, 3}))
	msg, _ := server.Receive(ctx)
	fmt.Println(msg.Type, msg.Data)
	fmt.Println(server.Close(wsd.StatusNormalClosure, ""))
	// Output:
	// binary [1 2 3]
	// <nil>
}

// Receive is a ready-made select over Messages, a context and the end.
func ExampleConn_Receive() {
	conn, peer := wsdtest.Pipe(wsd.Config{}, wsd.Config{})

	// A context that ends the wait leaves the connection as it was.
	short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err := conn.Receive(short)
	fmt.Println(errors.Is(err, context.DeadlineExceeded), conn.State())

	peer.Send(context.Background(), wsd.Text("late"))
	go peer.Close(wsd.StatusServiceRestart, "back soon")
	msg, _ := conn.Receive(context.Background())
	fmt.Println(string(msg.Data))

	// The end comes after the last message, with its cause.
	_, err = conn.Receive(context.Background())
	var closed *wsd.CloseError
	if errors.Is(err, wsd.ErrClosed) && errors.As(err, &closed) {
		fmt.Println(closed.Code, closed.Reason)
	}
	// Output:
	// true open
	// late
	// 1012 (service restart) back soon
}

// Send is safe from any goroutine. Concurrent senders share writes.
func ExampleConn_Send() {
	conn, peer := wsdtest.Pipe(wsd.Config{}, wsd.Config{})
	ctx := context.Background()

	var senders sync.WaitGroup
	for i := range 100 {
		senders.Go(func() {
			if err := conn.Send(ctx, wsd.Text(fmt.Sprint(i))); err != nil {
				fmt.Println(err)
			}
		})
	}
	go func() {
		senders.Wait()
		conn.Close(wsd.StatusNormalClosure, "") // what is queued goes ahead of the close frame
	}()

	received := 0
	for range peer.Messages() {
		received++
	}
	fmt.Println(received)

	<-conn.Closed()
	fmt.Println(conn.Send(ctx, wsd.Text("too late")))
	// Output:
	// 100
	// wsd: connection closed: closed with 1000 (normal closure)
}

// Flush waits until everything that was sent before is on its way.
func ExampleConn_Flush() {
	conn, peer := wsdtest.Pipe(wsd.Config{}, wsd.Config{})
	defer peer.CloseNow()
	ctx := context.Background()
	for range 10 {
		conn.Send(ctx, wsd.Text("tick"))
	}
	fmt.Println(conn.Flush(ctx))
	// Output: <nil>
}

// Ping measures the round trip. It needs a peer that reads, and a Messages channel that is drained.
func ExampleConn_Ping() {
	conn, peer := wsdtest.Pipe(wsd.Config{}, wsd.Config{})
	defer peer.CloseNow()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	roundTrip, err := conn.Ping(ctx, nil)
	fmt.Println(roundTrip > 0, err)
	// Output: true <nil>
}

// Writer sends one message in pieces, without ever holding all of it.
func ExampleConn_Writer() {
	conn, peer := wsdtest.Pipe(wsd.Config{}, wsd.Config{})
	defer peer.CloseNow()
	go func() {
		w := conn.Writer(context.Background(), wsd.TextMessage, nil)
		if _, err := io.Copy(w, strings.NewReader("a report of many pages")); err != nil {
			fmt.Println(err)
		}
		if err := w.Close(); err != nil { // the message is complete only now
			fmt.Println(err)
		}
	}()
	msg, err := peer.Receive(context.Background())
	fmt.Println(string(msg.Data), err)
	// Output: a report of many pages <nil>
}

// An upload goes to disk while it arrives, with a digest, whatever its size: a message above StreamAbove is never held whole.
func ExampleMessage_Body() {
	conn, peer := wsdtest.Pipe(wsd.Config{}, wsd.Config{StreamAbove: 64 << 10, MaxMessageSize: 1 << 30})
	defer conn.CloseNow()
	go func() {
		w := conn.Writer(context.Background(), wsd.BinaryMessage, nil)
		io.Copy(w, io.LimitReader(rand.NewChaCha8([32]byte{}), 10<<20))
		w.Close()
	}()

	save := func(msg wsd.Message) (digest []byte, size int64, err error) {
		body := msg.Body()
		defer body.Close() // of what is not read, the rest is discarded
		file, err := os.CreateTemp("", "upload-")
		if err != nil {
			return nil, 0, err
		}
		defer os.Remove(file.Name()) // an upload that breaks off leaves nothing behind
		defer file.Close()
		sum := sha256.New()
		if size, err = io.Copy(io.MultiWriter(file, sum), body); err != nil {
			return nil, size, err
		}
		return sum.Sum(nil), size, file.Close() // here it would get its name
	}
	msg, err := peer.Receive(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	digest, size, err := save(msg)
	fmt.Printf("%t %d %x %v\n", msg.Streamed(), size, digest[:4], err)
	// Output: true 10485760 38bcb86d <nil>
}

// A tunnel: what a client says to one end comes out at a TCP server behind the other.
func ExampleNetConn() {
	greeter, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer greeter.Close()
	go func() {
		tcp, err := greeter.Accept()
		if err != nil {
			return
		}
		defer tcp.Close()
		name, _ := bufio.NewReader(tcp).ReadString('\n')
		fmt.Fprintf(tcp, "hello, %s", name)
	}()

	conn, peer := wsdtest.Pipe()
	go func() { // the far end of the tunnel
		stream := wsd.NetConn(peer, wsd.BinaryMessage)
		defer stream.Close()
		tcp, err := net.Dial("tcp", greeter.Addr().String())
		if err != nil {
			return
		}
		defer tcp.Close()
		go io.Copy(tcp, stream)
		io.Copy(stream, tcp)
	}()

	stream := wsd.NetConn(conn, wsd.BinaryMessage)
	defer stream.Close()
	fmt.Fprintln(stream, "wsd")
	greeting, err := io.ReadAll(stream) // to the end, which the server begins
	fmt.Printf("%q %v\n", greeting, err)
	// Output: "hello, wsd\n" <nil>
}

// Close performs the closing handshake, in bounded time. Afterwards CloseEvent has the code and reason, on both sides.
func ExampleConn_Close() {
	conn, peer := wsdtest.Pipe(wsd.Config{CloseTimeout: time.Second}, wsd.Config{})
	fmt.Println(conn.Close(4001, "session expired"))

	<-peer.Closed()
	event := peer.CloseEvent()
	fmt.Println(event.Code, event.Reason, event.Clean)

	// Codes that may not be sent are refused before anything happens.
	fmt.Println(conn.Close(1006, ""))
	// Output:
	// <nil>
	// 4001 session expired true
	// wsd: cannot close with 1006 (abnormal closure): this code may not be sent
}

// A login that ends with its token is renewed over the connection: the client sends a new token in time.
func ExampleConn_ExpireAt() {
	verify := func(token string) (until time.Time, err error) { // as a library for tokens would
		life, err := time.ParseDuration(token)
		return time.Now().Add(life), err
	}
	var ws wsd.Server
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		until, err := verify(r.Header.Get("Authorization"))
		if err != nil {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		ws.Serve(w, r, nil, func(conn *wsd.Conn) {
			conn.ExpireAt(until)
			for msg := range conn.Messages() {
				token, renews := strings.CutPrefix(string(msg.Data), "token ")
				if !renews {
					conn.Send(conn.Context(), msg)
				} else if until, err := verify(token); err == nil {
					conn.ExpireAt(until)
					conn.Send(conn.Context(), wsd.Text("renewed"))
				}
			}
		})
	}))
	defer server.Close()

	conn, _, err := wsd.Dial(context.Background(), webSocketURL(server), &wsd.DialOptions{
		Header: http.Header{"Authorization": {"1h"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.CloseNow()
	conn.Send(context.Background(), wsd.Text("token 50ms"))
	for msg := range conn.Messages() {
		fmt.Println(string(msg.Data))
	}
	<-conn.Closed()
	fmt.Println(conn.CloseEvent().Code, conn.CloseEvent().Reason)
	// Output:
	// renewed
	// 3000 (unauthorized) the login has expired
}

// Errors tells what went wrong. It need not be read, and is closed without a value after a clean end.
func ExampleConn_Errors() {
	transport, peer := wsdtest.Transport()
	conn := wsd.NewConn(transport, wsd.ServerRole, wsd.Config{})

	peer.Write([]byte("\x81\x02Hi")) // a client must mask its frames
	for err := range conn.Errors() {
		fmt.Println(err)
		var violation *wsd.ProtocolError
		fmt.Println(errors.As(err, &violation))
		peer.Close()
	}
	// Output:
	// wsd: unmasked frame from a client (RFC 6455, section 5.1), closing with 1002 (protocol error)
	// true
}

// Context ends with the connection, and bounds work done for it.
func ExampleConn_Context() {
	conn, peer := wsdtest.Pipe(wsd.Config{}, wsd.Config{})
	work := func(ctx context.Context) error {
		<-ctx.Done() // a long query
		return context.Cause(ctx)
	}
	go peer.Close(wsd.StatusGoingAway, "page left")
	fmt.Println(work(conn.Context()))
	// Output: wsd: closed with 1001 (going away): "page left"
}

// A policy says what happens if the consumer is slow. DropSlow suits feeds in which gaps do no harm: messages already
// waiting are kept, and those that arrive while there is no room are lost.
func ExampleSlowConsumerPolicy() {
	conn, peer := wsdtest.Pipe(wsd.Config{SlowConsumer: wsd.DropSlow, MessageBuffer: 1}, wsd.Config{})
	for i := range 10 {
		peer.Send(context.Background(), wsd.Text(fmt.Sprint("price ", i)))
	}
	peer.Close(wsd.StatusNormalClosure, "")

	<-conn.Closed() // nobody has received anything so far
	for msg := range conn.Messages() {
		fmt.Println(string(msg.Data))
	}
	fmt.Println(conn.Stats().MessagesDropped, "dropped")
	fmt.Println(<-conn.Errors())
	// Output:
	// price 0
	// 9 dropped
	// wsd: messages are not being received
}

// JSON turns a value into a text message, and Decode a message into a value.
func ExampleJSON() {
	type move struct {
		X, Y int
	}
	msg, err := wsd.JSON(move{3, 4})
	fmt.Println(string(msg.Data), err)

	var got move
	fmt.Println(msg.Decode(&got), got.X, got.Y)
	// Output:
	// {"X":3,"Y":4} <nil>
	// <nil> 3 4
}

// A Parser takes bytes from anywhere, cut anywhere: here, two pieces of what a server has sent.
func ExampleParser() {
	parser := wsd.NewParser(wsd.ClientRole, wsd.Config{})
	for _, piece := range []string{"\x89\x00\x81\x05Hel", "lo\x88\x02\x03\xe8"} {
		for b := []byte(piece); len(b) > 0; {
			event, n, err := parser.Parse(b)
			if err != nil {
				fmt.Println(err) // a *ProtocolError, with the code to close with
				return
			}
			b = b[n:]
			switch event.Opcode {
			case wsd.OpText, wsd.OpBinary:
				fmt.Printf("%s %q\n", event.Opcode, event.Message().Data)
			case wsd.OpPing, wsd.OpPong:
				fmt.Printf("%s %q\n", event.Opcode, event.Data)
			case wsd.OpClose:
				fmt.Println("close", event.Code)
			}
		}
	}
	// Output:
	// ping ""
	// text "Hello"
	// close 1000 (normal closure)
}

// Compression is off unless both sides ask for it. Extensions says what they agreed on.
func ExampleCompression() {
	server := httptest.NewServer(&wsd.Server{
		Handler: func(conn *wsd.Conn) {
			for msg := range conn.Messages() {
				conn.Send(conn.Context(), msg)
			}
		},
		AcceptOptions: wsd.AcceptOptions{Config: wsd.Config{Compression: &wsd.Compression{ServerNoContextTakeover: true}}},
	})
	defer server.Close()

	ctx := context.Background()
	conn, _, err := wsd.Dial(ctx, webSocketURL(server), &wsd.DialOptions{
		Config: wsd.Config{Compression: &wsd.Compression{}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close(wsd.StatusNormalClosure, "")
	fmt.Println(conn.Extensions())

	conn.Send(ctx, wsd.Text(strings.Repeat("over and ", 1000)))
	secret := wsd.Text("a secret beside text of the peer's choice")
	secret.Compress = wsd.CompressNever
	conn.Send(ctx, secret)
	for range 2 {
		msg, err := conn.Receive(ctx)
		fmt.Println(len(msg.Data), err)
	}
	// Output:
	// permessage-deflate; server_no_context_takeover
	// 9000 <nil>
	// 41 <nil>
}

// A message for many connections is prepared once.
func ExamplePrepare() {
	ctx := context.Background()
	var subscribers, clients []*wsd.Conn
	for range 3 {
		client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{})
		defer client.CloseNow()
		subscribers, clients = append(subscribers, server), append(clients, client)
	}

	news, err := wsd.Prepare(wsd.Text("news"))
	if err != nil {
		fmt.Println(err)
	}
	for _, conn := range subscribers {
		if err := conn.SendPrepared(ctx, news); err != nil {
			fmt.Println(err)
		}
	}
	for _, client := range clients {
		msg, err := client.Receive(ctx)
		fmt.Println(string(msg.Data), err)
	}
	// Output:
	// news <nil>
	// news <nil>
	// news <nil>
}
