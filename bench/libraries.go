//go:build linux

package main

// This file says what a library has to bring along to be measured, and holds the raw loop, which is their limit.

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// library is one candidate: an echo server, a broadcasting server, and a client where it has one.
type library struct {
	name   string
	module string // "" for what this program does by hand

	// serve answers the listener's connections as the role says. It returns with an error only.
	serve func(net.Listener, role) error

	// dial opens a client's connection for the echo of binary messages; nil where the library isn't measured as one.
	dial func(ctx context.Context, url string) (echoClient, error)

	// speaks is what subscribers of a broadcast speak, nil for messages as they are.
	speaks *protocol

	// only is the work that the candidate is measured in, "" for all: elsewhere it has no row.
	only string

	// cannot says why the library is not measured in a role, "" where it is.
	cannot func(role) string
}

// echoClient is a client's connection.
type echoClient interface {
	// echo sends as many messages as shall be under way, then one more whenever an answer makes room. It returns when
	// no more are to be sent and all have been answered.
	echo(work *echoWork) error
	close()
}

// echoBlocking is the echo of a client whose calls for reading and writing block.
func echoBlocking(work *echoWork, read func() ([]byte, error), write func([]byte) error) error {
	for range work.inflight {
		if err := write(work.send()); err != nil {
			return err
		}
	}
	for {
		answer, err := read()
		if err != nil {
			return err
		}
		switch more, err := work.received(answer); {
		case err != nil:
			return err
		case more:
			if err := write(work.send()); err != nil {
				return err
			}
		case work.done():
			return nil
		}
	}
}

// libraries are the candidates, in the order of the tables.
var libraries = []library{
	wsdLibrary, loopLibrary, aloneLibrary, pairLibrary, doorLibrary, gorillaLibrary, coderLibrary, gwsLibrary, gobwasLibrary, melodyLibrary, centrifugeLibrary,
	rawLibrary,
}

// plays reports whether the candidate has a row where a role is measured.
func (l library) plays(r role) bool {
	wsdOnly := r.Pace != 0 || r.Loop != "" // others have no such bound, and no such ways
	return (l.only == "" || l.only == r.Work) && (!wsdOnly || l.name == wsdName)
}

// Names that the goals tell apart from the rivals.
const (
	wsdName = "wsd"
	rawName = "raw"
	// loopName is wsd without package hub: the goal of what that may cost.
	loopName = "wsd loop"
	// aloneName and pairName are wsd with its hub over NATS: the goals are of what that may cost.
	aloneName = "wsd NATS"
	pairName  = "wsd two nodes"
	// doorName is wsd through gorilla's names: the goal is gorilla, and it is no rival.
	doorName = "wsd gorilla"
)

// rival reports whether a name is another library's.
func rival(name string) bool {
	return !slices.Contains([]string{wsdName, loopName, aloneName, pairName, doorName, rawName}, name)
}

func libraryNamed(name string) (library, error) {
	for _, l := range append([]library{rawEchoLibrary}, libraries...) {
		if l.name == name {
			return l, nil
		}
	}
	var names []string
	for _, l := range libraries {
		names = append(names, l.name)
	}
	return library{}, fmt.Errorf("bench: expected a library of %s, got %q", strings.Join(names, ", "), name)
}

// wholeOnly is the cannot of a library that reads and writes whole messages only.
func wholeOnly(r role) string {
	if r.Stream {
		return "no messages in pieces"
	}
	return ""
}

// canAll is the cannot of a library that is measured in every role.
func canAll(role) string { return "" }

// acceptAll hands the listener's connections out, each to a goroutine of its own.
func acceptAll(listener net.Listener, handle func(net.Conn)) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return fmt.Errorf("bench: accepting: %w", err)
		}
		go func() {
			defer conn.Close()
			handle(conn)
		}()
	}
}

// rawLibrary is no WebSocket library: as a server it gives back the bytes it got and speaks no protocol, so it shows what
// the runtime and the kernel leave to be had. As a client's server see rawEcho.
var rawLibrary = library{
	name: rawName,
	serve: func(listener net.Listener, _ role) error {
		return acceptAll(listener, func(conn net.Conn) {
			buf := make([]byte, 4<<10)
			for {
				n, err := conn.Read(buf)
				if err != nil {
					return
				}
				if _, err := conn.Write(buf[:n]); err != nil {
					return
				}
				if n == len(buf) && n < 256<<10 {
					buf = make([]byte, 2*n)
				}
			}
		})
	},
	dial: dialRaw,
	cannot: func(r role) string {
		switch {
		case r.Work == serveBroadcast || r.Work == serveHub:
			return "no messages to broadcast"
		case r.Deflate:
			return "no compression"
		}
		return ""
	},
}

// rawClient is the client without a library: the load client's own frames, with everything in one write that one read
// made room for.
type rawClient struct{ net.Conn }

func (c rawClient) close() { c.Close() }

func (c rawClient) echo(work *echoWork) error {
	p, h, buf := newPeer(work.script, work.inflight), newHistogram(), make([]byte, 64<<10)
	release := func(n int) error {
		for range n {
			work.send()
		}
		p.release(n, clock())
		for b := p.unsent(); len(b) > 0; b = p.unsent() {
			n, err := c.Write(b)
			if err != nil {
				return err
			}
			p.wrote(n)
		}
		return nil
	}
	for n := work.inflight; ; {
		if err := release(n); err != nil {
			return err
		}
		read, err := c.Read(buf)
		if err != nil {
			return err
		}
		answers, err := p.feed(buf[:read], clock(), h)
		if err != nil {
			return err
		}
		n = 0
		for range answers {
			// The peer has compared the payload already.
			more, err := work.received(work.expected())
			if err != nil {
				return err
			}
			if more {
				n++
			}
		}
		if n == 0 && work.done() {
			return nil
		}
	}
}

func dialRaw(ctx context.Context, url string) (echoClient, error) {
	address := strings.TrimSuffix(strings.TrimPrefix(url, "ws://"), "/")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("bench: expected ws://host:port/, got %q: %w", url, err)
	}
	t := target{path: "/"}
	if t.port, err = strconv.Atoi(port); err != nil {
		return nil, fmt.Errorf("bench: expected a port, got %q: %w", port, err)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("bench: connecting: %w", err)
	}
	if _, err = conn.Write(t.request()); err == nil {
		err = t.checkResponse(conn.Read)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return rawClient{conn}, nil
}

// rawEchoLibrary is the server that the clients are measured against, the same for all: it shakes hands, takes the masks
// off and gives back everything that came in one read with one write. It is hidden from the tables.
var rawEchoLibrary = library{
	name: "raw echo",
	serve: func(listener net.Listener, _ role) error {
		return acceptAll(listener, rawEcho)
	},
}

// unmasker turns a client's frames into a server's as they pass: masks off, everything else as it came.
type unmasker struct {
	header  []byte
	need    uint64
	key     [4]byte
	keyAt   int
	closing bool // a close frame has begun
}

// pass appends to out what the bytes in b turn into. B is changed.
func (u *unmasker) pass(out, b []byte) []byte {
	for len(b) > 0 {
		if u.need > 0 {
			n := min(u.need, uint64(len(b)))
			out = append(out, b[:n]...)
			u.keyAt = unmask(out[len(out)-int(n):], u.key, u.keyAt)
			b, u.need = b[n:], u.need-n
			continue
		}
		u.header, b = append(u.header, b[0]), b[1:]
		if len(u.header) < 2 {
			continue
		}
		long := 0
		switch u.header[1] & 0x7f {
		case 126:
			long = 2
		case 127:
			long = 8
		}
		if len(u.header) < 2+long+4 {
			continue
		}
		switch long {
		case 0:
			u.need = uint64(u.header[1] & 0x7f)
		case 2:
			u.need = uint64(binary.BigEndian.Uint16(u.header[2:]))
		case 8:
			u.need = binary.BigEndian.Uint64(u.header[2:])
		}
		u.key, u.keyAt = [4]byte(u.header[2+long:]), 0
		u.closing = u.closing || u.header[0]&0x0f == opClose
		out = append(out, u.header[0], u.header[1]&0x7f)
		out = append(out, u.header[2:2+long]...)
		u.header = u.header[:0]
	}
	return out
}

// unmask takes the mask off b, which begins at a place of the key, and gives the place that follows.
func unmask(b []byte, key [4]byte, at int) int {
	for ; len(b) > 0 && at != 0; at = (at + 1) & 3 {
		b[0] ^= key[at]
		b = b[1:]
	}
	word := uint64(binary.LittleEndian.Uint32(key[:])) * (1<<32 + 1)
	for ; len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^word)
	}
	for i := range b {
		b[i] ^= key[i&3]
	}
	return (at + len(b)) & 3
}

// rawHandshake answers the opening handshake and agrees to no extension.
func rawHandshake(conn net.Conn) error {
	request, err := http.ReadRequest(bufio.NewReader(conn)) // the client waits for the answer: nothing follows it yet
	if err != nil {
		return fmt.Errorf("bench: reading a handshake: %w", err)
	}
	digest := sha1.Sum([]byte(request.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(digest[:]))
	return err
}

// rawEcho serves one connection of rawEchoLibrary until the client goes away, whose own side knows whether it was meant to.
func rawEcho(conn net.Conn) {
	if err := rawHandshake(conn); err != nil {
		return
	}
	var u unmasker
	in, out := make([]byte, 256<<10), make([]byte, 0, 256<<10)
	for {
		n, err := conn.Read(in)
		if err != nil {
			return
		}
		out = u.pass(out[:0], in[:n])
		if _, err := conn.Write(out); err != nil {
			return
		}
		if u.closing {
			// The client's close frame, given back, is the server's answer; the rest of it is soon here.
			conn.SetReadDeadline(time.Now().Add(time.Second))
		}
	}
}
