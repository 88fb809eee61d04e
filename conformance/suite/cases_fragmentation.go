// Cases of fragmentation (RFC 6455, 5.4): every order of frames up to three, judged by a model of the rules.

package suite

import (
	"fmt"
	"strings"
)

// The alphabet of the orders: each letter is a frame.
var letters = []struct {
	name  string
	frame frame
}{
	{"text", whole(opText, "T")},
	{"text…", part(opText, "t")},
	{"binary", whole(opBinary, "B")},
	{"binary…", part(opBinary, "b")},
	{"continuation", whole(opContinuation, "C")},
	{"continuation…", part(opContinuation, "c")},
	{"ping", whole(opPing, "P")},
}

// model says what a sound peer makes of the frames: what it answers, and whether it fails the connection.
func model(frames []frame) (want []event, fails bool) {
	var message event
	open := false
	for _, f := range frames {
		switch {
		case f.opcode == opPing:
			want = append(want, event{opcode: opPong, payload: f.payload})
			continue
		case f.opcode == opContinuation != open:
			return want, true
		case !open:
			message, open = event{opcode: f.opcode}, true
		}
		message.payload = append(message.payload[:len(message.payload):len(message.payload)], f.payload...)
		if f.fin {
			want, open = append(want, message), false
		}
	}
	return want, false
}

func fragmentationCases(c *catalogue) {
	c.topic = "fragmentation"
	var orders func(names []string, frames []frame, depth int)
	orders = func(names []string, frames []frame, depth int) {
		if len(frames) > 0 {
			want, bad := model(frames)
			end := cleanly
			if bad {
				end = failsWith(1002)
			}
			c.script("RFC 6455, 5.4", "the order "+strings.Join(names, ", "), script{send: once(frames...), want: want, end: end})
			if len(frames) == 2 {
				c.script("RFC 6455, 5.4", "the order "+strings.Join(names, ", ")+" in chops of 1", script{send: chops(1, frames...), want: want, end: end})
			}
			if bad {
				return // what follows a violation is never looked at
			}
		}
		if depth == 0 {
			return
		}
		for _, l := range letters {
			orders(append(names[:len(names):len(names)], l.name), append(frames[:len(frames):len(frames)], l.frame), depth-1)
		}
	}
	orders(nil, nil, 3)

	for _, opcode := range []byte{opText, opBinary} {
		name := opcodeName(opcode)
		for _, empty := range [][]frame{
			{part(opcode, ""), whole(opContinuation, "")},
			{part(opcode, ""), part(opContinuation, ""), part(opContinuation, ""), whole(opContinuation, "")},
			{part(opcode, ""), part(opContinuation, "middle"), whole(opContinuation, "")},
			{part(opcode, "first"), part(opContinuation, ""), whole(opContinuation, "")},
			{part(opcode, ""), whole(opContinuation, "last")},
		} {
			text := ""
			for _, f := range empty {
				text += string(f.payload)
			}
			for _, chop := range []int{0, 1} {
				c.script("RFC 6455, 5.4", fmt.Sprintf("%s in %d fragments of which %q is all, in %s", name, len(empty), text, chopName(chop)), script{
					send: chops(chop, empty...), want: events(echo(opcode, text))})
			}
		}
		for _, cut := range []struct{ total, fragment int }{
			{2, 1}, {100, 1}, {500, 1}, {126, 125}, {252, 126}, {1 << 16, 1 << 10}, {65536 * 3, 65536}, {1 << 20, 1 << 14}, {4 << 20, 1 << 20},
		} {
			of := fmt.Sprintf("%s of %d bytes in fragments of %d", name, cut.total, cut.fragment)
			inChops := func(chop int) func() script {
				return func() script {
					payload := ofType(opcode, cut.total)
					return script{send: chops(chop, fragments(opcode, payload, cut.fragment)...), want: events(echo(opcode, payload))}
				}
			}
			c.lazy("RFC 6455, 5.4", of, inChops(0))
			c.lazy("RFC 6455, 5.4", of+" in chops of 1013", inChops(1013))
			c.lazy("RFC 6455, 5.4", of+" with pings and pongs between", func() script {
				payload := ofType(opcode, cut.total)
				plain := fragments(opcode, payload, cut.fragment)
				var busy []frame
				var want []event
				for i, f := range plain {
					busy = append(busy, f)
					if i < len(plain)-1 && i < 64 {
						p := fmt.Sprint("between ", i)
						busy = append(busy, whole(opPing, p), whole(opPong, p))
						want = append(want, pong(p))
					}
				}
				return script{send: once(busy...), want: append(want, echo(opcode, payload))}
			})
		}
	}
	c.script("RFC 6455, 5.4", "a ping inside a message is answered ahead of the message's end", script{
		send: []packet{
			{frames: []frame{part(opText, "one"), whole(opPing, "inside")}},
			{frames: []frame{whole(opContinuation, "two")}, after: 1},
		},
		want: events(pong("inside"), echo(opText, "onetwo"))})
	c.script("RFC 6455, 5.4", "a second message after a fragmented one is not joined to it", script{
		send: once(part(opText, "a"), whole(opContinuation, "b"), whole(opText, "c")),
		want: events(echo(opText, "ab"), echo(opText, "c"))})
}

// fragments cuts a message into frames of n bytes.
func fragments(opcode byte, payload string, n int) []frame {
	var all []frame
	for first := true; first || payload != ""; first = false {
		k := min(n, len(payload))
		all = append(all, part(opcode, payload[:k]))
		payload, opcode = payload[k:], opContinuation
	}
	all[len(all)-1].fin = true
	return all
}
