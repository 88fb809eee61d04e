//go:build linux

package main

// These tests hold the load client to account: it must take every legal answer, and notice every wrong one.

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// answerFrame is a server's frame.
func answerFrame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

// sent takes n messages' bytes out of the peer as if they had been written in pieces.
func sent(p *peer, random *rand.Rand) []byte {
	var wire []byte
	for b := p.unsent(); len(b) > 0; b = p.unsent() {
		n := 1 + random.IntN(len(b))
		wire = append(wire, b[:n]...)
		p.wrote(n)
	}
	return wire
}

func TestPeerSendsTheScriptRoundAndRound(t *testing.T) {
	for _, size := range []int{1, 64, 125, 126, 1 << 10, 1<<16 - 1, 1 << 16} {
		s := binaryScript(size)
		messages := 2*len(s.want) + 3
		p := newPeer(s, messages)
		p.release(messages, 0)
		wire := sent(p, rand.New(rand.NewPCG(1, uint64(size))))

		var u unmasker
		got := u.pass(nil, bytes.Clone(wire))
		var want []byte
		for i := range messages {
			want = append(want, answerFrame(0x80|opBinary, s.want[i%len(s.want)])...)
		}
		require.True(t, bytes.Equal(want, got), "size %d", size)
		require.Equal(t, uint64(len(wire)), p.written)
	}
}

func TestPeerTakesAnswersHoweverTheyAreCut(t *testing.T) {
	s := binaryScript(300)
	const messages = 200
	var answers []byte
	for i := range messages {
		payload := s.want[i%len(s.want)]
		switch i % 4 {
		case 0: // in one frame
			answers = append(answers, answerFrame(0x80|opBinary, payload)...)
		case 1: // in three, the last of them empty (RFC 6455, section 5.4)
			answers = append(answers, answerFrame(opBinary, payload[:100])...)
			answers = append(answers, answerFrame(0, payload[100:])...)
			answers = append(answers, answerFrame(0x80, nil)...)
		case 2: // with a ping before and another in between (section 5.5)
			answers = append(answers, answerFrame(0x89, []byte("ping"))...)
			answers = append(answers, answerFrame(opBinary, payload[:1])...)
			answers = append(answers, answerFrame(0x89, nil)...)
			answers = append(answers, answerFrame(0x80, payload[1:])...)
		case 3: // in a frame of one byte and a long one
			answers = append(answers, answerFrame(opBinary, payload[:1])...)
			answers = append(answers, answerFrame(0x80, payload[1:])...)
		}
	}
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 2))
		p, h := newPeer(s, messages), newHistogram()
		p.release(messages, 0)
		got := 0
		for rest := answers; len(rest) > 0; {
			n := min(1+random.IntN(700), len(rest))
			answered, err := p.feed(rest[:n], 1000, h)
			require.NoError(t, err)
			got += answered
			rest = rest[n:]
		}
		require.Equal(t, messages, got)
		require.Equal(t, uint64(messages), h.n)
		require.Equal(t, float64(messages), p.progress())
	}
}

func TestPeerNoticesWrongAnswers(t *testing.T) {
	s := binaryScript(64)
	wrong := bytes.Clone(s.want[0])
	wrong[63] ^= 1
	deflated, err := jsonScript(false, 0)
	require.NoError(t, err)
	for _, test := range []struct {
		name   string
		script *script
		answer []byte
		says   string
	}{
		{"a changed byte", s, answerFrame(0x80|opBinary, wrong), "differs"},
		{"one byte less", s, answerFrame(0x80|opBinary, s.want[0][:63]), "expected an answer of 64 bytes, got 63"},
		{"one byte more", s, answerFrame(0x80|opBinary, append(bytes.Clone(s.want[0]), 0)), "differs"},
		{"text for binary", s, answerFrame(0x80|opText, s.want[0]), "expected opcode 0x2, got 0x1"},
		{"a close frame", s, answerFrame(0x88, []byte{3, 232}), "close frame"},
		{"nobody asked", s, append(answerFrame(0x80|opBinary, s.want[0]), answerFrame(0x80|opBinary, s.want[1])...), "the answer to message 2 came"},
		{"deflated unasked", s, answerFrame(0xc0|opBinary, s.want[0]), "expected RSV1 false"},
		{"not deflated", deflated, answerFrame(0x80|opText, deflated.want[0]), "expected RSV1 true"},
		{"not DEFLATE", deflated, answerFrame(0xc0|opText, []byte{0xff, 0xff, 0xff}), "inflating"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPeer(test.script, 1)
			p.release(1, 0)
			_, err := p.feed(test.answer, 0, newHistogram())
			require.ErrorContains(t, err, test.says)
		})
	}
}

// What the client sends with context takeover must inflate as one stream, the repeated rounds as well (RFC 7692,
// section 7.2.3).
func TestDeflatedScripts(t *testing.T) {
	for _, test := range []struct {
		takeover bool
		window   int // bits
	}{{false, 0}, {true, 0}, {true, 12}} {
		s, err := jsonScript(test.takeover, test.window)
		require.NoError(t, err)
		total, size := 0, windowSize
		if test.window > 0 {
			size = 1 << test.window
		}
		p := newPeer(s, 1)
		var history []byte
		for i := range 3 * len(s.want) {
			p.release(1, 0)
			frame := sent(p, rand.New(rand.NewPCG(3, uint64(i))))
			total += len(frame)
			var u unmasker
			plain := u.pass(nil, frame)
			require.Equal(t, byte(0xc0|opText), plain[0])
			body := plain[2:]
			if plain[1] == 126 {
				body = plain[4:]
			}
			stream := append(bytes.Clone(body), 0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff)
			if !test.takeover {
				history = nil
			}
			var got bytes.Buffer
			_, err := got.ReadFrom(flate.NewReaderDict(bytes.NewReader(stream), history))
			require.NoError(t, err, "message %d", i)
			index := i % len(s.want)
			if i >= len(s.want) {
				index = s.loop + (i-len(s.want))%(len(s.want)-s.loop)
			}
			require.Equal(t, string(s.want[index]), got.String(), "message %d", i)
			require.Len(t, s.want[index], 1<<10)
			history = append(history, got.Bytes()...)
			history = history[max(0, len(history)-size):]
		}
		require.Less(t, total, 3*len(s.want)*(1<<10)*3/4, "%+v", test)
	}
}
