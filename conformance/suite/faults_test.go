// Tests of the suite itself: a peer that is wrong in one way fails the case that is there to find it, and a sound one passes.

package suite

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// A miniServer is an echo server made of the suite's own parts, sound but for what its hooks change. It knows what the
// cases below need.
type miniServer struct {
	accept func(string) string                      // changes Sec-WebSocket-Accept
	extra  string                                   // more header lines
	send   func(f frame, write func(...frame))      // changes what is sent
	fail   func(code int, write func(...frame)) int // changes the code of a failure, 0: no close frame
	linger bool                                     // leaves the TCP connection open
	eager  bool                                     // fails ahead of the answers to good messages
}

func (m miniServer) start(t *testing.T) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	done := make(chan struct{})
	t.Cleanup(func() {
		close(done)
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
				if m.serve(conn); m.linger {
					<-done
				}
			})
		}
	})
	return l.Addr().String()
}

func (m miniServer) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	r, err := readRequest(in)
	if err != nil {
		return
	}
	f := soundResponse(r)
	if m.accept != nil {
		f = f.replace("Sec-WebSocket-Accept", m.accept(f.get("Sec-WebSocket-Accept")[0]))
	}
	if name, value, ok := strings.Cut(m.extra, ": "); ok {
		f = f.with(name, value)
	}
	conn.Write(headBytes(switchingProtocols, f))
	raw := func(frames ...frame) {
		var b []byte
		for _, f := range frames {
			b = f.appendTo(b, false, [4]byte{1, 2, 3, 4})
		}
		conn.Write(b)
	}
	var held []frame
	write := func(f frame) {
		switch {
		case m.eager:
			held = append(held, f)
		case m.send != nil:
			m.send(f, raw)
		default:
			raw(f)
		}
	}
	failure := func(code int) {
		if m.fail != nil {
			code = m.fail(code, raw)
		}
		if code != 0 {
			raw(closeFrame(code, ""))
		}
	}
	var message frame
	open := false
	for {
		f, err := readFrame(in, true)
		if err != nil {
			if !ended(err) {
				failure(1002)
			}
			return
		}
		switch {
		case f.rsv != 0, f.opcode < opClose && (f.opcode == opContinuation) != open:
			failure(1002)
			return
		case f.opcode == opPing:
			write(frame{fin: true, opcode: opPong, payload: f.payload})
		case f.opcode == opClose:
			if checkClosePayload(f.payload) != nil {
				failure(1002)
				return
			}
			m.eager = false
			write(frame{fin: true, opcode: opClose, payload: f.payload[:min(2, len(f.payload))]})
			return
		case f.opcode < opClose:
			if !open {
				message = frame{fin: true, opcode: f.opcode}
			}
			message.payload = append(message.payload, f.payload...)
			open = !f.fin
			if open {
				continue
			}
			if message.opcode == opText && !utf8.Valid(message.payload) {
				failure(1007)
				return
			}
			write(message)
			if in.Buffered() == 0 {
				raw(held...)
				held = nil
			}
		}
	}
}

var table = sync.OnceValue(func() []Case { return Cases(Load{Messages: 10, Bytes: 1 << 20}) })

// judge runs the cases with one of the names against a server.
func judge(t *testing.T, m miniServer, names ...string) []Result {
	var chosen []Case
	for _, c := range Select(table(), Server, nil) {
		if slices.Contains(names, c.Name) {
			chosen = append(chosen, c)
		}
	}
	require.Len(t, chosen, len(names), "each name is that of one case: %q", names)
	results, err := JudgeServer(t.Context(), "ws://"+m.start(t)+"/", chosen, &Options{Parallel: 4, Timeout: 300 * time.Millisecond})
	require.NoError(t, err)
	return results
}

func TestSuiteFindsFaults(t *testing.T) {
	on := func(opcode byte, change func(f frame, write func(...frame))) func(frame, func(...frame)) {
		return func(f frame, write func(...frame)) {
			if f.opcode == opcode {
				change(f, write)
			} else {
				write(f)
			}
		}
	}
	const text, ping, closing = "text of 126 bytes in one write", "a ping of 125 bytes in one write", "a close frame with 1000 in one write"
	for _, row := range []struct {
		fault, name, finds string
		m                  miniServer
	}{
		{"flips a byte", text, "byte 125", miniServer{send: on(opText, func(f frame, w func(...frame)) {
			f.payload = bytes.Clone(f.payload)
			f.payload[125] ^= 1
			w(f)
		})}},
		{"drops a byte", text, "125 bytes", miniServer{send: on(opText, func(f frame, w func(...frame)) { f.payload = f.payload[:125]; w(f) })}},
		{"answers twice", text, "unexpected text", miniServer{send: on(opText, func(f frame, w func(...frame)) { w(f, f) })}},
		{"answers another type", text, "binary", miniServer{send: on(opText, func(f frame, w func(...frame)) { f.opcode = opBinary; w(f) })}},
		{"masks", text, "masked", miniServer{send: on(opText, func(f frame, w func(...frame)) { w(f.masked(maskAgainst)) })}},
		{"sets RSV1", text, "RSV1", miniServer{send: on(opText, func(f frame, w func(...frame)) { w(f.reserved(rsv1)) })}},
		{"sets RSV3", text, "reserved bits", miniServer{send: on(opText, func(f frame, w func(...frame)) { w(f.reserved(rsv3)) })}},
		{"writes long lengths", text, "shortest form", miniServer{send: on(opText, func(f frame, w func(...frame)) { w(f.inForm(length64)) })}},
		{"never ends its message", text, "no answer", miniServer{send: on(opText, func(f frame, w func(...frame)) { f.fin = false; w(f) })}},
		{"nests messages", text, "unfinished", miniServer{send: on(opText, func(f frame, w func(...frame)) { w(part(opText, "x"), f) })}},
		{"continues nothing", text, "nothing to continue", miniServer{send: on(opText, func(f frame, w func(...frame)) { w(whole(opContinuation, "x"), f) })}},
		{"sends bad text", text, "no UTF-8", miniServer{send: on(opText, func(f frame, w func(...frame)) { w(whole(opText, "\xff")) })}},
		{"sends a reserved opcode", text, "reserved opcode", miniServer{send: on(opText, func(f frame, w func(...frame)) { w(whole(3, ""), f) })}},
		{"sends pongs unasked", text, "unexpected pong", miniServer{send: on(opText, func(f frame, w func(...frame)) { w(f, whole(opPong, "")) })}},
		{"answers no ping", ping, "no answer", miniServer{send: on(opPong, func(frame, func(...frame)) {})}},
		{"answers another ping", ping, "unexpected pong", miniServer{send: on(opPong, func(f frame, w func(...frame)) { f.payload = f.payload[1:]; w(f) })}},
		{"fragments pongs", ping, "fragmented control", miniServer{send: on(opPong, func(f frame, w func(...frame)) { f.fin = false; w(f) })}},
		{"closes with another code", closing, "close 1001", miniServer{send: on(opClose, func(f frame, w func(...frame)) { w(closeFrame(1001, "")) })}},
		{"closes with a forbidden code", closing, "1005", miniServer{send: on(opClose, func(f frame, w func(...frame)) { w(closeFrame(1005, "")) })}},
		{"closes with one byte", closing, "one byte", miniServer{send: on(opClose, func(f frame, w func(...frame)) { w(whole(opClose, "x")) })}},
		{"closes with a bad reason", closing, "reason", miniServer{send: on(opClose, func(f frame, w func(...frame)) { w(closeFrame(1000, "\xff")) })}},
		{"does not close", closing, "ended", miniServer{send: on(opClose, func(frame, func(...frame)) {})}},
		{"closes twice", closing, "more bytes", miniServer{send: on(opClose, func(f frame, w func(...frame)) { w(f, f) })}},
		{"leaves TCP open", closing, "not ended", miniServer{linger: true}},
		{"fails with another code", "the opcode 0x3", "close 1000", miniServer{fail: func(int, func(...frame)) int { return 1000 }}},
		{"fails without a close frame", "the opcode 0x3", "ended", miniServer{fail: func(int, func(...frame)) int { return 0 }}},
		{"goes on after a failure", "the opcode 0x3", "more bytes", miniServer{fail: func(c int, w func(...frame)) int {
			w(closeFrame(c, ""), whole(opText, "more"))
			return 0
		}}},
		{"fails ahead of good answers", "the opcode 0x3 between good messages in one write", "expected text", miniServer{eager: true}},
		{"waits for all of a bad text", "the byte ff, in a frame of 4096 bytes whose rest does not come", "no answer", miniServer{}},
		{"accepts with a wrong key", "a plain request", "Sec-WebSocket-Accept", miniServer{accept: strings.ToLower}},
		{"accepts an extension", "a plain request", "accepted", miniServer{extra: "Sec-WebSocket-Extensions: permessage-deflate"}},
		{"accepts a subprotocol", "a plain request", "subprotocol", miniServer{extra: "Sec-WebSocket-Protocol: chat"}},
	} {
		t.Run(row.fault, func(t *testing.T) {
			t.Parallel()
			r := judge(t, row.m, row.name)
			require.Equal(t, Failed, r[0].Verdict)
			require.Contains(t, r[0].Detail, row.finds)
		})
	}
}

func TestSuitePassesASoundServer(t *testing.T) {
	for _, r := range judge(t, miniServer{}, "text of 126 bytes in one write", "a ping of 125 bytes in one write", "ten equal pings",
		"a close frame with 1000 in one write", "a close frame without a code in one write", "the opcode 0x3", "the byte ff", "a plain request",
		"the opcode 0x3 between good messages in one write", "every code from 1000 to 1015, a connection each",
		"pings between compressed fragments", "a reason of 123 bytes in chops of 1") {
		want := Passed
		if r.Topic == "compression" {
			want = NotApplicable // this server does not compress, which must not count as passed
		}
		require.Equal(t, want, r.Verdict, "%s: %s", r.Name, r.Detail)
	}
	// The newest pong alone is allowed, and noted.
	var last frame
	n := 0
	r := judge(t, miniServer{send: func(f frame, w func(...frame)) {
		if f.opcode == opPong {
			if last, n = f, n+1; n < 10 {
				return
			}
		}
		w(f)
	}}, "ten pings in one write")
	_ = last
	require.Equal(t, Passed, r[0].Verdict, r[0].Detail)
	require.Contains(t, r[0].Note, "5.5.3")
}

func TestFramesRoundTrip(t *testing.T) {
	for _, fromClient := range []bool{false, true} {
		for _, n := range sizeBorders[:10] {
			b := whole(opBinary, noise(n)).appendTo(nil, fromClient, [4]byte{1, 2, 3, 4})
			f, err := readFrame(bytes.NewReader(b), fromClient)
			require.NoError(t, err)
			require.Equal(t, noise(n), string(f.payload))
			for cut := range min(len(b), 200) {
				_, err := readFrame(bytes.NewReader(b[:cut]), fromClient)
				if cut == 0 {
					require.Equal(t, io.EOF, err)
				} else {
					require.ErrorIs(t, err, io.ErrUnexpectedEOF)
				}
			}
		}
	}
}

// The table must not shrink unnoticed, and no two of its rows are alike.
func TestTable(t *testing.T) {
	require.GreaterOrEqual(t, len(Select(table(), Server, nil)), 2000)
	require.GreaterOrEqual(t, len(Select(table(), Client, nil)), 1900)
	for _, role := range []Role{Server, Client} {
		names := make(map[string]bool)
		for _, c := range Select(table(), role, nil) {
			require.False(t, names[c.Topic+c.Name], "two cases %s: %s", c.Topic, c.Name)
			names[c.Topic+c.Name] = true
		}
	}
	ids := make(map[string]bool)
	for _, c := range table() {
		require.False(t, ids[c.ID], "two cases %s", c.ID)
		ids[c.ID] = true
		require.Contains(t, Topics(), c.Topic)
		require.Regexp(t, `^RFC \d+, \d`, c.Section)
		require.True(t, (c.run == nil) != (c.many == nil))
	}
}

func TestSequencesOfUTF8(t *testing.T) {
	for _, bad := range illFormed {
		require.False(t, utf8.ValidString(bad.bytes), bad.name)
		if bad.bad > 1 { // one byte less is still the beginning of something sound
			begun := bad.bytes[:bad.bad-1]
			for len(begun) > 0 {
				r, n := utf8.DecodeRuneInString(begun)
				if r == utf8.RuneError && n == 1 {
					break
				}
				begun = begun[n:]
			}
			require.False(t, utf8.FullRuneInString(begun) && begun != "", "%s: %x is certain earlier", bad.name, bad.bytes)
		}
	}
	for _, good := range wellFormed {
		require.True(t, utf8.ValidString(good.text), good.name)
	}
}
