// config.go holds what a connection can be told, and the defaults.

package wsd

import (
	"math"
	"sync"
	"time"
	"weak"
)

// Config holds the settings that servers and clients have in common. The zero value is a safe default. For a limit or a
// duration, zero means the default and a negative value turns the limit or timer off. How much memory a peer can make a
// connection hold with them at most is in docs/performance.md, "What one connection can pin".
type Config struct {
	// MaxMessageSize bounds the size of a received message, in bytes after inflation. A larger message fails the
	// connection with StatusMessageTooBig as soon as it is known to be larger. Default 64 MiB - 1.
	MaxMessageSize int64
	// MaxFragments bounds the number of frames in a received message; more fail the connection with
	// StatusPolicyViolation. Default 131072.
	MaxFragments int
	// StreamAbove is the size in bytes above which a message is not held whole: as soon as that much of it has come, it
	// is delivered, and the rest is read from its Body. Nothing further is delivered until the Body has been read to its
	// end or closed. 0 or less means that all messages are whole, up to MaxMessageSize. Each message under way holds
	// StreamAbove bytes and up to 512 KiB.
	StreamAbove int64
	// BodyTimeout is how long a Body may be left alone, counted from its last Read or, before that, from when no other
	// message is ahead of it in Messages, before the connection is closed with StatusTryAgainLater. While a Read waits
	// for the peer, no time counts. Default 1 min.
	BodyTimeout time.Duration
	// MessageBuffer is the capacity of Messages, in messages, up to 65536; negative means unbuffered. Default 15. For a
	// message of 1 MiB or more, Messages also counts as full if, with it, it would hold more than 64 MiB in such
	// messages, because data that compresses well costs a peer next to nothing. If no such message is waiting, there is
	// always room for one.
	MessageBuffer int
	// SendQueue bounds what Send queues ahead of the network, in bytes. A Send that finds the queue full blocks. A
	// message larger than the bound is queued alone. Default 64 KiB. A browser holds as much again, 1 MiB by default.
	SendQueue int
	// MaxFrameSize bounds the payload of the frames that this side sends, in bytes: longer messages are cut into several,
	// between which control frames can go. Negative means never to cut, for peers that cannot join what was cut; a Writer
	// does so in any case. Default 1 MiB.
	MaxFrameSize int
	// PingInterval is the time between keepalive pings. Default 30 s.
	PingInterval time.Duration
	// PongTimeout is how long the peer may stay silent after a keepalive ping before the connection ends with
	// ErrPongTimeout. Any byte from the peer counts as a sign of life. Default 20 s.
	PongTimeout time.Duration
	// WriteTimeout is how long the peer may take nothing of what is being written before the connection ends with
	// ErrWriteTimeout, whatever it sends meanwhile. A peer that pauses for longer, as under BlockSlow it may, is given up.
	// Default 2 min.
	WriteTimeout time.Duration
	// CloseTimeout bounds the end, from the Close call or the first sign of the end until everything is released. While
	// messages are being written, only time without progress counts, up to 12 times CloseTimeout in all; once the close
	// frame is written, CloseTimeout runs once. Default 5 s.
	CloseTimeout time.Duration
	// StallTimeout is how long Messages may stay full, or a message may wait ahead of a Body that nothing can pass, before
	// the CloseSlow policy closes the connection. Default 10 s.
	StallTimeout time.Duration
	// SlowConsumer says what happens while Messages is full. Default BlockSlow.
	SlowConsumer SlowConsumerPolicy
	// ReceiveRate bounds the messages and bytes a second that are received, by reading no faster. Default: no bound.
	ReceiveRate ReceiveRate
	// Compression asks for permessage-deflate (RFC 7692); nil leaves it off.
	Compression *Compression
	// Inbox gets the received messages, instead of Messages, of which MessageBuffer then is this connection's share. Receive
	// and what is built on it return an error matching ErrInbox. Under a Server without a Handler, a connection then stays
	// until it ends.
	Inbox *Inbox
	// Trace is told what happens on the connection; nil tells nobody.
	Trace *Trace

	pulled bool // see pull.go
}

// SlowConsumerPolicy says what a connection does while its Messages channel is full.
type SlowConsumerPolicy uint8

// The policies.
const (
	// BlockSlow stops reading until there is room, so that TCP slows the peer down. Pings wait unanswered meanwhile.
	BlockSlow SlowConsumerPolicy = iota
	// CloseSlow blocks like BlockSlow, and closes the connection with StatusTryAgainLater after Config.StallTimeout.
	CloseSlow
	// DropSlow discards messages that arrive while there is no room, keeps those already waiting, and goes on reading.
	// Discarded messages are counted in Stats.MessagesDropped, and ErrSlowConsumer is reported once on Errors.
	DropSlow
)

// ReceiveRate bounds what is received from a peer, by reading no faster: what the peer sends beyond it waits in the network,
// which slows the peer down. Zero means no bound.
type ReceiveRate struct {
	// Messages is how many messages a second are received on average. Pings and pongs count.
	Messages int
	// Bytes is how many bytes a second are read on average, as they come from the network: frame headers included, and
	// compressed where that was agreed on.
	Bytes int
	// Burst is how long a peer may have been silent to send more later: it may send at once what the two rates allow for so
	// long a time. Default 1 s.
	Burst time.Duration
}

const (
	defaultMaxMessageSize = 64<<20 - 1 // bytes, the limit of Common Lisp's websocket-driver
	defaultMaxFragments   = 128 << 10  // frames; conformance suites send 64Ki frames in a message
	defaultMessageBuffer  = 15         // messages: sixteen, with the one that the consumer has
	maxMessageBuffer      = 64 << 10   // messages, 2 MiB of them empty; there is no memory for all that an int can say
	defaultSendQueue      = 64 << 10   // bytes
	defaultMaxFrameSize   = 1 << 20    // bytes, so that control frames never wait behind megabytes
	defaultBurst          = time.Second
	defaultPingInterval   = 30 * time.Second
	defaultPongTimeout    = 20 * time.Second
	defaultWriteTimeout   = 2 * time.Minute
	defaultCloseTimeout   = 5 * time.Second
	defaultStallTimeout   = 10 * time.Second
	defaultBodyTimeout    = time.Minute
)

// settings are a Config with the defaults in place, for one role. They never change, and connections that were told the same
// share them.
type settings struct {
	role          Role
	messageBuffer int // messages
	policy        SlowConsumerPolicy
	stallAfter    time.Duration // StallTimeout, 0 for none, as all durations here
	writeTimeout  time.Duration
	closeTimeout  time.Duration
	pingEvery     time.Duration
	pongWithin    time.Duration
	sendQueue     int   // bytes
	maxFrame      int   // bytes
	maxMessage    int64 // bytes
	maxFragments  int64
	trace         *Trace
	inbox         *Inbox
	pulled        bool // see pull.go
}

// known are the settings of which connections were made last.
var known struct {
	mu   sync.Mutex // guards all below
	all  [8]weak.Pointer[settings]
	next int
}

// settle returns the settings that cfg means for a role.
func settle(role Role, cfg *Config) *settings {
	s := settings{
		role:          role,
		messageBuffer: messageBuffer(cfg),
		policy:        cfg.SlowConsumer,
		stallAfter:    durationOr(cfg.StallTimeout, defaultStallTimeout),
		writeTimeout:  durationOr(cfg.WriteTimeout, defaultWriteTimeout),
		closeTimeout:  durationOr(cfg.CloseTimeout, defaultCloseTimeout),
		pingEvery:     durationOr(cfg.PingInterval, defaultPingInterval),
		pongWithin:    durationOr(cfg.PongTimeout, defaultPongTimeout),
		sendQueue:     int(min(limitOr(cfg.SendQueue, defaultSendQueue), math.MaxInt)),
		maxFrame:      int(min(limitOr(cfg.MaxFrameSize, defaultMaxFrameSize), math.MaxInt)),
		maxMessage:    messageLimit(cfg.MaxMessageSize),
		maxFragments:  limitOr(cfg.MaxFragments, defaultMaxFragments),
		trace:         cfg.Trace,
		inbox:         cfg.Inbox,
		pulled:        cfg.pulled,
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	for _, candidate := range known.all {
		if same := candidate.Value(); same != nil && *same == s {
			return same
		}
	}
	settled := new(settings)
	*settled = s
	known.all[known.next] = weak.Make(settled)
	known.next = (known.next + 1) % len(known.all)
	return settled
}

func messageBuffer(cfg *Config) int {
	switch {
	case cfg.MessageBuffer == 0:
		return defaultMessageBuffer
	case cfg.MessageBuffer < 0:
		return 0
	}
	return min(cfg.MessageBuffer, maxMessageBuffer)
}

// unlimited is the value of a limit that is off.
const unlimited = 1<<63 - 1

func limitOr[T int | int64](value, standard T) int64 {
	switch {
	case value == 0:
		return int64(standard)
	case value < 0:
		return unlimited
	}
	return int64(value)
}

// durationOr returns 0 for a timer that is off.
func durationOr(value, standard time.Duration) time.Duration {
	switch {
	case value == 0:
		return standard
	case value < 0:
		return 0
	}
	return value
}
