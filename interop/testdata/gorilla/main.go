// Command gorilla does with gorilla/websocket what programs do wrong or at odd times, and prints what comes of it.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

func main() {
	for _, c := range cases {
		fmt.Println("#", c.name)
		client, server, stop := pair()
		c.run(client, server)
		stop()
	}
	fmt.Println("# a thousand connections")
	leaks()
}

func pair() (client, server *websocket.Conn, stop func()) {
	accepted := make(chan *websocket.Conn, 1)
	upgrader := websocket.Upgrader{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		check(err)
		accepted <- conn
	}))
	client, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.URL, "http"), nil)
	check(err)
	server = <-accepted
	return client, server, func() {
		_ = client.Close()
		_ = server.Close()
		s.Close()
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// say prints what is known of an error, but not the text of the system's.
func say(what string, err error) {
	var closed *websocket.CloseError
	var network net.Error
	switch {
	case err == nil:
		fmt.Println(what, "nil")
	case errors.As(err, &closed):
		fmt.Println(what, "close", closed.Code, err == error(closed))
	case errors.Is(err, net.ErrClosed):
		operation, isOperation := err.(*net.OpError)
		fmt.Println(what, "closed", isOperation && operation.Op != "")
	case errors.As(err, &network):
		fmt.Println(what, "network, timeout", network.Timeout())
	default:
		fmt.Println(what, err)
	}
}

func readAndSay(what string, c *websocket.Conn) {
	kind, data, err := c.ReadMessage()
	if err == nil {
		fmt.Println(what, kind, len(data), head(data))
		return
	}
	say(what, err)
}

func head(data []byte) string { return string(data[:min(len(data), 12)]) }

func soon() time.Time { return time.Now().Add(time.Minute) }

// failures reads until the connection panics about it.
func failures(c *websocket.Conn) (reads int) {
	defer func() { _ = recover() }()
	for range 3000 {
		if _, _, err := c.NextReader(); err == nil {
			panic("read")
		}
		reads++
	}
	return reads
}

var cases = []struct {
	name string
	run  func(client, server *websocket.Conn)
}{
	{"close while reading", func(client, _ *websocket.Conn) {
		read := make(chan error)
		go func() {
			_, _, err := client.ReadMessage()
			read <- err
		}()
		say("close", client.Close())
		say("read", <-read)
		readAndSay("read again", client)
		say("close again", client.Close())
		say("write", client.WriteMessage(websocket.TextMessage, nil))
		say("control", client.WriteControl(websocket.PingMessage, nil, soon()))
		say("read deadline", client.SetReadDeadline(soon()))
		say("write deadline", client.SetWriteDeadline(soon()))
	}},
	{"a deadline in the past", func(client, server *websocket.Conn) {
		check(server.WriteMessage(websocket.TextMessage, []byte("late")))
		check(client.SetReadDeadline(time.Now().Add(-time.Second)))
		readAndSay("read", client)
		check(client.SetReadDeadline(time.Time{}))
		readAndSay("read again", client)
		say("write", client.WriteMessage(websocket.TextMessage, []byte("still")))
		readAndSay("peer", server)
		fmt.Println("reads until it panics", failures(client))
	}},
	{"a reader left in the middle", func(client, server *websocket.Conn) {
		go func() {
			check(server.WriteMessage(websocket.BinaryMessage, make([]byte, 1<<20)))
			check(server.WriteMessage(websocket.TextMessage, []byte("next")))
			check(server.WriteMessage(websocket.TextMessage, []byte("last")))
		}()
		_, first, err := client.NextReader()
		check(err)
		_, err = io.ReadFull(first, make([]byte, 1000))
		check(err)
		readAndSay("second", client)
		_, err = first.Read(make([]byte, 1))
		say("first", err)
		_, third, err := client.NextReader()
		check(err)
		n, err := third.Read(make([]byte, 0))
		fmt.Println("of nothing", n, err)
		_, err = io.ReadAll(third)
		check(err)
		_, err = third.Read(make([]byte, 1))
		say("at the end", err)
	}},
	{"handlers that write", func(client, server *websocket.Conn) {
		server.SetPingHandler(func(data string) error {
			check(server.WriteControl(websocket.PongMessage, []byte(data), soon()))
			check(server.WriteMessage(websocket.TextMessage, []byte("pinged "+data)))
			return server.WriteControl(websocket.PingMessage, []byte("you too"), soon())
		})
		var heard []string
		client.SetPongHandler(func(data string) error {
			heard = append(heard, "pong "+data)
			return client.WriteMessage(websocket.TextMessage, []byte("ponged"))
		})
		ping := client.PingHandler()
		client.SetPingHandler(func(data string) error {
			heard = append(heard, "ping "+data)
			return ping(data)
		})
		check(client.WriteControl(websocket.PingMessage, []byte("p"), soon()))
		check(client.WriteMessage(websocket.TextMessage, []byte("go on")))
		readAndSay("server", server)
		readAndSay("client", client)
		readAndSay("server", server)
		check(server.WriteMessage(websocket.TextMessage, []byte("end")))
		readAndSay("client", client)
		fmt.Println(heard)
		failed := errors.New("mine")
		server.SetPingHandler(func(string) error { return failed })
		check(client.WriteControl(websocket.PingMessage, nil, soon()))
		_, _, err := server.ReadMessage()
		fmt.Println(err == failed)
	}},
	{"more than the limit", func(client, server *websocket.Conn) {
		server.SetReadLimit(1000)
		check(client.WriteMessage(websocket.BinaryMessage, make([]byte, 1000)))
		readAndSay("at the limit", server)
		go func() { _ = client.WriteMessage(websocket.BinaryMessage, make([]byte, 10<<20)) }()
		_, _, err := server.ReadMessage()
		fmt.Println(err == websocket.ErrReadLimit)
		readAndSay("again", server)
		readAndSay("peer", client)
	}},
	{"control messages beside a writer", func(client, server *websocket.Conn) {
		var pings []string
		server.SetPingHandler(func(data string) error {
			pings = append(pings, data)
			return nil
		})
		w, err := client.NextWriter(websocket.BinaryMessage)
		check(err)
		received := make(chan struct{})
		go func() {
			readAndSay("message", server)
			close(received)
		}()
		for i := range 20 {
			_, err = w.Write(make([]byte, 10000))
			check(err)
			check(client.WriteControl(websocket.PingMessage, fmt.Appendf(nil, "%d", i), soon()))
		}
		check(w.Close())
		<-received
		fmt.Println(pings)
		_, err = w.Write(nil)
		say("write to a closed writer", err)
		say("close a closed writer", w.Close())
		first, err := client.NextWriter(websocket.TextMessage)
		check(err)
		_, err = first.Write([]byte("first"))
		check(err)
		second, err := client.NextWriter(websocket.TextMessage)
		check(err)
		readAndSay("closed by the next", server)
		_, err = first.Write([]byte("more"))
		say("write to the first", err)
		check(second.Close())
		readAndSay("an empty one", server)
	}},
	{"close without a handshake", func(client, server *websocket.Conn) {
		check(client.WriteMessage(websocket.TextMessage, []byte("last words")))
		check(client.Close())
		readAndSay("peer", server)
		readAndSay("peer", server)
		fmt.Println("reads until it panics", failures(server))
	}},
	{"a handshake of closing", func(client, server *websocket.Conn) {
		client.SetCloseHandler(nil)
		check(client.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(4321, "because")))
		say("write", client.WriteMessage(websocket.TextMessage, nil))
		say("ping", client.WriteControl(websocket.PingMessage, nil, soon()))
		_, err := client.NextWriter(websocket.TextMessage)
		say("writer", err)
		_, _, err = server.ReadMessage()
		fmt.Println(err, websocket.IsCloseError(err, 4321), websocket.IsUnexpectedCloseError(err, 4321), websocket.IsUnexpectedCloseError(err, 1000))
		say("peer's write", server.WriteMessage(websocket.TextMessage, nil))
		readAndSay("answer", client)
		say("handler of closes", client.CloseHandler()(1000, ""))
	}},
	{"a handler of closes", func(client, server *websocket.Conn) {
		failed := errors.New("not yet")
		server.SetCloseHandler(func(code int, text string) error {
			fmt.Println(code, text)
			return failed
		})
		check(client.WriteControl(websocket.CloseMessage, nil, soon()))
		_, _, err := server.ReadMessage()
		fmt.Println(err == failed)
		say("may write", server.WriteMessage(websocket.TextMessage, []byte("after all")))
		readAndSay("after a close", client)
	}},
	{"what cannot be", func(client, server *websocket.Conn) {
		say("type", client.WriteMessage(3, nil))
		_, err := client.NextWriter(0)
		say("writer", err)
		say("control type", client.WriteControl(websocket.TextMessage, nil, soon()))
		say("long ping", client.WriteControl(websocket.PingMessage, make([]byte, 126), soon()))
		say("late ping", client.WriteControl(websocket.PingMessage, nil, time.Now().Add(-time.Second)))
		say("level", client.SetCompressionLevel(10))
		say("level", client.SetCompressionLevel(-3))
		say("level", client.SetCompressionLevel(0))
		check(client.WriteMessage(websocket.TextMessage, nil))
		check(client.WriteMessage(websocket.TextMessage, []byte("{")))
		check(client.WriteMessage(websocket.TextMessage, []byte(`"a" "b"`)))
		check(client.WriteMessage(websocket.TextMessage, []byte("goes on")))
		var value any
		say("empty", server.ReadJSON(&value))
		say("half", server.ReadJSON(&value))
		say("two", server.ReadJSON(&value))
		fmt.Println(value)
		readAndSay("after all", server)
		say("JSON", client.WriteJSON(func() {}))
		check(client.SetWriteDeadline(time.Now().Add(-time.Second)))
		say("late", client.WriteMessage(websocket.TextMessage, nil))
		check(client.SetWriteDeadline(time.Time{}))
		say("late for good", client.WriteMessage(websocket.TextMessage, nil))
	}},
	{"joined messages", func(client, server *websocket.Conn) {
		for _, text := range []string{"a", "", "bc"} {
			check(client.WriteMessage(websocket.TextMessage, []byte(text)))
		}
		check(client.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")))
		all, err := io.ReadAll(websocket.JoinMessages(server, "|"))
		fmt.Printf("%q\n", all)
		say("end", err)
	}},
	{"addresses", func(client, server *websocket.Conn) {
		fmt.Println(client.LocalAddr().String() == server.RemoteAddr().String(), client.NetConn() == client.UnderlyingConn(), client.NetConn() != nil)
		fmt.Printf("%q %T\n", client.Subprotocol(), client.NetConn())
	}},
}

// leaks counts the goroutines before and after a thousand connections that end in all ways.
func leaks() {
	const count = 1000
	before := runtime.NumGoroutine()
	upgrader := websocket.Upgrader{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		check(err)
		defer conn.Close()
		for {
			kind, data, err := conn.ReadMessage()
			if err != nil || conn.WriteMessage(kind, data) != nil {
				return
			}
		}
	}))
	var all sync.WaitGroup
	turns := make(chan struct{}, 50)
	for i := range count {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.URL, "http"), nil)
			check(err)
			defer conn.Close()
			check(conn.WriteMessage(websocket.BinaryMessage, make([]byte, i)))
			if i%3 == 0 {
				return
			}
			_, data, err := conn.ReadMessage()
			check(err)
			if len(data) != i {
				panic(len(data))
			}
			if i%3 == 1 {
				check(conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), soon()))
				_, _, err = conn.ReadMessage()
				if !websocket.IsCloseError(err, 1000) {
					panic(err)
				}
			}
		})
	}
	all.Wait()
	s.Close()
	for range 400 {
		if runtime.NumGoroutine() <= before {
			fmt.Println("none is left")
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	fmt.Println(runtime.NumGoroutine()-before, "goroutines are left")
}
