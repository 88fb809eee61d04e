// wire.go is what nodes send each other.

package natsbroker

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/subject"
)

// names are the subjects of NATS that are used, all below a prefix.
type names struct{ prefix string }

// live is where publications to a topic come from, or to those that a pattern matches. Wildcards do not match reserved topics,
// which therefore are elsewhere.
func (n names) live(s string) string {
	if subject.Reserved(s) {
		return n.prefix + ".r." + s
	}
	return n.prefix + ".t." + s
}

// topic is the topic of what has come from a subject.
func (n names) topic(live string) string { return live[len(n.prefix)+len(".t."):] }

func (n names) stored(stream, topic string) string { return n.prefix + ".h." + stream + "." + topic }
func (n names) everybody() string                  { return n.prefix + ".g.all" }
func (n names) node(id uint64) string              { return n.prefix + ".g." + strconv.FormatUint(id, 36) }
func (n names) barrier() string                    { return n.prefix + ".b" }

// The first byte of a publication says what is in it.
const (
	text  = 't'
	bytes = 'b'
)

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// pack appends a publication: its kind, who sends it, its number there, and the message's data.
func pack(to []byte, from, number uint64, msg *wsd.Message) []byte {
	kind := byte(text)
	if msg.Type == wsd.BinaryMessage {
		kind = bytes
	}
	to = binary.BigEndian.AppendUint64(append(to, kind), from)
	return append(binary.AppendUvarint(to, number), msg.Data...)
}

var errForeign = errors.New("it is not one of this package's")

// unpack is the opposite of pack. The message's data is part of what came.
func unpack(data []byte) (from, number uint64, msg wsd.Message, err error) {
	if len(data) < 10 || data[0] != text && data[0] != bytes {
		return 0, 0, msg, errForeign
	}
	msg.Type = wsd.TextMessage
	if data[0] == bytes {
		msg.Type = wsd.BinaryMessage
	}
	from = binary.BigEndian.Uint64(data[1:])
	number, n := binary.Uvarint(data[9:])
	if n <= 0 {
		return 0, 0, msg, errForeign
	}
	msg.Data = data[9+n:]
	return from, number, msg, nil
}

// word is what nodes tell each other of themselves.
type word struct {
	Kind    string `json:"kind"`
	From    uint64 `json:"from"`
	Version uint64 `json:"version,omitempty"` // of the sender's part of the presence, with this word
	Token   uint64 `json:"token,omitempty"`   // of a barrier, or of a state whose parts belong together
	Part    int    `json:"part,omitempty"`    // of a state, from 0 on
	History string `json:"history,omitempty"` // what the sender has history of
	More    bool   `json:"more,omitempty"`    // the state goes on with the next word

	Changes []change `json:"changes,omitempty"`
}

// The kinds of words.
const (
	hello = "hello" // a node is new, and wants to hear beats
	beat  = "beat"  // it is there
	delta = "delta" // its part has changed, and has the next version
	ask   = "ask"   // it does not know the receiver's part
	state = "state" // its whole part
	ping  = "ping"  // it wants a pong
	pong  = "pong"  // what the other has sent before its ping has come
	bye   = "bye"   // it takes leave
)

// change is one of a node's part of the presence.
type change struct {
	Topic string `json:"t"`
	ID    string `json:"i"`
	Value string `json:"v,omitempty"`
	Stamp uint64 `json:"s,omitempty"` // when the value was set
	Gone  bool   `json:"g,omitempty"`
}

func (w *word) pack() []byte {
	data, err := json.Marshal(w)
	if err != nil {
		panic(fmt.Sprintf("wsd: words always have a JSON form: %v", err))
	}
	return data
}
