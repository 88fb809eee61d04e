// closing_test.go checks how connections end: which close frames may come and go (RFC 6455, sections 5.5.1 and 7.4), what
// Close and StartClose do, what CloseEvent tells, how long the end may take, and what the peer gets of it.

package wsd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// The documentation of Conn.StartClose.
func TestStartCloseDoesNotWait(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{SendQueue: -1, PingInterval: -1})
		ends(t, c, p)
		const size = 100 * 4096 // more than the transport takes
		queueMany(t, c, size)
		start := time.Now()
		c.StartClose(wsd.StatusGoingAway, "see you")
		require.Zero(t, time.Since(start))
		require.Equal(t, wsd.StateClosing, c.State())
		require.ErrorIs(t, c.Send(t.Context(), wsd.Text("too late")), wsd.ErrClosed)
		f, before, err := p.reads(0x88)
		require.NoError(t, err)
		require.Equal(t, size, before, "what was queued goes ahead")
		require.Equal(t, frame{0x88, closePayload(1001, "see you")}, f)
		p.send(closeFrame(1001))
		p.close()
		<-c.Closed()
		require.True(t, c.CloseEvent().Clean)
		require.NoError(t, c.Close(wsd.StatusNormalClosure, ""), "it reports the end that StartClose began")
	})
}

// StartClose ends the connection, with CloseTimeout, even if nobody waits for that.
func TestStartCloseEndsWithinCloseTimeout(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{PingInterval: -1})
		ends(t, c, p)
		start := time.Now()
		c.StartClose(wsd.StatusNormalClosure, "")
		<-c.Closed()
		require.Equal(t, closeTimeout, time.Since(start))
		require.ErrorIs(t, c.CloseEvent().Err, wsd.ErrCloseTimeout)
		require.True(t, c.CloseEvent().Local)
		require.Equal(t, wsd.StatusNormalClosure, c.CloseEvent().SentCode)
	})
}

// The first StartClose decides; a Close after it waits for the same end.
func TestStartCloseTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := wsdtest.Pipe()
		client.StartClose(4001, "first")
		client.StartClose(4002, "second")
		require.NoError(t, client.Close(4003, "third"))
		<-server.Closed()
		require.Equal(t, wsd.StatusCode(4001), server.CloseEvent().Code)
		require.Equal(t, "first", server.CloseEvent().Reason)
		require.Equal(t, wsd.StatusCode(4001), client.CloseEvent().SentCode)
		client.StartClose(4004, "after the end")
	})
}

// StartClose closes whatever it is asked to say, as Close does.
func TestStartCloseWithArgumentsThatDoNotFit(t *testing.T) {
	for name, row := range map[string]struct {
		code   wsd.StatusCode
		reason string
		want   frame
	}{
		"a long reason":               {wsd.StatusGoingAway, strings.Repeat("€", 100), frame{0x88, closePayload(1001, strings.Repeat("€", 41))}},
		"a code that may not be sent": {wsd.StatusAbnormalClosure, "", closeFrame(1011)},
		"no code":                     {wsd.StatusNoStatus, "", frame{0x88, []byte{}}},
	} {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				c, p := pair(t, wsd.Config{})
				ends(t, c, p)
				c.StartClose(row.code, row.reason)
				f := p.receive()
				require.Equal(t, row.want.first, f.first)
				if row.code == wsd.StatusAbnormalClosure {
					f.payload = f.payload[:2] // the reason is not promised
				}
				require.Equal(t, row.want.payload, f.payload)
			})
		})
	}
}

// The documentation of CloseEvent.
func TestCloseEventSaysWhoClosedAndWithWhat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := wsdtest.Pipe()
		require.NoError(t, client.Close(4001, "enough"))
		<-server.Closed()

		event := client.CloseEvent()
		require.True(t, event.Local)
		require.Equal(t, wsd.StatusCode(4001), event.SentCode)
		require.Equal(t, "enough", event.SentReason)
		require.Equal(t, wsd.StatusCode(4001), event.Code, "the answer repeats it")
		require.Empty(t, event.Reason)
		var cause *wsd.CloseError
		require.ErrorAs(t, event.Err, &cause)
		require.True(t, cause.Local)

		event = server.CloseEvent()
		require.False(t, event.Local)
		require.Equal(t, wsd.StatusCode(4001), event.Code)
		require.Equal(t, "enough", event.Reason)
		require.Equal(t, wsd.StatusCode(4001), event.SentCode, "the answer")
		require.Empty(t, event.SentReason)
		require.ErrorAs(t, event.Err, &cause)
		require.False(t, cause.Local)
	})
}

// A peer may answer with a code of its own.
func TestCloseEventOfAnAnswerThatDiffers(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{})
		ends(t, c, p)
		c.StartClose(4001, "enough")
		require.Equal(t, frame{0x88, closePayload(4001, "enough")}, p.receive())
		p.send(frame{0x88, closePayload(4002, "indeed")})
		p.close()
		<-c.Closed()
		event := c.CloseEvent()
		require.True(t, event.Local)
		require.True(t, event.Clean)
		require.Equal(t, wsd.StatusCode(4001), event.SentCode)
		require.Equal(t, "enough", event.SentReason)
		require.Equal(t, wsd.StatusCode(4002), event.Code)
		require.Equal(t, "indeed", event.Reason)
		require.Equal(t, &wsd.CloseError{Code: 4002, Reason: "indeed", Local: true}, event.Err)
	})
}

func TestCloseEventOfAViolation(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{})
		ends(t, c, p)
		p.send(frame{0x83, nil})
		f := p.receive()
		require.Equal(t, byte(0x88), f.first)
		p.close()
		<-c.Closed()
		event := c.CloseEvent()
		require.True(t, event.Local, "this side failed the connection")
		require.Equal(t, wsd.StatusProtocolError, event.SentCode)
		require.Equal(t, string(f.payload[2:]), event.SentReason)
		require.Equal(t, wsd.StatusProtocolError, event.Code)
	})
}

// What was cut or mended is reported as it was sent.
func TestCloseEventHasTheReasonAsItWasSent(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{})
		ends(t, c, p)
		c.StartClose(wsd.StatusGoingAway, strings.Repeat("€", 100))
		f := p.receive()
		p.send(closeFrame(1001))
		p.close()
		<-c.Closed()
		require.Equal(t, string(f.payload[2:]), c.CloseEvent().SentReason)
		require.Equal(t, strings.Repeat("€", 41), c.CloseEvent().SentReason)
	})
}

// A message that could not be completed is this side's doing.
func TestCloseEventOfAMessageThatWasGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{})
		ends(t, c, p)
		ctx, cancel := context.WithCancel(t.Context())
		w := c.Writer(ctx, wsd.TextMessage, nil)
		_, err := w.Write([]byte("begun"))
		require.NoError(t, err)
		cancel()
		_, _, err = p.reads(0x88)
		require.NoError(t, err)
		p.send(closeFrame(1011))
		<-c.Closed()
		require.True(t, c.CloseEvent().Local)
		require.Equal(t, wsd.StatusInternalError, c.CloseEvent().SentCode)
	})
}

const maxReason = 123 // bytes (RFC 6455, section 5.5)

// The documentation of Conn.Close: a reason that does not fit is cut, and the connection is closed.
func TestCloseWithAReasonThatDoesNotFit(t *testing.T) {
	for name, row := range map[string]struct{ reason, want string }{
		"too long":                         {strings.Repeat("x", 124), strings.Repeat("x", 123)},
		"a megabyte":                       {strings.Repeat("x", 1<<20), strings.Repeat("x", 123)},
		"a character across the boundary":  {strings.Repeat("x", 122) + "é", strings.Repeat("x", 122)},
		"four bytes across the boundary":   {strings.Repeat("x", 120) + "😀", strings.Repeat("x", 120)},
		"four bytes up to the boundary":    {strings.Repeat("x", 119) + "😀tail", strings.Repeat("x", 119) + "😀"},
		"a reason of characters of 3 B":    {strings.Repeat("€", 100), strings.Repeat("€", 41)},
		"a reason that fits is not harmed": {strings.Repeat("€", 41), strings.Repeat("€", 41)},
	} {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				code, reason, err := closeAnswered(t, pair, wsd.StatusGoingAway, row.reason)
				require.NoError(t, err)
				require.EqualValues(t, wsd.StatusGoingAway, code)
				require.Equal(t, row.want, reason)
			})
		})
	}
}

func TestCloseWithAReasonThatIsNotUTF8(t *testing.T) {
	for name, given := range map[string]string{
		"in the middle": "before\xFFafter", "at the end": "before\xE2\x82", "nothing else": "\xC0\xAF",
		"long": strings.Repeat("\xFF", 1000), "replaced at the boundary": strings.Repeat("x", 121) + "\xFF",
	} {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				code, reason, err := closeAnswered(t, pair, wsd.StatusGoingAway, given)
				require.NoError(t, err)
				require.EqualValues(t, wsd.StatusGoingAway, code)
				require.True(t, utf8.ValidString(reason), "%q", reason)
				require.LessOrEqual(t, len(reason), maxReason)
				for _, part := range []string{"before", "after"} {
					require.Equal(t, strings.Contains(given, part), strings.Contains(reason, part), "%q", reason)
				}
			})
		})
	}
}

// The documentation of Conn.Close: a code that may not be sent closes with 1011.
func TestCloseWithACodeThatMayNotBeSent(t *testing.T) {
	for _, given := range []wsd.StatusCode{0, 999, 1004, wsd.StatusAbnormalClosure, wsd.StatusTLSHandshake, 1016, 2999, 5000, 65535} {
		eachRole(t, func(t *testing.T, pair newPair) {
			code, _, err := closeAnswered(t, pair, given, "why")
			require.EqualValues(t, wsd.StatusInternalError, code, given)
			var argument *wsd.CloseArgumentError
			require.ErrorAs(t, err, &argument)
			require.Equal(t, given, argument.Code)
		})
	}
}

// closeAnswered closes a connection whose peer answers, and returns the close frame and what Close returned.
func closeAnswered(t *testing.T, pair newPair, code wsd.StatusCode, reason string) (uint16, string, error) {
	c, p := pair(t, wsd.Config{})
	background := ends(t, c, p)
	require.NoError(t, c.Send(t.Context(), wsd.Text("ahead of the close frame")))
	closed := make(chan error, 1)
	background.Go(func() { closed <- c.Close(code, reason) })
	require.Equal(t, text("ahead of the close frame"), p.receive())
	synctest.Wait()
	require.NotEqual(t, wsd.StateOpen, c.State(), "Close has left the connection open")
	f := p.receive()
	require.Equal(t, byte(0x88), f.first)
	require.GreaterOrEqual(t, len(f.payload), 2)
	p.send(f)
	p.close()
	err := <-closed
	require.Equal(t, wsd.StateClosed, c.State())
	require.True(t, c.CloseEvent().Clean)
	return binary.BigEndian.Uint16(f.payload), string(f.payload[2:]), err
}

// mayBeSent is section 7.4, and the IANA registry of close codes.
func mayBeSent(code int) bool {
	return code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
}

func parseOne(role wsd.Role, f frame) (wsd.Event, error) {
	p := wsd.NewParser(role, wsd.Config{})
	event, _, err := p.Parse(encodeFrame(f, role == wsd.ServerRole))
	return event, err
}

func TestCloseCodesThatMayCome(t *testing.T) {
	for _, role := range []wsd.Role{wsd.ClientRole, wsd.ServerRole} {
		for code := range 1 << 16 {
			event, err := parseOne(role, closeFrame(code))
			if mayBeSent(code) {
				require.NoError(t, err, code)
				require.EqualValues(t, wsd.OpClose, event.Opcode)
				require.EqualValues(t, code, event.Code)
				require.Empty(t, event.Data)
				continue
			}
			var violation *wsd.ProtocolError
			require.ErrorAs(t, err, &violation, code)
			require.Equal(t, wsd.StatusProtocolError, violation.Code, code)
		}
	}
}

func TestClosePayloadsThatMayCome(t *testing.T) {
	event, err := parseOne(wsd.ServerRole, frame{0x88, nil})
	require.NoError(t, err)
	require.Equal(t, wsd.StatusNoStatus, event.Code)
	event, err = parseOne(wsd.ServerRole, frame{0x88, closePayload(1000, "κόσμε")})
	require.NoError(t, err)
	require.Equal(t, wsd.StatusNormalClosure, event.Code)
	require.Equal(t, "κόσμε", string(event.Data))
	for payload, want := range map[string]wsd.StatusCode{
		"\x03":             wsd.StatusProtocolError,
		"\x03\xE8\xC3":     wsd.StatusInvalidPayload,
		"\x03\xE8\xFF":     wsd.StatusInvalidPayload,
		"\x03\xED":         wsd.StatusProtocolError,
		"\x00\x00\xFF\xFF": wsd.StatusProtocolError,
	} {
		_, err := parseOne(wsd.ServerRole, frame{0x88, []byte(payload)})
		var violation *wsd.ProtocolError
		require.ErrorAs(t, err, &violation, "%q", payload)
		require.Equal(t, want, violation.Code, "%q", payload)
	}
}

// Every code that may be sent is sent as it is, and what is sent may come.
func TestCloseCodesThatMayGo(t *testing.T) {
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			background := ends(t, c, p)
			closed := make(chan error, 1)
			background.Go(func() { closed <- c.Close(wsd.StatusCode(code), "why") })
			f := p.receive()
			require.Equal(t, byte(0x88), f.first)
			require.EqualValues(t, code, binary.BigEndian.Uint16(f.payload))
			require.Equal(t, "why", string(f.payload[2:]))
			event, err := parseOne(wsd.ClientRole, f)
			require.NoError(t, err)
			require.EqualValues(t, code, event.Code)
			p.send(f)
			require.NoError(t, <-closed)
		})
	}
}

const (
	closeTimeout = 5 * time.Second
	// closeTimeoutMost is how long messages may be written at the end, in all.
	closeTimeoutMost = 12 * closeTimeout
)

// beginnings are the ways in which a closing handshake begins with much still to be written. Each returns a channel of
// what Close returned.
var beginnings = map[string]func(c *wsd.Conn, p *peer) <-chan error{
	"by this side": func(c *wsd.Conn, _ *peer) <-chan error {
		closed := make(chan error, 1)
		go func() { closed <- c.Close(wsd.StatusNormalClosure, "") }()
		return closed
	},
	"by the peer": func(c *wsd.Conn, p *peer) <-chan error {
		p.send(closeFrame(1000))
		closed := make(chan error, 1)
		go func() {
			<-c.Closed()
			closed <- c.Close(wsd.StatusNormalClosure, "")
		}()
		return closed
	},
}

// requireCut checks that the handshake was not completed, and what Close said about it.
func requireCut(t *testing.T, c *wsd.Conn, err error) {
	require.ErrorIs(t, err, wsd.ErrClosed)
	require.False(t, c.CloseEvent().Clean)
	if _, byPeer := c.CloseEvent().Err.(*wsd.CloseError); !byPeer { // that would be the first cause
		require.ErrorIs(t, err, wsd.ErrCloseTimeout)
	}
}

// The documentation of Config.CloseTimeout; docs/decisions.md, "Time without progress counts".
func TestCloseTimeoutSparesAPeerThatTakesData(t *testing.T) {
	for name, begin := range beginnings {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				c, p := pair(t, wsd.Config{SendQueue: -1, CloseTimeout: closeTimeout, PingInterval: -1})
				ends(t, c, p)
				const size, rate = 20 << 20, 1 << 20
				queueMany(t, c, size)
				start := time.Now()
				closed := begin(c, p)
				under := p.rwc
				p.rwc = throttled{under, rate}
				_, before, err := p.reads(0x88)
				require.NoError(t, err)
				require.Equal(t, size, before)
				require.Greater(t, time.Since(start), 3*closeTimeout)
				p.rwc = under
				if name == "by this side" {
					p.send(closeFrame(1000))
				}
				p.close()
				require.NoError(t, <-closed)
				require.True(t, c.CloseEvent().Clean)
			})
		})
	}
}

func TestCloseTimeoutCountsTimeWithoutProgress(t *testing.T) {
	for name, begin := range beginnings {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				c, p := pair(t, wsd.Config{SendQueue: -1, CloseTimeout: closeTimeout, PingInterval: -1})
				ends(t, c, p)
				const rate = 1 << 20
				queueMany(t, c, 20<<20)
				closed := begin(c, p)
				under := p.rwc
				p.rwc = throttled{under, rate}
				for start := time.Now(); time.Since(start) < 2*closeTimeout; {
					_, err := p.tryReceive()
					require.NoError(t, err)
				}
				stopped := time.Now() // reading
				requireCut(t, c, <-closed)
				require.LessOrEqual(t, time.Since(stopped), 2*closeTimeout)
			})
		})
	}
}

func TestCloseTimeoutBoundsAPeerThatTakesDataForEver(t *testing.T) {
	for name, begin := range beginnings {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				c, p := pair(t, wsd.Config{SendQueue: -1, CloseTimeout: closeTimeout, PingInterval: -1})
				background := ends(t, c, p)
				queueMany(t, c, 4<<20)
				start, ended := time.Now(), make(chan time.Duration, 1)
				background.Go(func() {
					<-c.Closed()
					ended <- time.Since(start)
				})
				closed := begin(c, p)
				p.rwc = throttled{p.rwc, 32 << 10} // which would need two minutes
				for time.Since(start) < 2*closeTimeout {
					_, err := p.tryReceive()
					require.NoError(t, err, "after %v", time.Since(start))
				}
				_, _, err := p.reads(0x88)
				require.Error(t, err)
				requireCut(t, c, <-closed)
				require.LessOrEqual(t, <-ended, closeTimeoutMost)
			})
		})
	}
}

// Once the close frame is written, the answer is due within CloseTimeout, whatever else the peer sends.
func TestCloseTimeoutRunsOnceBehindTheCloseFrame(t *testing.T) {
	for sent, f := range map[string]frame{"messages": text("on and on"), "pings": ping("on and on"), "nothing": {}} {
		t.Run(sent, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				c, p := pair(t, wsd.Config{SendQueue: -1, CloseTimeout: closeTimeout, PingInterval: -1})
				background := ends(t, c, p)
				queueMany(t, c, 10<<20)
				closed := beginnings["by this side"](c, p)
				background.Go(func() { swallow(c) })
				if sent != "nothing" {
					background.Go(func() { p.sendsEvery(time.Millisecond, f) })
				}
				under := p.rwc
				slow := &peer{t, throttled{under, 1 << 20}, p.masks}
				_, before, err := slow.reads(0x88)
				require.NoError(t, err)
				require.Equal(t, 10<<20, before)
				read := time.Now()
				require.ErrorIs(t, <-closed, wsd.ErrCloseTimeout)
				require.LessOrEqual(t, time.Since(read), closeTimeout)
				require.Greater(t, time.Since(read), closeTimeout-time.Second, "it was written less than a second before")
			})
		})
	}
}

// endsItsDirection sends frames and then ends its own direction.
func (p *peer) endsItsDirection(frames ...frame) {
	p.t.Helper()
	p.send(frames...)
	require.NoError(p.t, p.rwc.(interface{ CloseWrite() error }).CloseWrite())
}

// docs/decisions.md, "A peer that ends its direction is still answered".
func TestPeerThatEndsItsDirectionGetsEveryAnswer(t *testing.T) {
	check := func(t *testing.T, c *wsd.Conn, p *peer, want []frame) {
		background := ends(t, c, p)
		background.Go(func() { echo(c) })
		background.Go(func() { p.endsItsDirection(want...) })
		for i := range want {
			var got []byte
			for len(got) < len(want[i].payload) { // large messages come in several frames
				f, err := p.tryReceive()
				require.NoError(t, err, "after %d answers and %d bytes", i, len(got))
				require.Less(t, f.first&0x0F, byte(0x03))
				got = append(got, f.payload...)
			}
			require.True(t, bytes.Equal(want[i].payload, got), "answer %d", i)
		}
		_, _ = io.Copy(io.Discard, p.rwc)
		p.close()
		<-c.Closed()
		require.ErrorIs(t, c.CloseEvent().Err, io.EOF)
		require.Equal(t, wsd.StatusAbnormalClosure, c.CloseEvent().Code)
		require.False(t, c.CloseEvent().Clean)
	}
	var short []frame
	for i := range 30 {
		short = append(short, text(fmt.Sprint(i)))
	}
	megabytes := slices.Repeat([]frame{binaryFrame(make([]byte, 1<<20))}, 4) // in frames as they are sent
	for name, want := range map[string][]frame{"30 messages": short, "4 MB": megabytes} {
		t.Run(name+" in memory", func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				c, p := pair(t, wsd.Config{})
				check(t, c, p, want)
			})
		})
		t.Run(name+" over TCP", func(t *testing.T) {
			for range 20 {
				client, server := tcpPair(t)
				check(t, wsd.NewConn(server, wsd.ServerRole, wsd.Config{}), &peer{t, client, true}, want)
			}
		})
	}
}

// What Send has accepted before the end of the peer's bytes is written behind it.
func TestWhatWasAcceptedIsWrittenAfterTheEndOfThePeersBytes(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		const messages = 100
		c, p := pair(t, wsd.Config{SendQueue: -1})
		ends(t, c, p)
		for range messages {
			require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, 4096))))
		}
		synctest.Wait() // the writer waits for the peer
		p.endsItsDirection()
		time.Sleep(time.Second) // in the bubble
		for i := range messages {
			f, err := p.tryReceive()
			require.NoError(t, err, "after %d messages", i)
			require.Len(t, f.payload, 4096)
		}
	})
}

// Each answer begins the wait for the next again, as long as CloseTimeout is not over.
func TestAnswersOneByOneAfterTheEndOfThePeersBytes(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		const messages = 100
		c, p := pair(t, wsd.Config{MessageBuffer: messages})
		background := ends(t, c, p)
		background.Go(func() {
			for m := range c.Messages() {
				time.Sleep(4 * time.Millisecond) // in the bubble
				_ = c.Send(context.Background(), m)
			}
		})
		var frames []frame
		for range messages {
			frames = append(frames, text("each takes a while"))
		}
		p.endsItsDirection(frames...)
		for i := range messages {
			f, err := p.tryReceive()
			require.NoError(t, err, "after %d answers", i)
			require.Equal(t, text("each takes a while"), f)
		}
	})
}

// The end is not put off for long: neither by a consumer that does not answer, nor by a peer that does not read.
func TestEndOfThePeersBytesEndsTheConnection(t *testing.T) {
	for name, row := range map[string]struct {
		consume func(c *wsd.Conn)
		within  time.Duration
	}{
		"a consumer that answers nothing": {swallow, silentGraceMost},
		"nobody receives":                 {func(*wsd.Conn) {}, silentGraceMost},
		"a peer that does not read": {func(c *wsd.Conn) {
			for m := range c.Messages() {
				_ = c.Send(context.Background(), wsd.Binary(bytes.Repeat(m.Data, 100<<10)))
			}
		}, 5*time.Second + silentGraceMost},
		"a consumer that never comes to an end": {func(c *wsd.Conn) {
			<-c.Messages()
			for c.Send(context.Background(), wsd.Text("more")) == nil {
				time.Sleep(time.Millisecond)
			}
		}, 5*time.Second + silentGraceMost},
	} {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				c, p := pair(t, wsd.Config{})
				background := ends(t, c, p)
				background.Go(func() { row.consume(c) })
				synctest.Wait()
				start := time.Now()
				p.endsItsDirection(text("one"), text("two"), text("three"))
				select {
				case <-c.Closed():
				case <-time.After(time.Minute):
				}
				require.LessOrEqual(t, time.Since(start), row.within)
				require.Equal(t, wsd.StateClosed, c.State())
				require.ErrorIs(t, c.CloseEvent().Err, io.EOF)
			})
		})
	}
}

// wrapped is a connection as listeners that limit or count wrap it: it has the methods of a net.Conn and no more.
type wrapped struct{ net.Conn }

// docs/decisions.md, "The end of a failed connection's bytes waits for a pause".
func TestViolationIsSeenOverAWrappedConnection(t *testing.T) {
	for range 50 {
		client, server := tcpPair(t)
		// An answer that the peer has not read fills its buffer, so the close frame waits in this side's. A reset would
		// discard both.
		const answer = 512 << 10
		require.NoError(t, client.SetReadBuffer(64<<10))
		require.NoError(t, server.SetWriteBuffer(2*answer))
		c := wsd.NewConn(wrapped{server}, wsd.ServerRole, wsd.Config{})
		p := &peer{t, client, true}
		background := ends(t, c, p)
		require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, answer))))
		// The peer goes on for as long as it can, and then reads what it was told.
		p.send(frame{0x83, nil})
		sent := make(chan struct{})
		background.Go(func() {
			defer close(sent)
			more := make([]byte, 64<<10)
			for range 64 {
				if _, err := client.Write(more); err != nil {
					return
				}
			}
		})
		<-sent
		f, before, err := p.reads(0x88)
		require.NoError(t, err, "the close frame is lost")
		require.Equal(t, answer, before)
		require.Equal(t, uint16(1002), binary.BigEndian.Uint16(f.payload))
		p.close()
		<-c.Closed()
	}
}

// Likewise for a peer that goes on after its close frame, which it may not (RFC 6455, section 5.5.1).
func TestAnswerToACloseFrameIsSeenByAPeerThatStillSends(t *testing.T) {
	for name, wrap := range map[string]func(*net.TCPConn) io.ReadWriteCloser{
		"socket":  func(socket *net.TCPConn) io.ReadWriteCloser { return socket },
		"wrapped": func(socket *net.TCPConn) io.ReadWriteCloser { return wrapped{socket} },
	} {
		t.Run(name, func(t *testing.T) {
			for range 50 {
				client, server := tcpPair(t)
				const answer = 512 << 10
				require.NoError(t, client.SetReadBuffer(64<<10))
				require.NoError(t, server.SetWriteBuffer(2*answer))
				c := wsd.NewConn(wrap(server), wsd.ServerRole, wsd.Config{})
				p := &peer{t, client, true}
				background := ends(t, c, p)
				require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, answer))))
				sent := make(chan struct{})
				background.Go(func() {
					defer close(sent)
					_, _ = client.Write(append(p.encode(closeFrame(1000)), make([]byte, 256<<10)...))
				})
				<-sent
				f, before, err := p.reads(0x88)
				require.NoError(t, err, "the answer is lost")
				require.Equal(t, answer, before)
				require.Equal(t, closeFrame(1000), f)
				p.close()
				<-c.Closed()
			}
		})
	}
}
