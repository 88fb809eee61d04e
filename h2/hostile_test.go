// hostile_test.go plays servers that break HTTP/2, or use it against the client: what they cause is bounded, and told by
// errors of a type.

package h2_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/h2"
)

// peer is a server's end of one TCP connection in memory.
type peer struct {
	*http2.Framer
	net.Conn
	encoder *hpack.Encoder
	block   bytes.Buffer
}

// inMemory runs script for each TCP connection that a client of the returned options makes. In its bubble no time passes
// but what is waited for.
func inMemory(t *testing.T, script func(*peer)) *wsd.DialOptions {
	t.Helper()
	var scripts sync.WaitGroup
	transport := &h2.Transport{UnencryptedHTTP2: true, Base: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			p := &peer{Framer: http2.NewFramer(far, far), Conn: far}
			p.encoder = hpack.NewEncoder(&p.block)
			scripts.Go(func() {
				defer func() { _ = far.Close() }()
				preface := make([]byte, len(http2.ClientPreface))
				if _, err := io.ReadFull(far, preface); err == nil {
					script(p)
				}
			})
			return near, nil
		},
	}}
	t.Cleanup(func() {
		require.NoError(t, transport.Close())
		scripts.Wait()
	})
	return &wsd.DialOptions{HTTPClient: &http.Client{Transport: transport}, HandshakeTimeout: time.Minute}
}

var extendedConnect = http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1}

// take sends settings and reads up to the client's request, whose stream it returns; 0 at the end.
func (p *peer) take(settings ...http2.Setting) uint32 {
	wrote := make(chan error, 1)
	go func() { wrote <- p.WriteSettings(append(settings, extendedConnect)...) }()
	for {
		frame, err := p.ReadFrame()
		if err != nil {
			return 0
		}
		if headers, ok := frame.(*http2.HeadersFrame); ok {
			<-wrote
			return headers.StreamID
		}
	}
}

// drain reads whatever the client sends, until the end.
func (p *peer) drain() {
	for {
		if _, err := p.ReadFrame(); err != nil {
			return
		}
	}
}

// header encodes fields.
func (p *peer) header(fields ...string) []byte {
	p.block.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		_ = p.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(p.block.Bytes())
}

// accept answers 200.
func (p *peer) accept(id uint32) {
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.header(":status", "200"), EndHeaders: true})
}

// connectionError is what a violation ends the connection with.
func connectionError(code http2.ErrCode) func(*testing.T, error) {
	return func(t *testing.T, err error) {
		t.Helper()
		broken := new(h2.ConnectionError)
		require.ErrorAs(t, err, &broken)
		require.Equal(t, code, broken.Code, "%v", err)
	}
}

// streamError is what a violation ends the stream with.
func streamError(code http2.ErrCode, local bool) func(*testing.T, error) {
	return func(t *testing.T, err error) {
		t.Helper()
		reset := new(h2.StreamError)
		require.ErrorAs(t, err, &reset)
		require.Equal(t, code, reset.Code, "%v", err)
		require.Equal(t, local, reset.Local, "%v", err)
	}
}

func is(target error) func(*testing.T, error) {
	return func(t *testing.T, err error) {
		t.Helper()
		require.ErrorIs(t, err, target)
	}
}

func TestHostileServersFailTheHandshake(t *testing.T) {
	tests := []struct {
		what   string
		script func(*peer)
		check  func(*testing.T, error)
	}{
		{"a server that never sends SETTINGS", func(p *peer) { p.drain() }, is(h2.ErrSettingsTimeout)},
		{"a server that never answers", func(p *peer) { p.take(); p.drain() }, is(context.DeadlineExceeded)},
		{"rapid reset", func(p *peer) {
			for id := p.take(); id != 0; {
				_ = p.WriteRSTStream(id, http2.ErrCodeRefusedStream)
				id = p.take()
			}
		}, streamError(http2.ErrCodeRefusedStream, false)},
		{"a reset", func(p *peer) { _ = p.WriteRSTStream(p.take(), http2.ErrCodeInternal); p.drain() },
			streamError(http2.ErrCodeInternal, false)},
		{"a flood of CONTINUATION", func(p *peer) {
			id := p.take()
			go p.drain()
			if p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.header(":status", "200")}) != nil {
				return
			}
			for field := p.header("x", strings.Repeat("a", 8000)); p.WriteContinuation(id, false, field) == nil; {
			}
		}, connectionError(http2.ErrCodeEnhanceYourCalm)},
		{"a header too large", func(p *peer) {
			id := p.take()
			go p.drain()
			block := p.header(":status", "200")
			for range 80 {
				block = append(block, p.header("x", strings.Repeat("a", 15000))...)
			}
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:16000]})
			for block = block[16000:]; len(block) > 16000; block = block[16000:] {
				if p.WriteContinuation(id, false, block[:16000]) != nil {
					return
				}
			}
			_ = p.WriteContinuation(id, true, block)
			time.Sleep(time.Second)
		}, is(h2.ErrHeaderTooLarge)},
		{"a request larger than the server takes",
			func(p *peer) { p.take(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 100}) }, is(h2.ErrHeaderTooLarge)},
		{"GOAWAY ahead of an answer, for ever", func(p *peer) { p.take(); _ = p.WriteGoAway(0, http2.ErrCodeNo, []byte("later")); p.drain() },
			is(h2.ErrGoAway)},
		{"DATA ahead of an answer", func(p *peer) { _ = p.WriteData(p.take(), false, []byte("x")); p.drain() },
			streamError(http2.ErrCodeProtocol, true)},
		{"a stream that does not exist", func(p *peer) { p.take(); _ = p.WriteData(99, false, []byte("x")); p.drain() },
			connectionError(http2.ErrCodeProtocol)},
		{"PUSH_PROMISE", func(p *peer) {
			id := p.take()
			_ = p.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, BlockFragment: p.header(":path", "/"), EndHeaders: true})
			p.drain()
		}, connectionError(http2.ErrCodeProtocol)},
		{"extended CONNECT withdrawn", func(p *peer) {
			p.take()
			_ = p.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 0})
			p.drain()
		}, connectionError(http2.ErrCodeProtocol)},
		{"a frame too large", func(p *peer) {
			p.take()
			go p.drain()
			_, _ = p.Conn.Write([]byte{0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1})
			time.Sleep(time.Second)
		}, connectionError(http2.ErrCodeFrameSize)},
		{"no status", func(p *peer) {
			id := p.take()
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.header("x", "y"), EndHeaders: true})
			p.drain()
		}, streamError(http2.ErrCodeProtocol, true)},
		{"interim answers for ever", func(p *peer) {
			id := p.take()
			go p.drain()
			for p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.header(":status", "103"), EndHeaders: true}) == nil {
			}
		}, streamError(http2.ErrCodeProtocol, true)},
		{"window of the connection too large", func(p *peer) {
			p.take()
			_ = p.WriteWindowUpdate(0, 1<<31-1)
			p.drain()
		}, connectionError(http2.ErrCodeFlowControl)},
		{"window of a stream too large", func(p *peer) {
			_ = p.WriteWindowUpdate(p.take(), 1<<31-1)
			p.drain()
		}, streamError(http2.ErrCodeFlowControl, true)},
	}
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, _, err := wsd.Dial(t.Context(), "ws://server.example/", inMemory(t, test.script))
				require.Error(t, err)
				test.check(t, err)
			})
		})
	}
}

func TestHostileServersEndAnOpenConnection(t *testing.T) {
	frame := func(payload []byte) []byte {
		return append(binary.BigEndian.AppendUint16([]byte{0x82, 126}, uint16(len(payload))), payload...)
	}
	tests := []struct {
		what   string
		script func(p *peer, id uint32)
		check  func(*testing.T, error)
	}{
		{"DATA behind END_STREAM", func(p *peer, id uint32) {
			_ = p.WriteData(id, true, nil)
			for p.WriteData(id, false, []byte("x")) == nil {
			}
		}, func(*testing.T, error) {}}, // the first of it has ended the WebSocket
		{"more DATA than the window", func(p *peer, id uint32) {
			for p.WriteData(id, false, frame(make([]byte, 10_000))) == nil {
			}
		}, streamError(http2.ErrCodeFlowControl, true)},
		{"a flood of SETTINGS", func(p *peer, _ uint32) {
			for p.WriteSettings() == nil {
			}
		}, connectionError(http2.ErrCodeEnhanceYourCalm)},
		{"a flood of PING", func(p *peer, _ uint32) {
			for p.WritePing(false, [8]byte{}) == nil {
			}
		}, connectionError(http2.ErrCodeEnhanceYourCalm)},
		{"the window 0 for ever", func(p *peer, _ uint32) { p.drain() }, is(wsd.ErrWriteTimeout)},
		{"an end without RST_STREAM", func(p *peer, _ uint32) {}, func(*testing.T, error) {}}, // as the transport says
	}
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opts := inMemory(t, func(p *peer) {
					id := p.take(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
					p.accept(id)
					test.script(p, id)
				})
				opts.PingInterval = -1
				conn, _, err := wsd.Dial(t.Context(), "ws://server.example/", opts)
				require.NoError(t, err)
				_ = conn.TrySend(wsd.Text("what cannot be sent"))
				<-conn.Closed() // which nobody receives from
				test.check(t, conn.CloseEvent().Err)
			})
		})
	}
}

func TestAQuietConnectionIsAskedAheadOfAnotherStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connections := 0
		opts := inMemory(t, func(p *peer) {
			connections++
			for first := connections == 1; ; {
				id := p.take()
				if id == 0 {
					return
				}
				if p.accept(id); first {
					_, _ = io.Copy(io.Discard, p.Conn) // it says nothing any more
					return
				}
			}
		})
		opts.PingInterval = -1
		first, _, err := wsd.Dial(t.Context(), "ws://server.example/", opts)
		require.NoError(t, err)
		time.Sleep(time.Hour)
		_, _, err = wsd.Dial(t.Context(), "ws://server.example/", opts)
		require.ErrorIs(t, err, h2.ErrPingTimeout)
		<-first.Closed()
		second, _, err := wsd.Dial(t.Context(), "ws://server.example/", opts)
		require.NoError(t, err)
		second.CloseNow()
	})
}
