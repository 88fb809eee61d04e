// compression_test.go tests what compression and prepared messages promise on connections.

package wsd_test

import (
	"bytes"
	"compress/flate"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// inflated is what the standard library makes of a compressed message (RFC 7692, section 7.2.2).
func inflated(t testing.TB, payload, before []byte) []byte {
	t.Helper()
	r := flate.NewReaderDict(io.MultiReader(bytes.NewReader(payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")), before)
	data, err := io.ReadAll(r)
	require.NoError(t, err)
	return data
}

// deflated is a message as the standard library compresses it.
func deflated(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestCompression)
	require.NoError(t, err)
	_, err = w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	return bytes.TrimSuffix(out.Bytes(), []byte("\x00\x00\xff\xff"))
}

func prose(seed uint64, size int) []byte {
	random := rand.New(rand.NewPCG(seed, 4))
	words := strings.Fields("Lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna aliqua")
	var b []byte
	for len(b) < size {
		b = append(append(b, words[random.IntN(len(words))]...), ' ')
	}
	return b[:size]
}

var noTakeover = wsd.Compression{ServerNoContextTakeover: true, ClientNoContextTakeover: true}

// TestCompressedEcho checks that messages of all sizes, from several senders, come back as they went, under whatever was
// negotiated.
func TestCompressedEcho(t *testing.T) {
	for name, compression := range map[string]wsd.Compression{
		"takeover":         {},
		"no takeover":      noTakeover,
		"one way":          {ServerNoContextTakeover: true, Threshold: -1},
		"the other":        {ClientNoContextTakeover: true, Level: 9},
		"smallest windows": {ServerMaxWindowBits: 8, ClientMaxWindowBits: 8, Threshold: 1},
		"small windows":    {ServerMaxWindowBits: 12, ClientMaxWindowBits: 11},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := wsd.Config{Compression: &compression}
				client, server := wsdtest.Pipe(cfg, cfg)
				go echo(server)
				const senders, each = 3, 12
				var group sync.WaitGroup
				for s := range senders {
					group.Go(func() {
						for n := range each {
							data := prose(uint64(n), []int{0, 10, 600, 3000, 40_000, 70_000}[n%6])
							m := wsd.Text(fmt.Sprintf("%d %d %s", s, n, data))
							m.Compress = []wsd.CompressMode{wsd.CompressAuto, wsd.CompressAuto, wsd.CompressAlways, wsd.CompressNever}[n%4]
							if err := client.Send(t.Context(), m); err != nil {
								t.Error(err)
							}
						}
					})
				}
				var next [senders]int
				for range senders * each {
					m, err := client.Receive(t.Context())
					require.NoError(t, err)
					var s, n int
					_, err = fmt.Sscan(string(m.Data[:min(len(m.Data), 10)]), &s, &n)
					require.NoError(t, err)
					require.Equal(t, next[s], n, "sender %d's messages in order", s)
					next[s]++
					require.Equal(t, fmt.Sprintf("%d %d %s", s, n, prose(uint64(n), []int{0, 10, 600, 3000, 40_000, 70_000}[n%6])), string(m.Data))
				}
				group.Wait()
				require.NoError(t, client.Close(wsd.StatusNormalClosure, ""))
				<-server.Closed()
			})
		})
	}
}

// TestCompressionNegotiated checks that Dial and Accept agree on what both were told, say so, and then keep to it.
func TestCompressionNegotiated(t *testing.T) {
	const x = "permessage-deflate"
	for name, test := range map[string]struct {
		client, server *wsd.Compression
		agreed         string
	}{
		"neither":         {nil, nil, ""},
		"the client":      {&wsd.Compression{}, nil, ""},
		"the server":      {nil, &wsd.Compression{}, ""},
		"both":            {&wsd.Compression{}, &wsd.Compression{}, x},
		"no takeover":     {&noTakeover, &wsd.Compression{}, x + "; server_no_context_takeover; client_no_context_takeover"},
		"server's wishes": {&wsd.Compression{}, &wsd.Compression{ServerMaxWindowBits: 11, ClientMaxWindowBits: 8, ClientNoContextTakeover: true}, x + "; client_no_context_takeover; server_max_window_bits=11; client_max_window_bits=8"},
		"client's wishes": {&wsd.Compression{ServerMaxWindowBits: 9, ClientMaxWindowBits: 10}, &wsd.Compression{}, x + "; server_max_window_bits=9; client_max_window_bits=10"},
	} {
		t.Run(name, func(t *testing.T) {
			accepted := make(chan *wsd.Conn, 1)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c, err := wsd.Accept(w, r, &wsd.AcceptOptions{Config: wsd.Config{Compression: test.server}})
				if err != nil {
					t.Error(err)
					close(accepted)
					return
				}
				accepted <- c
				echo(c)
			}))
			defer server.Close()
			client, resp, err := wsd.Dial(t.Context(), server.URL, &wsd.DialOptions{Config: wsd.Config{Compression: test.client}})
			require.NoError(t, err)
			require.Equal(t, test.agreed, resp.Header.Get("Sec-WebSocket-Extensions"))
			require.Equal(t, test.agreed, client.Extensions())
			require.Equal(t, test.agreed, (<-accepted).Extensions())
			for n := range 10 {
				m := wsd.Message{Type: wsd.TextMessage, Data: prose(uint64(n%3), 5000)}
				require.NoError(t, client.Send(t.Context(), m))
				got, err := client.Receive(t.Context())
				require.NoError(t, err)
				require.Equal(t, string(m.Data), string(got.Data))
			}
			require.NoError(t, client.Close(wsd.StatusNormalClosure, ""))
			<-client.Closed()
		})
	}
}

// TestCompressedFrames checks what goes over the wire: RSV1 if a message is compressed, and data that others can read.
func TestCompressedFrames(t *testing.T) {
	long, short := prose(1, 2000), prose(2, 511)
	c, p := servedConn(t, wsd.Config{Compression: &wsd.Compression{}})
	defer p.close()
	send := func(data []byte, mode wsd.CompressMode) frame {
		require.NoError(t, c.Send(t.Context(), wsd.Message{Type: wsd.TextMessage, Compress: mode, Data: data}))
		return p.receive()
	}
	require.Equal(t, frame{0x81, short}, send(short, wsd.CompressAuto))
	require.Equal(t, frame{0x81, long}, send(long, wsd.CompressNever))

	f := send(long, wsd.CompressAuto)
	require.Equal(t, byte(0xC1), f.first)
	require.Less(t, len(f.payload), len(long)/3)
	require.Equal(t, long, inflated(t, f.payload, nil))

	// RFC 7692, section 7.1.1: a message refers to earlier ones, but not to those sent uncompressed.
	again := send(long, wsd.CompressAuto)
	require.Less(t, len(again.payload), len(f.payload)/3)
	require.Equal(t, long, inflated(t, again.payload, long))

	f = send(short, wsd.CompressAlways)
	require.Equal(t, byte(0xC1), f.first)
	require.Equal(t, short, inflated(t, f.payload, append(bytes.Clone(long), long...)))
	require.Equal(t, byte(0xC1), send(nil, wsd.CompressAlways).first)
}

// TestCompressedSendIsCancelled checks that a message that was compressed and then not sent does no harm to later ones:
// none refers to it.
func TestCompressedSendIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := wsd.Config{Compression: &wsd.Compression{}, PingInterval: -1, SendQueue: 1 << 20}
		client, server := wsdtest.Pipe(cfg, cfg)
		within := func(m wsd.Message) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return server.Send(ctx, m)
		}
		huge := wsd.Message{Type: wsd.BinaryMessage, Compress: wsd.CompressAlways}
		random := rand.New(rand.NewPCG(8, 8))
		for len(huge.Data) < 60<<10 {
			// What compresses a little keeps the compressor looking closely.
			huge.Data = append(huge.Data, "0123456789ABCDEF"...)
			for range 64 {
				huge.Data = append(huge.Data, byte(random.Uint32()))
			}
		}
		// Nobody receives: the client's buffer and the pipe fill up, until the writer waits.
		filler := wsd.Message{Type: wsd.BinaryMessage, Compress: wsd.CompressNever, Data: make([]byte, 20<<10)}
		fillers := 0
		for waits := false; !waits; fillers++ {
			require.NoError(t, within(filler))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			waits = server.Flush(ctx) != nil
			cancel()
		}
		// There is room in the queue, so that these are compressed; but they are not copied there.
		require.ErrorIs(t, within(huge), context.DeadlineExceeded)
		require.ErrorIs(t, within(huge), context.DeadlineExceeded)
		for range fillers {
			m, err := client.Receive(t.Context())
			require.NoError(t, err)
			require.Len(t, m.Data, len(filler.Data))
		}
		end := huge
		end.Data = huge.Data[len(huge.Data)-6<<10:]
		for _, m := range []wsd.Message{end, huge, end} {
			result := make(chan error, 1)
			go func() { result <- within(m) }()
			got, err := client.Receive(t.Context())
			require.NoError(t, err)
			require.NoError(t, <-result)
			require.True(t, bytes.Equal(m.Data, got.Data))
		}
		require.NoError(t, server.Close(wsd.StatusNormalClosure, ""))
		<-client.Closed()
	})
}

// TestCompressedFramesAreCut checks that a compressed message of megabytes is sent in frames, with control frames
// possible in between, and with RSV1 only on the first (RFC 7692, section 6.1).
func TestCompressedFramesAreCut(t *testing.T) {
	data := make([]byte, 3<<20)
	random := rand.New(rand.NewPCG(9, 9))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	for name, compression := range map[string]*wsd.Compression{"takeover": {}, "no takeover": &noTakeover} {
		c, p := servedConn(t, wsd.Config{Compression: compression})
		result := make(chan error, 1)
		go func() { result <- c.Send(context.Background(), wsd.Binary(data)) }()
		var payload []byte
		var first []byte
		for len(first) == 0 || first[len(first)-1]&0x80 == 0 {
			f := p.receive()
			require.LessOrEqual(t, len(f.payload), 1<<20, name)
			first = append(first, f.first)
			payload = append(payload, f.payload...)
		}
		require.NoError(t, <-result)
		require.Equal(t, []byte{0x42, 0x00, 0x00, 0x80}, first, name)
		require.True(t, bytes.Equal(data, inflated(t, payload, nil)), name)
		p.close()
		<-c.Closed()
	}
}

// TestCompressedViolations checks with which code each violation of RFC 7692 is answered.
func TestCompressedViolations(t *testing.T) {
	hello := deflated(t, []byte("Hello"))
	for name, test := range map[string]struct {
		compression *wsd.Compression
		frames      []frame
		code        int
	}{
		"RSV1, nothing negotiated":       {nil, []frame{{0xC1, hello}}, 1002},
		"RSV1 on a continuation":         {&wsd.Compression{}, []frame{{0x41, hello}, {0xC0, nil}}, 1002},
		"RSV1 on a ping":                 {&wsd.Compression{}, []frame{{0xC9, nil}}, 1002},
		"RSV1 on a close frame":          {&wsd.Compression{}, []frame{{0xC8, closePayload(1000, "")}}, 1002},
		"not DEFLATE":                    {&wsd.Compression{}, []frame{{0xC1, []byte("Hello, world")}}, 1007},
		"text that is not UTF-8 inside":  {&wsd.Compression{}, []frame{{0xC1, deflated(t, []byte("\xff\xfe\xfd"))}}, 1007},
		"too long inside":                {&wsd.Compression{}, []frame{{0xC2, deflated(t, make([]byte, 1001))}}, 1009},
		"too long inside, in two frames": {&wsd.Compression{}, []frame{{0x42, deflated(t, make([]byte, 1001))}, {0x80, nil}}, 1009},
	} {
		t.Run(name, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{MaxMessageSize: 1000, Compression: test.compression})
			defer p.close()
			p.send(test.frames...)
			p.expectClose(test.code)
			p.close()
			<-c.Closed()
			var violated *wsd.ProtocolError
			require.ErrorAs(t, c.CloseEvent().Err, &violated)
			require.EqualValues(t, test.code, violated.Code)
		})
	}
	t.Run("exactly the limit", func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{MaxMessageSize: 1000, Compression: &wsd.Compression{}})
		defer p.close()
		p.send(frame{0x42, deflated(t, make([]byte, 1000))}, frame{0x80, nil})
		m, err := c.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, wsd.Binary(make([]byte, 1000)), m)
	})
}

func TestSendPrepared(t *testing.T) {
	data := prose(3, 3000)
	large := make([]byte, 100<<10) // what compresses to more than is copied into the queue
	random := rand.New(rand.NewPCG(1, 5))
	for i := range large {
		large[i] = byte(random.Uint32())
	}
	for name, test := range map[string]struct {
		compression *wsd.Compression
		mode        wsd.CompressMode
		first       byte
	}{
		"nothing negotiated": {nil, wsd.CompressAlways, 0x82},
		"no takeover":        {&noTakeover, wsd.CompressAuto, 0xC2},
		"small window":       {&wsd.Compression{ServerNoContextTakeover: true, ClientNoContextTakeover: true, ServerMaxWindowBits: 9, ClientMaxWindowBits: 9}, wsd.CompressAuto, 0xC2},
		"takeover":           {&wsd.Compression{}, wsd.CompressAuto, 0xC2},
		"never":              {&noTakeover, wsd.CompressNever, 0x82},
		"below threshold":    {&wsd.Compression{Threshold: 1 << 20}, wsd.CompressAuto, 0x82},
	} {
		for _, payload := range [][]byte{data, large} {
			t.Run(fmt.Sprintf("%s, %d bytes", name, len(payload)), func(t *testing.T) {
				callers := bytes.Clone(payload)
				prepared := prepared(wsd.Message{Type: wsd.BinaryMessage, Compress: test.mode, Data: callers})
				clear(callers) // it is the caller's again
				for _, role := range []wsd.Role{wsd.ServerRole, wsd.ClientRole} {
					for range 3 {
						connect := servedConn
						if role == wsd.ClientRole {
							connect = clientConn
						}
						c, p := connect(t, wsd.Config{Compression: test.compression})
						var before []byte
						for range 2 {
							sent := make(chan error, 1)
							go func() { sent <- c.SendPrepared(context.Background(), prepared) }()
							f := p.receive()
							require.NoError(t, <-sent)
							require.Equal(t, test.first, f.first)
							got := f.payload
							if test.first&0x40 != 0 {
								got = inflated(t, f.payload, before)
								if name == "takeover" {
									before = append(before, payload...)
									before = before[max(0, len(before)-32<<10):]
								}
							}
							require.True(t, bytes.Equal(payload, got), "%v", role)
						}
						require.EqualValues(t, 2*len(payload), c.Stats().BytesSent)
						p.close()
						<-c.Closed()
					}
				}
			})
		}
	}
}

// TestSendPreparedMasks checks that clients do not share masking keys (RFC 6455, section 5.3).
func TestSendPreparedMasks(t *testing.T) {
	prepared := prepared(wsd.Message{Type: wsd.BinaryMessage, Data: prose(1, 3000)})
	seen := map[string]bool{}
	for range 3 {
		a, b := wsdtest.Transport()
		c := wsd.NewConn(a, wsd.ClientRole, wsd.Config{Compression: &noTakeover})
		require.NoError(t, c.SendPrepared(t.Context(), prepared))
		var wire [64]byte
		_, err := io.ReadFull(b, wire[:])
		require.NoError(t, err)
		require.False(t, seen[string(wire[:])], "two connections masked alike")
		seen[string(wire[:])] = true
		_ = b.Close()
		<-c.Closed()
	}
}

func TestSendPreparedRefuses(t *testing.T) {
	c, p := servedConn(t, wsd.Config{})
	for name, m := range map[string]wsd.Message{
		"text that is not UTF-8": wsd.Text("\xff"),
		"no type":                {},
		"another type":           {Type: 9},
	} {
		none, err := wsd.Prepare(m)
		require.ErrorIs(t, err, wsd.ErrInvalidMessage, name)
		require.Nil(t, none)
	}
	for name, prepared := range map[string]*wsd.Prepared{"nil": nil, "not prepared": {}} {
		require.ErrorIs(t, c.SendPrepared(t.Context(), prepared), wsd.ErrInvalidMessage, name)
		require.ErrorIs(t, c.TrySendPrepared(prepared), wsd.ErrInvalidMessage, name)
	}
	fine := prepared(wsd.Text("fine"))
	var none context.Context
	require.ErrorIs(t, c.SendPrepared(none, fine), wsd.ErrNilContext)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, c.SendPrepared(canceled, fine), context.Canceled)
	require.NoError(t, c.SendPrepared(t.Context(), fine))
	require.Equal(t, text("fine"), p.receive(), "the connection is unharmed")
	p.close()
	<-c.Closed()
	require.ErrorIs(t, c.SendPrepared(t.Context(), fine), wsd.ErrClosed)
}

// TestSendPreparedAtOnce checks that a Prepared serves connections of all kinds at the same time.
func TestSendPreparedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := wsd.Message{Type: wsd.TextMessage, Data: prose(7, 5000)}
		prepared := prepared(m)
		var group sync.WaitGroup
		for n := range 40 {
			cfg := wsd.Config{}
			switch n % 4 {
			case 1:
				cfg.Compression = &noTakeover
			case 2:
				cfg.Compression = &wsd.Compression{ServerMaxWindowBits: 10, ServerNoContextTakeover: n%8 == 2}
			case 3:
				cfg.Compression = &wsd.Compression{Level: 6}
			}
			client, server := wsdtest.Pipe(cfg, cfg)
			group.Go(func() {
				for range 3 {
					if err := server.SendPrepared(t.Context(), prepared); err != nil {
						t.Error(err)
					}
				}
				server.Close(wsd.StatusNormalClosure, "")
			})
			group.Go(func() {
				count := 0
				for got := range client.Messages() {
					count++
					if !bytes.Equal(got.Data, m.Data) {
						t.Error("another message arrived")
					}
				}
				if count != 3 {
					t.Errorf("%d messages arrived, expected 3", count)
				}
				<-client.Closed()
			})
		}
		group.Wait()
	})
}
