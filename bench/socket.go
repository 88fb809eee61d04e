//go:build linux

package main

// This file opens the load client's sockets: plain system calls, because a runtime's poller is what is being measured.

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// perSource is how many connections one source address makes: fewer than the local ports the kernel gives out.
const perSource = 10_000

// handshakeKey is the same for every connection, thus so is the Sec-WebSocket-Accept that must answer it
// (RFC 6455, section 1.3).
const (
	handshakeKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	handshakeAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// target is where to connect to and how.
type target struct {
	port     int
	path     string
	numbered bool   // its query is the connection's number
	offer    string // Sec-WebSocket-Extensions, "" for none
	raw      bool   // no handshake: the server speaks no protocol
	tls      bool   // as the Origin of the handshake says
	receive  int    // SO_RCVBUF in bytes, 0 for the kernel's
}

// connect opens connection number i. It blocks, 10 s at most for each read.
func (t target) connect(i int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("bench: a socket: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	set := func(level, option, value int) {
		err = errors.Join(err, unix.SetsockoptInt(fd, level, option, value))
	}
	set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	set(unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if t.receive > 0 {
		set(unix.SOL_SOCKET, unix.SO_RCVBUF, t.receive)
	}
	// A reset instead of a farewell when the socket is closed: ports that wait for a minute would run out.
	err = errors.Join(err, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
	if err != nil {
		return -1, fmt.Errorf("bench: a socket's options: %w", err)
	}
	if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(1 + i/perSource)}}); err != nil {
		return -1, fmt.Errorf("bench: binding to 127.0.0.%d: %w", 1+i/perSource, err)
	}
	if err = unix.Connect(fd, &unix.SockaddrInet4{Port: t.port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return -1, fmt.Errorf("bench: connecting: %w", err)
	}
	if t.raw {
		return fd, nil
	}
	if _, err = writeBlocking(fd, t.requestOf(i)); err != nil {
		return -1, fmt.Errorf("bench: sending the handshake: %w", err)
	}
	if err = t.checkResponse(func(b []byte) (int, error) { return readBlocking(fd, b) }); err != nil {
		return -1, err
	}
	return fd, nil
}

// readBlocking and writeBlocking go on where the runtime's own signals interrupt them.
func readBlocking(fd int, b []byte) (n int, err error) {
	for n, err = unix.Read(fd, b); err == unix.EINTR; n, err = unix.Read(fd, b) {
	}
	if err == nil && n == 0 {
		err = errors.New("end of stream")
	}
	return n, err
}

func writeBlocking(fd int, b []byte) (n int, err error) {
	for n, err = unix.Write(fd, b); err == unix.EINTR; n, err = unix.Write(fd, b) {
	}
	return n, err
}

// requestOf is the request of connection number i.
func (t target) requestOf(i int) []byte {
	if t.numbered {
		t.path += fmt.Sprintf("?%d", i)
	}
	return t.request()
}

// request is the client's half of the opening handshake (RFC 6455, section 4.1).
func (t target) request() []byte {
	host := fmt.Sprintf("127.0.0.1:%d", t.port)
	scheme := "http"
	if t.tls {
		scheme = "https"
	}
	request := "GET " + t.path + " HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Origin: " + scheme + "://" + host + "\r\nSec-WebSocket-Key: " + handshakeKey + "\r\nSec-WebSocket-Version: 13\r\n"
	if t.offer != "" {
		request += "Sec-WebSocket-Extensions: " + t.offer + "\r\n"
	}
	return []byte(request + "\r\n")
}

// checkResponse reads the server's half. Nothing may follow it yet: no server here speaks first.
func (t target) checkResponse(read func([]byte) (int, error)) error {
	var response []byte
	buf := make([]byte, 2<<10)
	for !bytes.Contains(response, []byte("\r\n\r\n")) {
		n, err := read(buf)
		if err != nil {
			return fmt.Errorf("bench: reading the handshake's answer, %q so far: %w", response, err)
		}
		response = append(response, buf[:n]...)
	}
	text := string(response)
	if !strings.HasPrefix(text, "HTTP/1.1 101 ") || !strings.Contains(text, handshakeAccept) ||
		!strings.HasSuffix(text, "\r\n\r\n") {
		return fmt.Errorf("bench: expected 101, the right accept key and nothing behind them, got %q", text)
	}
	return t.checkExtensions(text)
}

// checkExtensions tells whether the server agreed to what the client is going to send and to inflate.
func (t target) checkExtensions(response string) error {
	response = strings.ToLower(response)
	agreed := strings.Contains(response, "permessage-deflate")
	if wanted := t.offer != ""; agreed != wanted {
		return fmt.Errorf("bench: expected permessage-deflate %v, got %q", wanted, response)
	}
	for _, parameter := range []string{"client_no_context_takeover", "server_no_context_takeover"} {
		wanted := strings.Contains(t.offer, parameter)
		if strings.Contains(response, parameter) != wanted {
			return fmt.Errorf("bench: expected %s %v, got %q", parameter, wanted, response)
		}
	}
	return nil
}

// connectAll opens connections first to first+n-1 from a few threads at once.
func (t target) connectAll(first, n int) ([]int, error) {
	const threads = 4
	fds := make([]int, n)
	errs := make([]error, threads)
	var wg sync.WaitGroup
	for thread := range threads {
		wg.Go(func() {
			for i := thread; i < n && errs[thread] == nil; i += threads {
				fds[i], errs[thread] = t.connect(first + i)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		closeAll(fds)
		return nil, err
	}
	return fds, nil
}

// closeAll closes the sockets that are open. None of them is a standard stream.
func closeAll(fds []int) {
	for _, fd := range fds {
		if fd > 2 {
			unix.Close(fd)
		}
	}
}

// writeSome writes what the socket takes without blocking.
func writeSome(fd int, b []byte) (int, error) {
	n, err := unix.Write(fd, b)
	switch {
	case err == unix.EAGAIN, err == unix.EINTR:
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("bench: writing: %w", err)
	}
	return n, nil
}

// epoch is what the client's clock counts from.
var epoch = time.Now()

// clock is the client's monotonic time in nanoseconds.
func clock() int64 { return int64(time.Since(epoch)) }
