// soak_test.go runs random conversations over transports that fail at random, and compares each with a model: what Send
// accepted arrives once, in order and unchanged, or the connection says that it ended; every connection ends, and nothing
// is left of it. Run it for longer with -soak 10m.

package wsd_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

var (
	soakFor  = flag.Duration("soak", 0, "how long TestSoak goes on; 0 for a short form of a fixed number of conversations")
	soakSeed = flag.Uint64("soakseed", 1, "the seed of TestSoak's first conversation")
)

const (
	shortSoak      = 150              // conversations of the short form
	shortSoakRaced = 50               // the same under the race detector, or with -short
	soakSessions   = 8                // conversations at a time, where the machine has so many processors
	soakPatience   = 30 * time.Second // how long nothing may happen in a conversation over sockets
	bubblePatience = 10 * time.Minute // the same in a bubble: longer than all timers of a connection together
)

// soakBytes is what messages are made of. It is ASCII, so that each part of it is a text.
var soakBytes = func() []byte {
	random := rand.New(rand.NewPCG(0, 0))
	b := make([]byte, 4<<20)
	const letters = "abcdefghijklmnopqrstuvwxyz 0123456789 ABCDEFGHIJKLMNOPQRSTUVWXY"
	for i := range b {
		b[i] = letters[random.Uint32()%64%uint32(len(letters))]
	}
	return b
}()

// soakTotals counts what a soak has done.
type soakTotals struct {
	conversations, accepted, flushed, received, dropped, clean, unclean atomic.Uint64
}

func TestSoak(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	var totals soakTotals
	var next atomic.Uint64
	var heap atomic.Int64
	start := time.Now()
	conversations := uint64(shortSoak)
	if wsd.RaceEnabled || testing.Short() {
		conversations = shortSoakRaced
	}
	t.Run("conversations", func(t *testing.T) {
		for range soakSessions {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for !t.Failed() {
					n := next.Add(1) - 1
					if *soakFor == 0 && n >= conversations || *soakFor > 0 && time.Since(start) > *soakFor {
						return
					}
					if n == conversations {
						heap.Store(held()) // pools and the like are filled by now
					}
					soakConversation(t, *soakSeed+n, &totals)
				}
			})
		}
	})
	t.Logf("%d conversations in %v: %d messages accepted, %d confirmed by Flush, %d received, %d dropped by policy; "+
		"%d ends clean, %d not", totals.conversations.Load(), time.Since(start).Round(time.Second), totals.accepted.Load(),
		totals.flushed.Load(), totals.received.Load(), totals.dropped.Load(), totals.clean.Load(), totals.unclean.Load())
	if t.Failed() {
		return
	}
	require.NotZero(t, totals.flushed.Load())
	require.NotZero(t, totals.clean.Load())
	require.NotZero(t, totals.unclean.Load())
	if before := heap.Load(); before > 0 {
		after := held()
		t.Logf("live heap %d KiB after the first %d conversations, %d KiB at the end", before>>10, conversations, after>>10)
		require.Less(t, after, before+64<<20, "memory is kept")
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines, "goroutines are left")
}

// soakConversation runs the conversation of one seed, in a bubble or over sockets.
func soakConversation(t *testing.T, seed uint64, totals *soakTotals) {
	random := rand.New(rand.NewPCG(seed, 7))
	s := &soak{seed: seed, random: random, totals: totals, patience: soakPatience}
	switch random.IntN(4) {
	case 0:
		s.overSockets = true
		s.run(t)
	default:
		// The bubble gives time away, so that stalls of minutes and the patience of timers cost nothing.
		s.patience = bubblePatience
		synctest.Test(t, func(t *testing.T) { s.run(t) })
	}
	totals.conversations.Add(1)
}

// soak is one conversation.
type soak struct {
	seed        uint64
	random      *rand.Rand // the setup's
	totals      *soakTotals
	patience    time.Duration
	overSockets bool
	overTLS     bool // over the sockets
	sound       bool // the transport has no faults at all
	healthy     bool // the transport has no faults that end or silence it
	sides       [2]*soakSide
	faults      []wsdtest.Faults
	settled     bool // all that was sent has arrived before anything was closed
	heavy       bool // many of the messages are large
	gentle      bool // one side closes, and that is all
	halved      bool // one side's bytes end, and it still gets what the other side has accepted
	half        *soakSide
	raw         [2]io.ReadWriteCloser
	relayed     []io.ReadWriteCloser
	relays      sync.WaitGroup
	early       chan struct{} // closed by a sender in the midst of all: the end begins
	earlyOnce   sync.Once
	over        chan struct{} // closed when the conversation is
	mu          sync.Mutex
	problems    []string // guarded by mu until all have ended
}

// soakSide is one end of it.
type soakSide struct {
	soak    *soak
	name    string
	conn    *wsd.Conn
	cfg     wsd.Config
	other   *soakSide
	senders []*soakSender
	ended   bool          // the inbox has said so
	echo    *soakSender   // the consumer's own
	silent  bool          // the consumer does not answer any more; its own
	stopped bool          // the consumer does not receive to the end
	stopAt  uint64        // after how many messages
	slow    time.Duration // how long the consumer takes for some messages
	got     []uint64      // the consumer's: the last sequence number of each of the other side's senders
	arrived atomic.Uint64 // messages received, whole or as far as they were wanted
	cut     atomic.Uint64 // streamed messages of which the end never came
	intact  atomic.Bool   // this side has done nothing that ends the connection
	random  *rand.Rand    // the consumer's
	sending sync.WaitGroup
}

// soakSender is a goroutine that sends.
type soakSender struct {
	side     *soakSide
	id       int
	random   *rand.Rand
	sequence uint64        // of the last message that Send accepted
	accepted atomic.Uint64 // the same for others to look at
	hasty    int           // before which of its messages the end is to begin, -1 for none
	doubtful bool          // the connection ended while the one behind it was sent
	flushed  uint64        // the last that Flush confirmed
	quota    int
	buffer   []byte
}

func (s *soak) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// chance reports true once in n calls.
func chance(random *rand.Rand, n int) bool { return random.IntN(n) == 0 }

// anyOf returns one of its arguments.
func anyOf[T any](random *rand.Rand, of ...T) T { return of[random.IntN(len(of))] }

// run sets up a conversation, lets it happen, and judges it.
func (s *soak) run(t *testing.T) {
	quota := 0
	switch n := s.random.IntN(100); {
	case n < 50:
		quota = s.random.IntN(30)
	case n < 80:
		quota = s.random.IntN(1000)
	default:
		quota = s.random.IntN(10000)
	}
	s.heavy = chance(s.random, 10)
	var compression *wsd.Compression
	if chance(s.random, 3) {
		compression = &wsd.Compression{
			ServerNoContextTakeover: chance(s.random, 2),
			ClientNoContextTakeover: chance(s.random, 2),
			ServerMaxWindowBits:     anyOf(s.random, 0, 0, 8, 11, 15),
			ClientMaxWindowBits:     anyOf(s.random, 0, 0, 9, 12),
			Threshold:               anyOf(s.random, -1, 0, 0, 100),
		}
		quota /= 4
	}
	a, b := s.transports(t)
	s.raw = [2]io.ReadWriteCloser{a, b}
	s.halved = s.sound && !s.overSockets && chance(s.random, 10)
	if s.heavy {
		quota /= 4
	}
	if !s.overSockets && !s.halved && chance(s.random, 4) {
		b = s.coupled(b, compression)
	}
	for i, rwc := range []io.ReadWriteCloser{a, b} {
		side := &soakSide{
			soak:   s,
			name:   []string{"client", "server"}[i],
			random: rand.New(rand.NewPCG(s.seed, uint64(100+i))),
			cfg: wsd.Config{
				MessageBuffer: anyOf(s.random, 0, 0, 0, -1, 1, 100),
				SendQueue:     anyOf(s.random, 0, 0, 0, 1, 1000, 1<<20, -1),
				StreamAbove:   anyOf[int64](s.random, 0, 0, 0, 100, 3000, 50_000),
				SlowConsumer:  anyOf(s.random, wsd.BlockSlow, wsd.BlockSlow, wsd.BlockSlow, wsd.CloseSlow, wsd.DropSlow),
				PingInterval:  anyOf(s.random, 0, time.Second, -1),
				PongTimeout:   anyOf(s.random, 0, 0, 5*time.Second),
				WriteTimeout:  anyOf(s.random, 0, 0, 10*time.Second, time.Minute),
				CloseTimeout:  anyOf(s.random, 0, time.Second),
				Compression:   compression,
			},
		}
		if s.overSockets {
			// This time is everybody's.
			side.cfg.PingInterval = anyOf(s.random, 50*time.Millisecond, -1)
			side.cfg.PongTimeout, side.cfg.CloseTimeout = 300*time.Millisecond, 300*time.Millisecond
			side.cfg.StallTimeout = 100 * time.Millisecond
			side.cfg.WriteTimeout = anyOf(s.random, 0, 300*time.Millisecond)
		}
		if chance(s.random, 4) {
			side.cfg.Inbox = wsd.NewInbox(anyOf(s.random, -1, 0, 1, 100))
		}
		side.intact.Store(true)
		if chance(s.random, 10) {
			side.stopped, side.stopAt = true, s.random.Uint64N(uint64(quota)+1)
		} else if chance(s.random, 10) {
			side.slow = anyOf(s.random, time.Millisecond, 10*time.Millisecond, 100*time.Millisecond)
			if s.overSockets {
				side.slow /= 100
			}
		}
		if s.halved {
			// The side whose bytes have ended must have nothing more to write, not even pongs.
			side.cfg.PingInterval, side.stopped, side.slow = -1, false, 0
		}
		for id := range 1 + s.random.IntN(4) {
			side.senders = append(side.senders, side.sender(id, quota))
		}
		if chance(s.random, 4) && !s.halved {
			side.senders[0].hasty = s.random.IntN(quota + 1)
		}
		side.echo = side.sender(len(side.senders), 0)
		side.senders = append(side.senders, side.echo)
		side.conn = wsd.NewConn(rwc, []wsd.Role{wsd.ClientRole, wsd.ServerRole}[i], side.cfg)
		s.sides[i] = side
	}
	for i, side := range s.sides {
		side.other = s.sides[1-i]
		side.got = make([]uint64, len(side.other.senders))
	}

	s.early, s.over = make(chan struct{}), make(chan struct{})
	defer close(s.over)
	watch := s.watch()
	var sending, consuming sync.WaitGroup
	for _, side := range s.sides {
		consuming.Go(side.consume)
		for _, sender := range side.senders {
			if sender != side.echo {
				side.sending.Add(1)
				sending.Go(func() {
					defer side.sending.Done()
					sender.run()
				})
			}
		}
	}
	finished := make(chan struct{})
	go func() {
		sending.Wait()
		close(finished)
	}()
	if s.halved {
		s.halve()
	} else {
		s.end(finished)
	}
	<-finished
	consuming.Wait()
	for _, rwc := range s.relayed {
		_ = rwc.Close()
	}
	s.relays.Wait()
	watch.Stop()
	s.judge()
	if len(s.problems) > 0 {
		t.Errorf("conversation with seed %d (sockets: %v, TLS: %v, faults: %+v,\nclient %+v,\nserver %+v)\nclient's end: %+v\nserver's end: %+v\n%s",
			s.seed, s.overSockets, s.overTLS, s.faults, s.sides[0].cfg, s.sides[1].cfg, s.sides[0].conn.CloseEvent(),
			s.sides[1].conn.CloseEvent(), strings.Join(s.problems, "\n"))
	}
}

// watch fails with the stacks of all goroutines when a conversation does not come to its end.
func (s *soak) watch() *time.Timer {
	return time.AfterFunc(10*s.patience, func() {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		fmt.Fprintf(os.Stderr, "soak: the conversation with seed %d (faults %+v, client %+v, server %+v) hangs:\n%s\n", s.seed,
			s.faults, s.sides[0].cfg, s.sides[1].cfg, stacks)
		os.Exit(1)
	})
}

func (side *soakSide) sender(id, quota int) *soakSender {
	n := uint64(id + 10)
	if side.name == "server" {
		n += 100
	}
	return &soakSender{side: side, id: id, quota: quota, hasty: -1, random: rand.New(rand.NewPCG(side.soak.seed, n))}
}

// soakTLS returns configurations of a client and a server that trust each other.
var soakTLS = sync.OnceValues(func() (client, server *tls.Config) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	client = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client.ServerName = "example.com"
	return client, &tls.Config{Certificates: s.TLS.Certificates}
})

// transports returns the client's and the server's end of a transport, with faults or without.
func (s *soak) transports(t *testing.T) (client, server io.ReadWriteCloser) {
	kind := s.random.IntN(3)
	s.sound, s.healthy = kind == 0, kind < 2
	if s.overSockets {
		dialed, accepted := tcpPair(t)
		s.overTLS = chance(s.random, 3)
		if chance(s.random, 3) {
			s.heavy = true
			// Writes find no room, and end in the middle.
			for _, socket := range []*net.TCPConn{dialed, accepted} {
				_ = socket.SetWriteBuffer(8 << 10)
			}
		}
		if kind > 0 {
			// The connections keep their bare sockets, and the faults are on the way between them.
			farDialed, farAccepted := tcpPair(t)
			s.relay(accepted, wsdtest.Faulty(farDialed, s.drawFaults(time.Millisecond)))
			accepted = farAccepted
		}
		if s.overTLS {
			// The TLS handshake is part of the first Read and Write, and may fail like anything else.
			clientTLS, serverTLS := soakTLS()
			return tls.Client(dialed, clientTLS), tls.Server(accepted, serverTLS)
		}
		return dialed, accepted
	}
	a, b := wsdtest.Transport()
	if kind == 0 {
		return a, b
	}
	longest := anyOf(s.random, time.Millisecond, time.Second, 10*time.Second)
	client, server = a, b
	if chance(s.random, 2) {
		client = wsdtest.Faulty(a, s.drawFaults(longest))
	} else {
		server = wsdtest.Faulty(b, s.drawFaults(longest))
	}
	return client, server
}

// relay carries bytes between two transports, and ends both when a direction has failed.
func (s *soak) relay(a, b io.ReadWriteCloser) {
	s.relayed = []io.ReadWriteCloser{a, b}
	for _, way := range [][2]io.ReadWriteCloser{{a, b}, {b, a}} {
		s.relays.Go(func() {
			_, err := io.Copy(struct{ io.Writer }{way[0]}, struct{ io.Reader }{way[1]})
			if half, ok := way[0].(interface{ CloseWrite() error }); err != nil || !ok || half.CloseWrite() != nil {
				_, _ = a.Close(), b.Close()
			}
		})
	}
}

// coupled puts a Relay between a client and a server: it takes the server's end of a transport, and returns another.
func (s *soak) coupled(end io.ReadWriteCloser, compression *wsd.Compression) io.ReadWriteCloser {
	onward, server := wsdtest.Transport()
	cfg := wsd.Config{Compression: compression}
	a, b := wsd.NewConn(end, wsd.ServerRole, cfg), wsd.NewConn(onward, wsd.ClientRole, cfg)
	s.relays.Go(func() {
		err := wsd.Relay(context.Background(), a, b)
		if !errors.Is(err, wsd.ErrClosed) || a.State() != wsd.StateClosed || b.State() != wsd.StateClosed {
			s.fail("Relay returned %v, with connections that are %v and %v", err, a.State(), b.State())
		}
	})
	return server
}

// drawFaults returns faults that end nothing if the transport is to be healthy, and any faults otherwise.
func (s *soak) drawFaults(longest time.Duration) wsdtest.Faults {
	at := func() wsdtest.Break {
		if s.healthy {
			return wsdtest.Break{}
		}
		return wsdtest.Break{
			Kind:  anyOf(s.random, wsdtest.Unbroken, wsdtest.Cut, wsdtest.Reset, wsdtest.Stall, wsdtest.Dead),
			After: s.random.Int64N(1 << (1 + s.random.IntN(22))), // as often among the first bytes as among the last
			For:   time.Duration(s.random.Int64N(int64(10*longest)) + 1),
		}
	}
	small := 1 + s.random.IntN(100)
	if s.overSockets {
		small *= 30 // a system call for each byte is the machine's business, not the connection's
	}
	faults := wsdtest.Faults{
		Seed:       s.seed,
		MaxRead:    anyOf(s.random, 0, 0, small, 1+s.random.IntN(10000)),
		MaxWrite:   anyOf(s.random, 0, 0, small, 1+s.random.IntN(10000)),
		Delay:      anyOf(s.random, 0, longest),
		DelayOneIn: 100 + s.random.IntN(1000),
		Read:       at(),
		Write:      at(),
	}
	least := 10000
	for _, most := range []int{faults.MaxRead, faults.MaxWrite} {
		if most > 0 {
			least = min(least, most)
		}
	}
	faults.DelayOneIn *= 1 + 2000/least // for so many more calls it takes
	s.faults = append(s.faults, faults)
	return faults
}

const soakHeader = 20 // bytes: two digits of the sender, ten of the sequence number, eight of the body's size

// soakBody returns the body of a message.
func soakBody(id int, sequence uint64, size int) []byte {
	at := (uint64(id)*7919 + sequence*104729) % uint64(len(soakBytes)-size+1)
	return soakBytes[at : at+uint64(size)]
}

// next returns the message after the last one that was accepted.
func (x *soakSender) next(size int) wsd.Message {
	x.buffer = fmt.Appendf(x.buffer[:0], "%02d%010d%08d", x.id, x.sequence+1, size)
	x.buffer = append(x.buffer, soakBody(x.id, x.sequence+1, size)...)
	return wsd.Message{
		Type:     anyOf(x.random, wsd.TextMessage, wsd.BinaryMessage),
		Compress: anyOf(x.random, wsd.CompressAuto, wsd.CompressAuto, wsd.CompressNever, wsd.CompressAlways),
		Data:     x.buffer,
	}
}

// soon returns a context that is done soon, or already.
func (x *soakSender) soon() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Duration(x.random.IntN(1<<x.random.IntN(24))))
}

// run sends what chance brings until the quota is sent or the connection has ended.
func (x *soakSender) run() {
	for x.quota > 0 && !x.doubtful {
		if x.hasty == x.quota {
			x.side.soak.earlyOnce.Do(func() { close(x.side.soak.early) })
		}
		x.quota--
		x.step()
	}
}

// step makes one call.
func (x *soakSender) step() {
	c, ctx := x.side.conn, context.Background()
	n := x.random.IntN(1000)
	if x.side.soak.heavy && n < 100 {
		n = 940
	}
	switch {
	case n < 850:
		x.settle(ctx, c.Send(ctx, x.next(x.random.IntN(200))))
	case n < 900:
		size := x.random.IntN(1 << x.random.IntN(17))
		if chance(x.random, 200) {
			size = x.random.IntN(3 << 20)
		}
		x.settleTry(x.try(x.next(size)))
	case n < 940:
		x.settle(ctx, c.Send(ctx, x.next(x.random.IntN(8<<10))))
	case n < 945:
		size := 32<<10 + x.random.IntN(100<<10)
		if chance(x.random, 20) {
			size = x.random.IntN(3 << 20)
		}
		if chance(x.random, 2) {
			// With nothing else to write, a sender writes itself.
			soon, cancel := x.soon()
			defer cancel()
			if err := c.Flush(soon); err != nil {
				x.expect(soon, "Flush", err)
			}
		}
		x.settle(ctx, c.Send(ctx, x.next(size)))
	case n < 960:
		x.settle(ctx, x.inPieces(ctx, x.next(x.random.IntN(1<<x.random.IntN(17)))))
	case n < 965:
		x.settle(ctx, c.SendPrepared(ctx, prepared(x.next(x.random.IntN(1<<x.random.IntN(22))))))
	case n < 980:
		ctx, cancel := x.soon()
		defer cancel()
		kind := x.random.IntN(10)
		if x.side.soak.halved {
			kind = 2 // the others may end the connection
		}
		switch kind {
		case 0:
			x.settle(ctx, c.Send(ctx, x.next(32<<10+x.random.IntN(100<<10))))
		case 1:
			x.settle(ctx, x.inPieces(ctx, x.next(x.random.IntN(10000))))
		default:
			x.settle(ctx, c.Send(ctx, x.next(x.random.IntN(2000))))
		}
	case n < 985 && !x.side.soak.halved:
		ctx, cancel := x.soon()
		defer cancel()
		if _, err := c.Ping(ctx, anyOf(x.random, nil, []byte("ping"))); err != nil {
			x.expect(ctx, "Ping", err)
		}
	default:
		if chance(x.random, 4) {
			var cancel context.CancelFunc
			ctx, cancel = x.soon()
			defer cancel()
		}
		before := x.sequence
		switch err := c.Flush(ctx); err {
		case nil:
			x.flushed = before
		default:
			x.expect(ctx, "Flush", err)
		}
	}
}

// inPieces sends a message through a Writer.
func (x *soakSender) inPieces(ctx context.Context, m wsd.Message) error {
	w := x.side.conn.Writer(ctx, m.Type, nil)
	for rest := m.Data; len(rest) > 0; {
		n := min(len(rest), 1+x.random.IntN(1+len(m.Data)/2))
		if _, err := w.Write(rest[:n]); err != nil {
			if w.Close() == nil {
				x.side.soak.fail("%s, sender %d: Close of a message that a Write failed for says nothing", x.side.name, x.id)
			}
			return err
		}
		rest = rest[n:]
	}
	return w.Close()
}

// try sends without waiting.
func (x *soakSender) try(m wsd.Message) error {
	if chance(x.random, 2) {
		return x.side.conn.TrySendPrepared(prepared(m))
	}
	return x.side.conn.TrySend(m)
}

// settleTry is settle for a send that finds no room at times.
func (x *soakSender) settleTry(err error) {
	if errors.Is(err, wsd.ErrQueueFull) {
		clear(x.buffer)
		return
	}
	x.settle(context.Background(), err)
}

// settle keeps the model: a message was accepted, or nothing has happened, or the connection has ended.
func (x *soakSender) settle(ctx context.Context, err error) {
	clear(x.buffer) // it is the sender's again
	if err == nil {
		x.sequence++
		x.accepted.Store(x.sequence)
		return
	}
	x.expect(ctx, "Send", err)
}

// expect checks the error of a call: its context's, if that is done, or that of an end.
func (x *soakSender) expect(ctx context.Context, call string, err error) {
	ended := errors.Is(err, wsd.ErrClosed)
	if ended && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		x.side.intact.Store(false) // a message was cut in the middle
	}
	switch {
	case ended && x.side.conn.State() == wsd.StateOpen:
		x.side.soak.fail("%s, sender %d: %s says that an open connection has ended: %v", x.side.name, x.id, call, err)
	case ended:
		x.doubtful = true
	case ctx.Err() == nil || !errors.Is(err, ctx.Err()):
		x.side.soak.fail("%s, sender %d: %s: %v", x.side.name, x.id, call, err)
	}
}

// consume receives, answers now and then, and sometimes stops.
func (side *soakSide) consume() {
	if side.stopped && side.stopAt == 0 {
		return
	}
	if side.cfg.Inbox != nil {
		for delivery := range side.cfg.Inbox.C() {
			if side.taken(delivery); side.ended || !side.goesOn() {
				return
			}
		}
	}
	if chance(side.random, 2) {
		for m, err := range side.conn.Each(context.Background()) {
			switch {
			case err != nil && !errors.Is(err, wsd.ErrClosed):
				side.soak.fail("%s: Each: %v", side.name, err)
			case err == nil:
				if side.take(m); !side.goesOn() {
					return
				}
			}
		}
		return
	}
	for {
		m, err := side.conn.Receive(context.Background())
		if err != nil {
			if !errors.Is(err, wsd.ErrClosed) {
				side.soak.fail("%s: Receive: %v", side.name, err)
			}
			return
		}
		side.take(m)
		if chance(side.random, 2) {
			m.Release()
		}
		if !side.goesOn() {
			return
		}
	}
}

// taken takes what an inbox delivers.
func (side *soakSide) taken(delivery wsd.Delivery) {
	switch {
	case delivery.Conn != side.conn || side.ended:
		side.soak.fail("%s: the inbox delivers what is another's, or behind the end", side.name)
	case delivery.Ended:
		side.ended = true
		if side.conn.State() != wsd.StateClosed {
			side.soak.fail("%s: the inbox tells of an end ahead of it", side.name)
		}
	default:
		side.take(delivery.Message)
	}
}

// goesOn is what a consumer does besides, and reports whether it is to receive more.
func (side *soakSide) goesOn() bool {
	if side.slow > 0 && chance(side.random, 8) {
		side.soak.pause(side.slow)
	}
	if chance(side.random, 1000) {
		side.soak.pause(time.Duration(side.random.IntN(int(time.Millisecond))))
	}
	if !side.soak.halved && !side.silent && !side.echo.doubtful && chance(side.random, 8) {
		// Where both consumers wait for each other, one gives up.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		before := side.echo.sequence
		side.echo.settle(ctx, side.conn.Send(ctx, side.echo.next(side.random.IntN(100))))
		side.silent = side.echo.sequence == before
		cancel()
	}
	return !side.stopped || side.arrived.Load() < side.stopAt
}

// pause lets time pass, that of the bubble if there is one.
func (s *soak) pause(d time.Duration) { <-time.After(d) }

// take compares a message with what it must be.
func (side *soakSide) take(m wsd.Message) {
	fail := func(format string, args ...any) {
		side.soak.fail("%s: "+format, append([]any{side.name}, args...)...)
	}
	data, fate := side.read(m, fail)
	var id, size int
	var sequence uint64
	if len(data) < soakHeader {
		fail("got a message of %d bytes, which nobody sent", len(data))
		return
	}
	if _, err := fmt.Sscanf(string(data[:soakHeader]), "%02d%010d%08d", &id, &sequence, &size); err != nil ||
		id >= len(side.got) || soakHeader+size < len(data) || fate == soakWhole && soakHeader+size != len(data) {
		fail("got a message that nobody sent: %d bytes, %q", len(data), data[:soakHeader])
		return
	}
	if !bytes.Equal(data[soakHeader:], soakBody(id, sequence, size)[:len(data)-soakHeader]) {
		fail("message %d of sender %d was changed", sequence, id)
	}
	if fate == soakCut { // it was delivered, but need not have been sent whole
		side.cut.Add(1)
		return
	}
	if next := side.got[id] + 1; sequence < next || sequence > next && side.cfg.SlowConsumer != wsd.DropSlow {
		fail("got message %d of sender %d, expected %d", sequence, id, next)
	}
	side.got[id] = sequence
	side.arrived.Add(1)
}

// soakFate is what became of a message that was received.
type soakFate int

const (
	soakWhole  soakFate = iota
	soakClosed          // its Body was closed before its end
	soakCut             // the connection ended before its end
)

// read returns what a message holds. The body of a streamed one is read in pieces, sometimes after a pause, and sometimes
// not to its end.
func (side *soakSide) read(m wsd.Message, fail func(format string, args ...any)) ([]byte, soakFate) {
	if !m.Streamed() {
		return m.Data, soakWhole
	}
	body := m.Body()
	defer body.Close()
	enough := -1
	if chance(side.random, 4) {
		enough = soakHeader + side.random.IntN(10_000)
	}
	var data []byte
	piece := make([]byte, 1+side.random.IntN(anyOf(side.random, 100, 5000, 100_000)))
	for enough < 0 || len(data) < enough {
		if chance(side.random, 100) {
			side.soak.pause(time.Duration(side.random.IntN(int(time.Millisecond))))
		}
		wanted := piece
		if enough >= 0 {
			wanted = piece[:min(len(piece), enough-len(data))]
		}
		n, err := body.Read(wanted)
		data = append(data, wanted[:n]...)
		switch {
		case err == io.EOF:
			return data, soakWhole
		case err != nil:
			if !errors.Is(err, wsd.ErrClosed) || !errors.Is(err, io.ErrUnexpectedEOF) {
				fail("Body: %v", err)
			}
			return data, soakCut
		}
	}
	return data, soakClosed
}

// accepted counts the messages that this side's senders got accepted.
func (side *soakSide) accepted() (n uint64) {
	for _, x := range side.senders {
		n += x.accepted.Load()
	}
	return n
}

// caughtUp reports whether all that the other side has sent has arrived.
func (side *soakSide) caughtUp() bool {
	return side.arrived.Load()+side.conn.Stats().MessagesDropped == side.other.accepted()
}

// open reports whether nothing has begun to end.
func (s *soak) open() bool {
	return s.sides[0].conn.State() == wsd.StateOpen && s.sides[1].conn.State() == wsd.StateOpen
}

// end waits until all is sent, or until it is time, and ends the conversation in one of the ways there are.
func (s *soak) end(finished <-chan struct{}) {
	patience := s.patience
	if s.overSockets && (!s.healthy || s.sides[0].stopped || s.sides[1].stopped) {
		patience = 100 * time.Millisecond // the senders may wait for good
	}
	select {
	case <-finished:
		s.arrive()
	case <-s.early:
	case <-s.stuck(patience):
		if s.healthy && !s.sides[0].stopped && !s.sides[1].stopped && s.open() {
			s.fail("the senders have come to a standstill")
		}
	}
	var closing sync.WaitGroup
	shut := func(side *soakSide) {
		waits := chance(s.random, 2)
		closing.Go(func() { side.close(waits) })
	}
	abort := func(side *soakSide) {
		side.intact.Store(false)
		closing.Go(side.conn.CloseNow)
	}
	first := s.random.IntN(2)
	a, b := s.sides[first], s.sides[1-first]
	switch s.random.IntN(6) {
	case 0, 1:
		s.gentle = true
		shut(a)
	case 2:
		shut(a)
		shut(b)
	case 3:
		shut(a)
		shut(a)
		abort(a)
	case 4:
		shut(a)
		abort(b)
	case 5:
		abort(a)
	}
	closing.Wait()
	for _, side := range s.sides {
		patience = s.patience
		// Who has stopped may have left a message's Body, which ends the connection under any policy, but only by BodyTimeout.
		stays := side.stopped && (side.cfg.SlowConsumer == wsd.BlockSlow || side.cfg.StreamAbove > 0 && side.cfg.BodyTimeout == 0)
		ends := !stays && (s.healthy || side.cfg.PingInterval >= 0)
		if !ends && s.overSockets {
			patience = 10 * time.Millisecond
		}
		select {
		case <-side.conn.Closed():
		case <-time.After(patience):
			if ends {
				s.fail("%s: the connection does not end", side.name)
			}
			side.intact.Store(false)
			side.conn.CloseNow()
		}
	}
}

// halve ends one side's bytes beneath its connection when that has sent all it has to send, while the other side may be in
// the midst of it.
func (s *soak) halve() {
	first := s.random.IntN(2)
	a, b := s.sides[first], s.sides[1-first]
	a.sending.Wait()
	if err := a.conn.Flush(context.Background()); err != nil {
		s.fail("%s: Flush ahead of the end of its bytes: %v", a.name, err)
	}
	if err := s.raw[first].(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		s.fail("%s: CloseWrite: %v", a.name, err)
	}
	for _, side := range []*soakSide{b, a} {
		select {
		case <-side.conn.Closed():
		case <-time.After(s.patience):
			s.fail("%s: the connection does not end with the end of %s's bytes", side.name, a.name)
			side.conn.CloseNow()
		}
	}
	s.half = a
}

// stuck returns a channel that is closed when no message has arrived for a time.
func (s *soak) stuck(patience time.Duration) <-chan struct{} {
	stuck := make(chan struct{})
	go func() {
		defer close(stuck)
		arrived := func() uint64 { return s.sides[0].arrived.Load() + s.sides[1].arrived.Load() }
		for before, now := uint64(0), uint64(1); now != before && s.open(); {
			before = arrived()
			timer := time.NewTimer(patience)
			select {
			case <-timer.C:
			case <-s.over:
			}
			timer.Stop()
			now = arrived()
		}
	}()
	return stuck
}

// arrive waits until all that was sent has arrived. Nothing is called that could wake up what sleeps by mistake.
func (s *soak) arrive() {
	if !s.healthy || s.sides[0].stopped || s.sides[1].stopped {
		return
	}
	stuck := s.stuck(s.patience)
	for over := false; !over && s.open(); {
		if s.sides[0].caughtUp() && s.sides[1].caughtUp() {
			s.settled = true
			return
		}
		select {
		case <-stuck:
			over = true
		case <-time.After(time.Millisecond):
		}
	}
	if s.open() {
		s.fail("of %d and %d messages that were accepted %d and %d have arrived, and no more do", s.sides[1].accepted(),
			s.sides[0].accepted(), s.sides[0].arrived.Load(), s.sides[1].arrived.Load())
	}
}

// close closes with the handshake.
func (side *soakSide) close(waits bool) {
	side.intact.Store(false)
	start := time.Now()
	if !waits {
		if err := side.conn.StartClose(4000, side.name); err != nil {
			side.soak.fail("%s: StartClose: %v", side.name, err)
		}
		if side.conn.State() == wsd.StateOpen {
			side.soak.fail("%s: StartClose has begun nothing", side.name)
		}
		<-side.conn.Closed()
	}
	err := side.conn.Close(4000, side.name)
	event := side.conn.CloseEvent()
	if (err == nil) != event.Clean {
		side.soak.fail("%s: Close returned %v after %+v", side.name, err, event)
	}
	limit := side.cfg.CloseTimeout
	if limit == 0 {
		limit = 5 * time.Second
	}
	limit *= 13 // twelve times while what is queued is taken, and once behind the close frame
	if took := time.Since(start); !side.soak.overSockets && took > limit {
		side.soak.fail("%s: Close took %v", side.name, took)
	}
}

// judge compares what has happened with what should have. All goroutines have ended.
func (s *soak) judge() {
	for _, side := range s.sides {
		c, event := side.conn, side.conn.CloseEvent()
		fail := func(format string, args ...any) { s.fail("%s: "+format, append([]any{side.name}, args...)...) }
		for side.cfg.Inbox != nil && !side.ended {
			select {
			case delivery := <-side.cfg.Inbox.C():
				side.taken(delivery)
			case <-time.After(time.Minute):
				fail("the inbox never tells of the end")
				side.ended = true
			}
		}
		// What is left can be received without waiting.
		for left := true; left; {
			select {
			case m, ok := <-c.Messages():
				if left = ok; ok {
					side.take(m)
				}
			default:
				fail("Messages is not closed")
				left = false
			}
		}
		var reported []error
		for err := range c.Errors() {
			reported = append(reported, err)
		}
		if len(reported) > 0 && reported[0] == wsd.ErrSlowConsumer && side.cfg.SlowConsumer == wsd.DropSlow {
			reported = reported[1:]
		}
		if s.sound && !s.overSockets && !side.other.stopped && side.other.slow == 0 && errors.Is(event.Err, wsd.ErrWriteTimeout) {
			fail("gave up a peer that reads")
		}
		switch {
		case event.Err == nil || c.Context().Err() == nil || c.State() != wsd.StateClosed:
			fail("ended without saying so")
		case event.Clean && event.Err == wsd.ErrBodyTimeout && len(reported) == 1 && reported[0] == event.Err:
			// The peer has answered the close frame of who did not read.
		case event.Clean && len(reported) > 0:
			fail("a clean end with errors: %v", reported)
		case !event.Clean && (len(reported) != 1 || reported[0] != event.Err):
			fail("expected %v from Errors, got %v", event.Err, reported)
		}
		if err := c.Send(context.Background(), wsd.Text("late")); !errors.Is(err, wsd.ErrClosed) {
			fail("Send after the end: %v", err)
		}
		if event.Clean {
			s.totals.clean.Add(1)
		} else {
			s.totals.unclean.Add(1)
		}
		stats := c.Stats()
		if arrived := side.arrived.Load() + side.cut.Load(); stats.MessagesReceived-stats.MessagesDropped != arrived {
			fail("%d messages have arrived, and Stats are %+v", arrived, stats)
		}
		accepted, doubtful, flushed := uint64(0), uint64(0), uint64(0)
		for _, x := range side.senders {
			accepted += x.sequence
			flushed += x.flushed
			if x.doubtful {
				doubtful++
			}
		}
		if stats.MessagesSent < accepted || stats.MessagesSent > accepted+doubtful {
			fail("%d messages were accepted, %d in doubt, and Stats are %+v", accepted, doubtful, stats)
		}
		s.totals.accepted.Add(accepted)
		s.totals.flushed.Add(flushed)
		s.totals.received.Add(side.arrived.Load())
		s.totals.dropped.Add(stats.MessagesDropped)
	}
	for _, from := range s.sides {
		to := from.other
		// A side that does nothing to end a connection, and sees it closed by the handshake, has received everything.
		whole := from.conn.CloseEvent().Clean && to.conn.CloseEvent().Clean && to.intact.Load() &&
			to.conn.CloseEvent().Err != wsd.ErrBodyTimeout // whoever stopped receiving left a body unread
		for id, x := range from.senders {
			got, most := to.got[id], x.sequence
			if x.doubtful {
				most++
			}
			if got > most {
				s.fail("%s: got message %d of sender %d, which had only %d accepted", to.name, got, id, x.sequence)
			}
			if whole && got < x.sequence && to.cfg.SlowConsumer != wsd.DropSlow {
				s.fail("%s: got %d messages of sender %d, which had %d accepted and %d confirmed by Flush, and the end was clean",
					to.name, got, id, x.sequence, x.flushed)
			}
		}
		if to == s.half && to.cfg.SlowConsumer != wsd.DropSlow {
			for id, x := range from.senders {
				if got := to.got[id]; got < x.sequence {
					s.fail("%s: got %d messages of sender %d, which had %d accepted, after it had ended its own bytes", to.name, got,
						id, x.sequence)
				}
			}
		}
		if whole && !to.caughtUp() {
			s.fail("%s: %d messages have arrived and %d were dropped of %d, and the end was clean", to.name, to.arrived.Load(),
				to.conn.Stats().MessagesDropped, from.accepted())
		}
	}
	for _, side := range s.sides {
		if s.sound && s.settled && s.gentle && !s.overSockets && !side.conn.CloseEvent().Clean {
			s.fail("%s: the end is not clean, for no reason", side.name)
		}
	}
}
