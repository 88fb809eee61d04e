// Hostile peers: a test for each lesson of this field's advisories, named after it. What an attack may cost is asserted
// by its growth: ten or a hundred times the attack must take no more memory, goroutines or time per byte than before.

package wsd_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/wiretest"
	"github.com/seed62836080/wsd/wsdtest"
)

// allocated returns the bytes that all goroutines allocated while attack ran.
func allocated(attack func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	attack()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// fastest returns the shortest of a few runs: what the work takes when nothing else gets in between.
func fastest(runs int, work func()) time.Duration {
	best := time.Duration(math.MaxInt64)
	for range runs {
		start := time.Now()
		work()
		best = min(best, time.Since(start))
	}
	return best
}

// A length that overflows must neither wrap around nor hang the reader: gorilla/websocket added it to what a message had
// (CVE-2020-27813), Tomcat read it as negative and went into a loop (CVE-2020-13935).
func TestCVE_2020_27813_CVE_2020_13935_LengthOverflow(t *testing.T) {
	for _, row := range []struct {
		name   string
		length uint64
		code   int
	}{
		{"2^63, the highest bit set (RFC 6455, section 5.2)", 1 << 63, 1002},
		{"2^64 - 1", math.MaxUint64, 1002},
		{"2^63 - 1", math.MaxInt64, 1009},
		{"2^62", 1 << 62, 1009},
	} {
		for _, fragments := range []int{0, 1, 2} {
			t.Run(fmt.Sprintf("%s after %d fragments", row.name, fragments), func(t *testing.T) {
				for _, make := range []func(testing.TB, wsd.Config) (*wsd.Conn, *peer){servedConn, clientConn} {
					conn, p := make(t, wsd.Config{})
					first := byte(0x82)
					if fragments > 0 {
						first = 0x80
						p.send(frame{0x02, []byte("a fragment")})
						for range fragments - 1 {
							p.send(frame{0x00, []byte("a fragment")})
						}
					}
					p.sendRaw(wiretest.Header(first, row.length, p.masks))
					f := p.receive()
					require.Equal(t, byte(0x88), f.first)
					require.Equal(t, row.code, int(binary.BigEndian.Uint16(f.payload)))
					p.close()
					<-conn.Closed()
					_, open := <-conn.Messages()
					require.False(t, open)
				}
			})
		}
	}
}

// What a header declares must not be allocated before it comes (CVE-2022-35922, rust-websocket).
func TestCVE_2022_35922_AllocationByDeclaredLength(t *testing.T) {
	for _, row := range []struct {
		name   string
		first  byte
		behind []frame // what comes before
	}{
		{"a message", 0x82, nil},
		{"a first fragment", 0x02, nil},
		{"a last fragment", 0x80, []frame{{0x02, []byte("a fragment")}}},
		{"a fragment between others", 0x00, []frame{{0x02, []byte("a fragment")}}},
		{"a compressed message", 0xC2, nil},
		{"a compressed first fragment", 0x42, nil},
		{"a compressed last fragment", 0x80, []frame{{0x42, []byte("a fragment")}}},
	} {
		attack := func(declared uint64) uint64 {
			return allocated(func() {
				conn, p := servedConn(t, wsd.Config{Compression: &wsd.Compression{}})
				p.send(row.behind...)
				p.sendRaw(append(wiretest.Header(row.first, declared, true), "ten bytes."...))
				p.close()
				<-conn.Closed()
			})
		}
		attack(1 << 16)
		small, large := attack(1<<16), attack(60<<20)
		require.Less(t, large, small+256<<10, "%s: declaring 60 MiB cost %d bytes, declaring 64 KiB %d", row.name, large, small)
	}
}

var zerosMade sync.Map // by their number

// zeros returns a compressed message that inflates to n zeros, less its tail (RFC 7692, section 7.2.1).
func zeros(t testing.TB, n int) []byte {
	if made, ok := zerosMade.Load(n); ok {
		return made.([]byte)
	}
	made := deflatedZeros(t, n)
	zerosMade.Store(n, made)
	return made
}

func deflatedZeros(t testing.TB, n int) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.DefaultCompression)
	require.NoError(t, err)
	block := make([]byte, 1<<20)
	for ; n > 0; n -= len(block) {
		_, err = w.Write(block[:min(n, len(block))])
		require.NoError(t, err)
	}
	require.NoError(t, w.Flush())
	return bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff})
}

// A decompression bomb costs what the limit allows and not what it would inflate to (CVE-2018-1000518, websockets), with
// takeover and fragments too.
func TestCVE_2018_1000518_DecompressionBomb(t *testing.T) {
	const limit = 256 << 10
	for _, takeover := range []bool{false, true} {
		for _, fragment := range []int{0, 1000} {
			t.Run(fmt.Sprintf("takeover %v, fragments of %d", takeover, fragment), func(t *testing.T) {
				attack := func(size int) uint64 {
					bomb := zeros(t, size)
					return allocated(func() {
						conn, p := servedConn(t, wsd.Config{MaxMessageSize: limit, Compression: &wsd.Compression{
							ClientNoContextTakeover: !takeover, ServerNoContextTakeover: !takeover}})
						p.send(frame{0xC1, []byte("\xf2\x48\xcd\xc9\xc9\x07\x00")}) // "Hello", so that takeover has a window
						m, err := conn.Receive(t.Context())
						require.NoError(t, err)
						require.Equal(t, "Hello", string(m.Data))
						go func() { // a server that has had enough does not read the rest
							rest, first := bomb, byte(0x42)
							for fragment > 0 && len(rest) > fragment {
								if _, err := p.rwc.Write(p.encode(frame{first, rest[:fragment]})); err != nil {
									return
								}
								rest, first = rest[fragment:], 0
							}
							_, _ = p.rwc.Write(p.encode(frame{first | 0x80, rest}))
						}()
						_, err = conn.Receive(t.Context()) // or a moment would be waited for an answer
						require.ErrorAs(t, err, new(*wsd.ProtocolError))
						f := p.receive()
						require.Equal(t, 1009, int(binary.BigEndian.Uint16(f.payload)), "%q", f.payload)
						p.close()
						<-conn.Closed()
					})
				}
				attack(2 * limit)
				small, large := attack(2*limit), attack(64*limit)
				// The bomb itself grows, by its compressed size, and is copied on its way.
				require.Less(t, large, 2*small+4*uint64(64*limit/1000)+1<<20, "16 MiB cost %d bytes, 512 KiB %d", large, small)
			})
		}
	}
}

// A message whose beginning inflates a thousandfold is not assumed to continue like that: what is allocated is a multiple
// of what has been inflated, whatever the limit.
func TestInflatingAllocatesByWhatIsThere(t *testing.T) {
	attack := func(rest int) uint64 {
		bomb := append(bytes.Clone(zeros(t, 100<<10)), 0, 0, 0xff, 0xff)
		bomb = append(bomb, bytes.Repeat([]byte{0, 0, 0, 0xff, 0xff}, rest/5)...) // stored blocks with nothing in them
		bomb = append(bomb, 0)                                                    // one more, less its tail
		frames := encodeFrame(frame{0xC2, bomb}, true)
		return allocated(func() {
			event, _, err := wsd.NewParser(wsd.ServerRole, wsd.Config{Compression: &wsd.Compression{}}).Parse(frames)
			require.NoError(t, err)
			require.Len(t, event.Data, 100<<10)
		})
	}
	attack(1 << 20)
	small, large := attack(10), attack(1<<20)
	require.Less(t, large, small+4<<20, "a megabyte of nothing cost %d bytes", large)
}

// Messages that were compressed a thousandfold do not pile up in front of a consumer that does not receive, and none of
// them is lost, even if a single one is larger than what may wait.
func TestHeavyMessagesThatWait(t *testing.T) {
	for _, row := range []struct {
		policy            wsd.SlowConsumerPolicy
		size, count, most int
	}{
		{wsd.BlockSlow, 24 << 20, 4, 2},
		{wsd.CloseSlow, 24 << 20, 4, 2},
		{wsd.DropSlow, 24 << 20, 4, 2},
		{wsd.BlockSlow, 70 << 20, 2, 1},
	} {
		const tail = "\x00\x00\xff\xff" // of each megabyte but the last
		compressed := strings.TrimSuffix(strings.Repeat(string(zeros(t, 1<<20))+tail, row.size>>20), tail)
		bomb, small := frame{0xC2, []byte(compressed)}, frame{0xC2, zeros(t, 1000)}
		synctest.Test(t, func(t *testing.T) {
			conn, p := servedConn(t, wsd.Config{Compression: &wsd.Compression{}, SlowConsumer: row.policy, StallTimeout: time.Minute,
				MaxMessageSize: 100 << 20})
			defer p.close()
			defer conn.CloseNow()
			p.send(small)
			for range row.count {
				go func() { _, _ = p.rwc.Write(p.encode(bomb)) }() // which ends with the connection, if not before
				synctest.Wait()
			}
			require.Len(t, conn.Messages(), 1+row.most)
			switch row.policy {
			case wsd.DropSlow:
				require.EqualValues(t, row.count-row.most, conn.Stats().MessagesDropped)
			case wsd.CloseSlow:
				require.ErrorIs(t, <-conn.Errors(), wsd.ErrSlowConsumer)
			default:
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				for i := range 1 + row.count {
					time.Sleep(time.Second) // the consumer's pace, in the bubble
					m, err := conn.Receive(ctx)
					require.NoError(t, err)
					require.Equal(t, i > 0, len(m.Data) == row.size)
				}
				require.Zero(t, conn.Stats().MessagesDropped)
			}
		})
	}
}

// An endless number of fragments, empty ones included, ends at a limit, and the cost does not grow (CVE-2026-48779).
func TestCVE_2026_48779_FragmentFlood(t *testing.T) {
	for _, payload := range []string{"", "x"} {
		t.Run(fmt.Sprintf("fragments of %d bytes", len(payload)), func(t *testing.T) {
			attack := func(n int) int64 {
				conn, p := servedConn(t, wsd.Config{})
				before := held()
				p.send(frame{0x01, []byte(payload)})
				flood := bytes.Repeat(p.encode(frame{0x00, []byte(payload)}), 1000)
				for range n / 1000 {
					p.sendRaw(flood)
				}
				p.send(ping("all of it"))
				require.Equal(t, byte(0x8A), p.receive().first)
				after := held()
				p.close()
				<-conn.Closed()
				return after - before
			}
			attack(1000)
			small, large := attack(1000), attack(100_000)
			require.Less(t, large, small+int64(4*100_000*len(payload))+512<<10, "100,000 fragments hold %d bytes, 1,000 %d", large, small)

			for _, row := range []struct{ option, limit int }{{1000, 1000}, {0, 128 << 10}} {
				conn, p := servedConn(t, wsd.Config{MaxFragments: row.option})
				most := p.encode(frame{0x01, []byte(payload)})
				most = append(most, bytes.Repeat(p.encode(frame{0x00, []byte(payload)}), row.limit-2)...)
				p.sendRaw(append(most, p.encode(frame{0x80, []byte(payload)})...))
				m, err := conn.Receive(t.Context())
				require.NoError(t, err)
				require.Len(t, m.Data, row.limit*len(payload))
				p.sendRaw(append(most, p.encode(frame{0x00, []byte(payload)}, frame{0x00, []byte(payload)})...))
				_, err = conn.Receive(t.Context()) // or a moment would be waited for an answer
				require.ErrorAs(t, err, new(*wsd.ProtocolError))
				f := p.receive()
				require.Equal(t, 1008, int(binary.BigEndian.Uint16(f.payload)), "%q", f.payload)
				p.close()
				<-conn.Closed()
			}
		})
	}
}

// answeringServer is a server that answers each request as told and then reads until the client goes.
func answeringServer(t testing.TB, answer func(conn net.Conn, r *http.Request)) (rawURL string) {
	l := wiretest.Listen(t, "tcp")
	over := make(chan struct{})
	var serving sync.WaitGroup
	t.Cleanup(func() {
		close(over) // or a client that a failed test has left open would be waited for
		l.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				go func() {
					<-over
					conn.Close()
				}()
				if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					answer(conn, r)
					_, _ = io.Copy(io.Discard, conn)
				}
			})
		}
	})
	return "ws://" + l.Addr().String() + "/"
}

// acceptKey is the Sec-WebSocket-Accept that a key demands (RFC 6455, section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Window bits outside of 8 to 15 from a server are refused in the handshake (CVE-2026-2229: undici crashed).
func TestCVE_2026_2229_BadWindowBitsFromAServer(t *testing.T) {
	for _, bits := range []string{"server_max_window_bits=7", "server_max_window_bits=16", "server_max_window_bits=0", "server_max_window_bits=-1",
		"server_max_window_bits=1000", "server_max_window_bits=18446744073709551624", "server_max_window_bits", "server_max_window_bits=",
		"client_max_window_bits=7", "client_max_window_bits=16", "client_max_window_bits"} {
		rawURL := answeringServer(t, func(conn net.Conn, r *http.Request) {
			fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"+
				"Sec-WebSocket-Extensions: permessage-deflate; %s\r\n\r\n", acceptKey(r.Header.Get("Sec-WebSocket-Key")), bits)
		})
		conn, _, err := wsd.Dial(t.Context(), rawURL, &wsd.DialOptions{Config: wsd.Config{Compression: &wsd.Compression{}}})
		require.Nil(t, conn, bits)
		var refused *wsd.HandshakeError
		require.ErrorAs(t, err, &refused, bits)
		require.ErrorContains(t, err, "window_bits", bits)
	}
}

// Bytes after the final DEFLATE block of a message must not loop, nor be taken for the next message.
func TestBytesAfterTheFinalBlock(t *testing.T) {
	attack := func(n int) uint64 {
		return allocated(func() {
			conn, p := servedConn(t, wsd.Config{Compression: &wsd.Compression{}})
			// A final block with "Hello", then bytes that are no DEFLATE: the reserved block type.
			p.send(frame{0xC2, append([]byte("\xf3\x48\xcd\xc9\xc9\x07\x00"), bytes.Repeat([]byte{0xff}, n)...)})
			f := p.receive()
			require.Equal(t, byte(0x88), f.first)
			require.Contains(t, []int{1002, 1007}, int(binary.BigEndian.Uint16(f.payload)))
			_, open := <-conn.Messages()
			require.False(t, open)
			p.close()
			<-conn.Closed()
		})
	}
	attack(10)
	small, large := attack(10), attack(1<<20)
	require.Less(t, large, small+16<<20, "a megabyte of it cost %d bytes", large)
}

// A flood of pings whose sender reads no pong holds no memory that grows with it (CVE-2026-11586; RFC 6455, section 5.5.3).
func TestCVE_2026_11586_PingFlood(t *testing.T) {
	client, server := tcpPair(t)
	conn := wsd.NewConn(server, wsd.ServerRole, wsd.Config{PingInterval: -1})
	p := &peer{t, client, true}
	flood := bytes.Repeat(p.encode(ping(strings.Repeat("p", 125))), 1000)
	p.sendRaw(flood)
	for range 20 { // more than both sockets hold
		p.sendRaw(flood)
	}
	goroutines, before := runtime.NumGoroutine(), held()
	for range 100 {
		p.sendRaw(flood)
	}
	// What the reader drops during this measurement counts until the next collection, though it is not held.
	growth := int64(math.MaxInt64)
	for range 10 {
		growth = min(growth, held()-before)
	}
	require.Less(t, growth, int64(1<<20), "100,000 pings hold %d bytes", growth)
	require.Less(t, runtime.NumGoroutine(), goroutines+10, "goroutines that come with pings")
	conn.CloseNow()
	client.Close()
}

// Masking keys are fresh for each frame, of whatever kind (CVE-2025-10148: curl used one for a whole connection).
// TestRule12MaskingKeys checks that they come from crypto/rand.
func TestCVE_2025_10148_MaskReuse(t *testing.T) {
	conn, p := clientConn(t, wsd.Config{PingInterval: -1})
	prepared := prepared(wsd.Text("the same"))
	sent := make(chan error, 1)
	go func() {
		sent <- func() error {
			ctx := context.Background()
			for range 1000 {
				if err := errors.Join(conn.Send(ctx, wsd.Text("the same")), conn.SendPrepared(ctx, prepared)); err != nil {
					return err
				}
			}
			w := conn.Writer(ctx, wsd.TextMessage, nil)
			for range 200 {
				if _, err := io.WriteString(w, "the same"); err != nil {
					return err
				}
			}
			if err := w.Close(); err != nil {
				return err
			}
			for range 10 { // each in several frames
				if err := conn.Send(ctx, wsd.Binary(make([]byte, 5<<20))); err != nil {
					return err
				}
			}
			for range 100 {
				if _, err := conn.Ping(ctx, []byte("the same")); err != nil {
					return err
				}
			}
			return nil
		}()
		_ = conn.Close(wsd.StatusNormalClosure, "")
	}()
	frames := make(map[byte]int)
	seen := make(map[[4]byte]bool)
	r := bufio.NewReader(p.rwc)
	for first := byte(0); first != 0x88; frames[first]++ {
		var err error
		first, err = r.ReadByte()
		require.NoError(t, err)
		length, err := r.ReadByte()
		require.NoError(t, err)
		require.NotZero(t, length&0x80, "masked")
		n := uint64(length & 0x7F)
		if more := map[uint64]int{126: 2, 127: 8}[n]; more > 0 {
			var b [8]byte
			_, err = io.ReadFull(r, b[8-more:])
			require.NoError(t, err)
			n = binary.BigEndian.Uint64(b[:])
		}
		var key [4]byte
		_, err = io.ReadFull(r, key[:])
		require.NoError(t, err)
		seen[key] = true
		_, err = io.CopyN(io.Discard, r, int64(n))
		require.NoError(t, err)
		if first == 0x89 {
			p.send(pong("the same"))
		}
	}
	require.NoError(t, <-sent)
	all := 0
	for _, n := range frames {
		all += n
	}
	require.Equal(t, 2000, frames[0x81])
	require.Equal(t, 100, frames[0x89])
	require.Greater(t, frames[0x00], 200, "the fragments of the Writer, and of the large messages")
	require.Greater(t, len(seen), all-4, "keys came again") // two alike among 2,500 of 2^32: once in 1,400 runs; four pairs: never
	p.close()
	<-conn.Closed()
}

// A header parser is linear in its input: ws took quadratic time over spaces (CVE-2021-32640) and fell over too many
// fields (CVE-2024-37890).
func TestCVE_2021_32640_CVE_2024_37890_HeaderParserCost(t *testing.T) {
	for _, name := range []string{"Sec-Websocket-Extensions", "Sec-Websocket-Protocol", "Connection", "Upgrade", "Origin",
		"Sec-Websocket-Key", "Sec-Websocket-Version"} {
		for _, unit := range []string{",", " ", "\t,", ";", "a,", "permessage-deflate,", "permessage-deflate;", "x=\"\\", "/"} {
			judge := func(n int) func() {
				value := strings.Repeat(unit, n/len(unit))
				return func() {
					r := httptest.NewRequest(http.MethodGet, "http://example.com/", nil)
					r.Header = http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"},
						"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Origin": {"http://example.com"}}
					r.Header[name] = []string{value} // and no good one, behind which nobody would look
					conn, err := wsd.Accept(httptest.NewRecorder(), r, &wsd.AcceptOptions{
						Config: wsd.Config{Compression: &wsd.Compression{}}, Subprotocols: []string{"chat"}})
					require.Nil(t, conn) // a recorder's connection cannot be taken over
					require.Error(t, err)
				}
			}
			// 32 times the input: linear is 32 times the time, quadratic 1,024 times.
			small, large := fastest(5, judge(32<<10)), fastest(5, judge(1<<20))
			require.Less(t, large, 500*max(small, 20*time.Microsecond), "%s of %q: 32 KiB took %v, 1 MiB %v", name, unit, small, large)
			cost := allocated(judge(1 << 20))
			require.Less(t, cost, uint64(64<<20), "%s of %q", name, unit)
		}
	}
	// A server's answer to a client is not trusted any more than that.
	answer := make(chan string, 1)
	rawURL := answeringServer(t, func(conn net.Conn, r *http.Request) {
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: %s\r\n%s\r\n\r\n",
			acceptKey(r.Header.Get("Sec-WebSocket-Key")), <-answer)
	})
	for _, line := range []string{"Upgrade: %s\r\nConnection: Upgrade", "Upgrade: websocket\r\nConnection: %s",
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: %s",
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Extensions: %s"} {
		for _, unit := range []string{",", "\t,", ";", "permessage-deflate,", "permessage-deflate;", "x;", "permessage-deflate; x=\"\\"} {
			dial := func(n int) func() {
				text := fmt.Sprintf(line, strings.Repeat(unit, n/len(unit))+"!")
				return func() {
					answer <- text
					_, _, err := wsd.Dial(t.Context(), rawURL, &wsd.DialOptions{
						Config: wsd.Config{Compression: &wsd.Compression{}}, Subprotocols: []string{"chat"}})
					var refused *wsd.HandshakeError
					require.ErrorAs(t, err, &refused)
					require.Equal(t, http.StatusSwitchingProtocols, refused.StatusCode, "%v", err)
				}
			}
			small, large := fastest(3, dial(16<<10)), fastest(3, dial(512<<10))
			require.Less(t, large, 500*max(small, 20*time.Microsecond), "%s of %q: 16 KiB took %v, 512 KiB %v", line, unit, small, large)
		}
	}
	// Any number of fields: of other names, and of one name.
	for _, name := range []string{"X-%d", "Sec-Websocket-Extensions", "Sec-Websocket-Protocol", "Connection", "Upgrade", "Origin",
		"Sec-Websocket-Key", "Sec-Websocket-Version"} {
		judge := func(n int) func() {
			r := handshakeRequest()
			if strings.Contains(name, "%") {
				for i := range n {
					r.Header.Set(fmt.Sprintf(name, i), "a")
				}
			} else {
				r.Header[name] = append(slices.Repeat([]string{"a"}, n), r.Header[name]...)
			}
			return func() {
				conn, err := wsd.Accept(httptest.NewRecorder(), r, &wsd.AcceptOptions{
					Config: wsd.Config{Compression: &wsd.Compression{}}, Subprotocols: []string{"chat"}})
				require.Nil(t, conn)
				require.Error(t, err)
			}
		}
		small, large := fastest(5, judge(1000)), fastest(5, judge(32_000))
		require.Less(t, large, 500*max(small, 20*time.Microsecond), "1,000 fields %s took %v, 32,000 %v", name, small, large)
	}
}

// An answer whose header never ends is given up, and its cost does not grow with what would have come.
func TestEndlessHandshakeAnswer(t *testing.T) {
	sent := make(chan int, 1)
	rawURL := answeringServer(t, func(conn net.Conn, _ *http.Request) {
		total := 0
		_, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n")
		line := []byte("X-Endless: " + strings.Repeat("x", 4000) + "\r\n")
		for err == nil && total < 256<<20 {
			var n int
			n, err = conn.Write(line)
			total += n
		}
		sent <- total
	})
	cost := allocated(func() {
		_, _, err := wsd.Dial(t.Context(), rawURL, nil)
		var refused *wsd.HandshakeError
		require.ErrorAs(t, err, &refused)
	})
	require.Less(t, <-sent, 32<<20, "what the client read, with what both sockets hold")
	require.Less(t, cost, uint64(8<<20))
}

// Line ends in what the caller gives must not become header lines of their own.
func TestHeaderInjection(t *testing.T) {
	var reached atomic.Bool
	rawURL := answeringServer(t, func(net.Conn, *http.Request) { reached.Store(true) })
	for _, end := range []string{"\r\n", "\n", "\r", "\x00"} {
		evil := "a" + end + "X-Injected: yes"
		for name, dial := range map[string]func() error{
			"subprotocol": func() error {
				_, _, err := wsd.Dial(t.Context(), rawURL, &wsd.DialOptions{Subprotocols: []string{evil}})
				return err
			},
			"header value": func() error {
				_, _, err := wsd.Dial(t.Context(), rawURL, &wsd.DialOptions{Header: http.Header{"X-Mine": {evil}}})
				return err
			},
			"header name": func() error {
				_, _, err := wsd.Dial(t.Context(), rawURL, &wsd.DialOptions{Header: http.Header{evil: {"x"}}})
				return err
			},
			"host": func() error {
				_, _, err := wsd.Dial(t.Context(), rawURL, &wsd.DialOptions{Header: http.Header{"Host": {evil}}})
				return err
			},
			"path":  func() error { _, _, err := wsd.Dial(t.Context(), rawURL+evil, nil); return err },
			"query": func() error { _, _, err := wsd.Dial(t.Context(), rawURL+"?"+evil, nil); return err },
		} {
			var refused *wsd.HandshakeError
			require.ErrorAs(t, dial(), &refused, "%s with %q", name, end)
			require.NoError(t, refused.Err, "%s with %q was found by net/http and not before", name, end)
			require.False(t, reached.Load(), "%s with %q reached the server", name, end)
		}

		// The options of a server are its own, and refused. What its handlers have put into the answer is left out.
		for name, opts := range map[string]*wsd.AcceptOptions{
			"subprotocol":  {Subprotocols: []string{evil}},
			"header value": {Header: http.Header{"X-Mine": {evil}}},
			"header name":  {Header: http.Header{evil: {"x"}}},
		} {
			w := httptest.NewRecorder()
			_, err := wsd.Accept(hijacked{ResponseRecorder: w}, handshakeRequest(), opts)
			require.Error(t, err, "%s with %q", name, end)
			require.Equal(t, http.StatusInternalServerError, w.Code)
		}
		a, b := wsdtest.Transport()
		w := hijacked{httptest.NewRecorder(), memoryConn{b}, nil}
		w.Header()["X-Mine"] = []string{"good", evil}
		w.Header()[evil] = []string{"x"}
		conn, err := wsd.Accept(w, handshakeRequest(), nil)
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(a), nil)
		require.NoError(t, err)
		require.Equal(t, http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Accept": {acceptKey(exampleKey)},
			"X-Mine": {"good"}}, resp.Header)
		conn.CloseNow()
	}
}

// Origins that only look like the server's own are refused (cross-site WebSocket hijacking).
func TestOriginConfusion(t *testing.T) {
	for _, origin := range []string{"http://example.com.evil.test", "http://evil.test/example.com", "http://evilexample.com", "http://example.com@evil.test",
		"http://example.com:81", "http://example.com:8080", "null", "file://", "http://", "://example.com", "example.com", "http://example.com\x00.evil.test",
		"http://example.com%2eevil.test", "http://example.com#@evil.test", "javascript://example.com", "http://sub.example.com", "http://example.com ", "http://example.com, http://evil.test"} {
		r := httptest.NewRequest(http.MethodGet, "http://example.com/", nil)
		r.Header = http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Origin": {origin}}
		w := httptest.NewRecorder()
		_, err := wsd.Accept(w, r, nil)
		require.Error(t, err)
		require.Contains(t, []int{http.StatusForbidden, http.StatusBadRequest}, w.Code, "the origin %q", origin)
	}
}

// A redirect to another origin does not get the credentials that were meant for the first, nor does one that comes back
// from there, since the other origin sent it.
func TestRedirectLeaksNoCredentials(t *testing.T) {
	got := make(map[string]http.Header) // by path
	record := func(r *http.Request) { got[r.URL.Path] = r.Header.Clone() }
	var home string
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		record(r)
		http.Redirect(w, r, home+"/back", http.StatusTemporaryRedirect)
	}))
	defer thief.Close()
	honest := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		record(r)
		switch r.URL.Path {
		case "/start":
			http.Redirect(w, r, "/within?token=secret", http.StatusTemporaryRedirect)
		case "/within":
			http.Redirect(w, r, thief.URL+"/stolen", http.StatusTemporaryRedirect)
		default:
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer honest.Close()
	home = honest.URL
	u, err := url.Parse(honest.URL + "/start?token=secret")
	require.NoError(t, err)
	u.Scheme, u.User = "ws", url.UserPassword("user", "secret")
	credentials := http.Header{"Cookie": {"session=secret"}, "Cookie2": {"secret"}, "Proxy-Authorization": {"Basic secret"},
		"Proxy-Authenticate": {"secret"}, "Www-Authenticate": {"secret"}}
	_, _, err = wsd.Dial(t.Context(), u.String(), &wsd.DialOptions{Header: credentials})
	require.Error(t, err)
	require.Len(t, got, 4, "the redirects were followed")
	for _, path := range []string{"/start", "/within"} {
		require.NotEmpty(t, got[path].Get("Authorization"), path)
		for name := range credentials {
			require.Equal(t, credentials[name], got[path][name], "%s of %s", name, path)
		}
	}
	for _, path := range []string{"/stolen", "/back"} {
		for name, values := range got[path] {
			require.NotContains(t, strings.Join(values, " "), "secret", "%s of %s", name, path)
			require.NotEqual(t, "Authorization", name)
		}
	}
	require.NotContains(t, err.Error(), "secret")
}

// A peer that never answers a close frame does not keep the connection (CVE-2024-23672, Tomcat).
func TestCVE_2024_23672_PeerThatNeverCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, p := servedConn(t, wsd.Config{CloseTimeout: 3 * time.Second})
		go func() { // it does not close, but it talks
			for {
				select {
				case <-conn.Closed():
					return
				case <-time.After(100 * time.Millisecond): // the bubble's time
				}
				if _, err := p.rwc.Write(p.encode(text("still here"), ping("?"))); err != nil {
					return
				}
			}
		}()
		go func() { _, _ = io.Copy(io.Discard, p.rwc) }()
		start := time.Now()
		err := conn.Close(wsd.StatusNormalClosure, "")
		require.ErrorIs(t, err, wsd.ErrCloseTimeout)
		require.LessOrEqual(t, time.Since(start), 4*time.Second)
		<-conn.Closed()
		p.close()
	})
}

// Reading from a connection that has ended keeps returning the cause: no panic, however often (gorilla/websocket panics
// at the thousandth read).
func TestReadsOfAClosedConnection(t *testing.T) {
	conn, p := servedConn(t, wsd.Config{})
	p.close()
	<-conn.Closed()
	var first error
	for i := range 10_000 {
		_, err := conn.Receive(t.Context())
		require.Error(t, err)
		if i == 0 {
			first = err
		}
		require.Equal(t, first.Error(), err.Error())
		_, open := <-conn.Messages()
		require.False(t, open)
	}
	require.ErrorIs(t, first, wsd.ErrClosed)
	require.True(t, errors.Is(first, io.EOF) || errors.Is(first, io.ErrUnexpectedEOF) || errors.Is(first, io.ErrClosedPipe), "%v", first)
}

// With 10,000 half-open handshakes and 10,000 half-sent frames the server still answers others. Each costs no more than
// the first thousand did, and they go when the server ends.
func TestSlowloris(t *testing.T) {
	const few, many = 1000, 9000
	l := listenInMemory(bufferedPair)
	ws := &wsd.Server{Handler: echo}
	server := &http.Server{Handler: ws, ReadHeaderTimeout: time.Hour} // the attack outlasts it
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()

	var slow []net.Conn
	handshake := "GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	open := func(text string) net.Conn {
		conn, err := l.dial(t.Context())
		require.NoError(t, err)
		slow = append(slow, conn)
		_, err = io.WriteString(conn, text)
		require.NoError(t, err)
		return conn
	}
	halfOpen := func(n int) {
		for range n {
			open(handshake) // lacks the line that ends it
		}
	}
	answer := make([]byte, len("HTTP/1.1 101 Switching Protocols\r\n"))
	halfSent := func(n int) {
		for range n {
			conn := open(handshake + "\r\n")
			_, err := io.ReadFull(conn, answer)
			require.NoError(t, err)
			require.Contains(t, string(answer), " 101 ")
			_, err = conn.Write(append(wiretest.Header(0x82, 1<<20, true), "a beginning"...))
			require.NoError(t, err)
		}
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return l.dial(ctx)
	}}}
	answers := func() {
		conn, _, err := wsd.Dial(t.Context(), "ws://example.com/", &wsd.DialOptions{HTTPClient: client})
		require.NoError(t, err)
		require.NoError(t, conn.Send(t.Context(), wsd.Text("anyone there?")))
		m, err := conn.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, "anyone there?", string(m.Data))
		require.NoError(t, conn.Close(wsd.StatusNormalClosure, ""))
	}
	for _, attack := range []func(int){halfOpen, halfSent} {
		start, goroutines := held(), runtime.NumGoroutine()
		attack(few)
		answers()
		first, firstGoroutines := held()-start, runtime.NumGoroutine()-goroutines
		attack(many)
		answers()
		all, allGoroutines := held()-start, runtime.NumGoroutine()-goroutines
		// net/http takes 11 KB and one goroutine for what is half open, wsd 6 KB and two for what is half sent.
		each := (all - first) / many
		require.Less(t, each, 2*max(first/few, 8<<10), "%d hold %d bytes, %d hold %d", few, first, few+many, all)
		require.Less(t, each, int64(32<<10))
		require.Less(t, allGoroutines, 2*(firstGoroutines+10)*(few+many)/few)
		require.LessOrEqual(t, allGoroutines, 2*(few+many)+10)
	}
	require.GreaterOrEqual(t, ws.Connections(), few+many)
	for _, conn := range slow {
		conn.Close()
	}
	require.NoError(t, ws.Shutdown(t.Context()))
	require.Zero(t, ws.Connections())
	require.NoError(t, server.Close())
	require.ErrorIs(t, <-served, http.ErrServerClosed)
}
