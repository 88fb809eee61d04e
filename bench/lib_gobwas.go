//go:build linux

package main

// This file is gobwas/ws, used at its low level as its documentation does for speed: the zero-copy upgrade of accepted
// connections, headers and payloads read one by one, buffers kept from message to message.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsflate"
	"github.com/klauspost/compress/flate"
)

var gobwasLibrary = library{
	name:   "gobwas",
	module: "github.com/gobwas/ws",
	serve:  serveGobwas,
	dial: func(ctx context.Context, url string) (echoClient, error) {
		conn, br, _, err := ws.Dial(ctx, url)
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		if br != nil {
			// The raw echo server does not speak first.
			return nil, errors.New("bench: expected nothing behind the handshake")
		}
		return &gobwasClient{conn, newGobwasLink(conn, conn, ws.StateClientSide)}, nil
	},
	cannot: func(r role) string {
		if r.Stream {
			return "not measured in pieces"
		}
		if r.Takeover {
			return "no context takeover"
		}
		return ""
	},
}

// gobwasReaders are the buffers that connections read through. Idle connections do without, for memory's sake.
var gobwasReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

func serveGobwas(listener net.Listener, r role) error {
	all := newHub[[]byte](r)
	return acceptAll(listener, func(conn net.Conn) {
		var path, query string
		deflate := wsflate.Extension{Parameters: wsflate.DefaultParameters}
		upgrader := ws.Upgrader{OnRequest: func(uri []byte) error {
			path, query, _ = strings.Cut(string(uri), "?")
			return nil
		}}
		if r.Deflate {
			upgrader.Negotiate = deflate.Negotiate
		}
		if _, err := upgrader.Upgrade(conn); err != nil {
			return
		}
		var source io.Reader = conn
		if r.Work != serveIdle {
			br := gobwasReaders.Get().(*bufio.Reader)
			br.Reset(conn)
			defer gobwasReaders.Put(br)
			source = br
		}
		link := newGobwasLink(conn, source, ws.StateServerSide)
		switch path {
		case "/sub":
			s, err := all.join(query)
			if err != nil {
				return
			}
			defer all.leave(s)
			go func() {
				defer conn.Close()
				s.pump(func(frame []byte) error {
					_, err := conn.Write(frame)
					return err
				})
			}()
			for {
				if _, _, err := link.read(); err != nil {
					return
				}
			}
		case "/pub":
			for n := 0; ; n++ {
				header, payload, err := link.read()
				if err != nil {
					return
				}
				frame, err := ws.CompileFrame(ws.NewFrame(header.OpCode, true, payload))
				if err != nil {
					return
				}
				all.broadcast(n, frame)
			}
		default:
			for {
				header, payload, err := link.read()
				if err != nil {
					return
				}
				if r.Deflate {
					err = link.writeDeflated(header, payload)
				} else {
					err = link.write(header.OpCode, payload)
				}
				if err != nil {
					return
				}
			}
		}
	})
}

// gobwasLink reads and writes messages of one frame over a connection.
type gobwasLink struct {
	conn    io.Writer
	source  io.Reader
	state   ws.State
	payload []byte
	out     bytes.Buffer
}

func newGobwasLink(conn io.Writer, source io.Reader, state ws.State) *gobwasLink {
	return &gobwasLink{conn: conn, source: source, state: state}
}

// read gives a message that is valid until the next is read.
func (l *gobwasLink) read() (ws.Header, []byte, error) {
	for {
		header, err := ws.ReadHeader(l.source)
		if err != nil {
			return header, nil, err
		}
		if header.Length > maxMessage {
			return header, nil, fmt.Errorf("bench: a frame of %d bytes", header.Length)
		}
		if int64(cap(l.payload)) < header.Length {
			l.payload = make([]byte, header.Length)
		}
		payload := l.payload[:header.Length]
		if _, err := io.ReadFull(l.source, payload); err != nil {
			return header, nil, err
		}
		if header.Masked {
			ws.Cipher(payload, header.Mask, 0)
		}
		switch header.OpCode {
		case ws.OpText, ws.OpBinary:
			return header, payload, nil
		case ws.OpClose:
			return header, nil, io.EOF
		case ws.OpPing:
			if err := l.write(ws.OpPong, payload); err != nil {
				return header, nil, err
			}
		}
	}
}

// write writes a message in one call; a large one is handed over beside its header, uncopied.
func (l *gobwasLink) write(op ws.OpCode, payload []byte) error {
	header := ws.Header{Fin: true, OpCode: op, Length: int64(len(payload))}
	if l.state.ClientSide() {
		header.Masked, header.Mask = true, ws.NewMask()
	}
	l.out.Reset()
	if err := ws.WriteHeader(&l.out, header); err != nil {
		return err
	}
	if !header.Masked && len(payload) >= 16<<10 {
		if conn, ok := l.conn.(*net.TCPConn); ok {
			_, err := (&net.Buffers{l.out.Bytes(), payload}).WriteTo(conn)
			return err
		}
	}
	from := l.out.Len()
	l.out.Write(payload)
	if header.Masked {
		ws.Cipher(l.out.Bytes()[from:], header.Mask, 0)
	}
	_, err := l.conn.Write(l.out.Bytes())
	return err
}

// gobwasDeflaters and gobwasInflaters keep what is large between messages, as every message stands alone.
var (
	gobwasDeflaters = sync.Pool{New: func() any {
		return wsflate.NewWriter(nil, func(w io.Writer) wsflate.Compressor {
			f, err := flate.NewWriter(w, flate.BestSpeed)
			if err != nil {
				panic(err) // the level is a valid one
			}
			return f
		})
	}}
	gobwasInflaters = sync.Pool{New: func() any {
		return wsflate.NewReader(nil, func(r io.Reader) wsflate.Decompressor { return gobwasInflater{flate.NewReader(r)} })
	}}
)

// gobwasInflater has the Reset that wsflate looks for, so that an inflater is used again.
type gobwasInflater struct{ io.ReadCloser }

func (i gobwasInflater) Reset(r io.Reader) { i.ReadCloser.(flate.Resetter).Reset(r, nil) }

// writeDeflated gives a message back whose payload is deflated where its header says so.
func (l *gobwasLink) writeDeflated(header ws.Header, payload []byte) error {
	compressed, err := wsflate.IsCompressed(header)
	if err != nil {
		return err
	}
	if !compressed {
		return l.write(header.OpCode, payload)
	}
	inflater := gobwasInflaters.Get().(*wsflate.Reader)
	defer gobwasInflaters.Put(inflater)
	// Without ReadByte: wsflate's own, in v1.5.0, slips a zero byte in between the payload and its tail.
	inflater.Reset(struct{ io.Reader }{bytes.NewReader(payload)})
	var text, packed bytes.Buffer
	if _, err := text.ReadFrom(inflater); err != nil {
		return err
	}
	deflater := gobwasDeflaters.Get().(*wsflate.Writer)
	defer gobwasDeflaters.Put(deflater)
	deflater.Reset(&packed)
	if _, err := deflater.Write(text.Bytes()); err != nil {
		return err
	}
	if err := deflater.Flush(); err != nil {
		return err
	}
	answer, err := wsflate.SetBit(ws.Header{Fin: true, OpCode: header.OpCode, Length: int64(packed.Len())})
	if err != nil {
		return err
	}
	l.out.Reset()
	if err := ws.WriteHeader(&l.out, answer); err != nil {
		return err
	}
	l.out.Write(packed.Bytes())
	_, err = l.conn.Write(l.out.Bytes())
	return err
}

type gobwasClient struct {
	conn net.Conn
	link *gobwasLink
}

func (c *gobwasClient) close() { c.conn.Close() }

func (c *gobwasClient) echo(work *echoWork) error {
	return echoBlocking(work, func() ([]byte, error) {
		_, message, err := c.link.read()
		return message, err
	}, func(message []byte) error {
		return c.link.write(ws.OpBinary, message)
	})
}
