// soak.go is random conversations at the same time over one connection, each compared with a model: what Send accepted
// arrives once, in order and unchanged, or the connection says that it ended; and nothing of any is left.

package streamtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// Soak has conversations, of which atATime share the carrier's connection, with seeds from 1 on.
func Soak(t *testing.T, c *Carrier, conversations, atATime int) {
	kept, _ := c.dialed(t, wsd.Config{PingInterval: -1}) // so that what streams share stays
	before := runtime.NumGoroutine()
	var next atomic.Uint64
	var workers sync.WaitGroup
	var total soakTotal
	for range atATime {
		workers.Go(func() {
			for {
				seed := next.Add(1)
				if seed > uint64(conversations) || t.Failed() {
					return
				}
				if err := c.converse(t.Context(), seed, &total); err != nil {
					t.Errorf("the conversation with seed %d: %v", seed, err)
				}
			}
		})
	}
	workers.Wait()
	t.Logf("%d messages were accepted, %d arrived; %d ends were clean, %d not", total.accepted.Load(), total.arrived.Load(),
		total.clean.Load(), total.unclean.Load())
	require.NotZero(t, total.clean.Load())
	require.NotZero(t, total.unclean.Load())
	requireGoroutines(t, before)
	require.Equal(t, wsd.StateOpen, kept.State())
}

type soakTotal struct{ accepted, arrived, clean, unclean atomic.Uint64 }

// soakSide is one end of a conversation.
type soakSide struct {
	name     string
	conn     *wsd.Conn
	senders  []soakSender
	got      []uint64 // of the other side's senders, the number of the last message that came
	arrived  uint64
	problem  error // of its consumer
	consumer sync.WaitGroup
}

// soakSender is a goroutine that sends.
type soakSender struct {
	accepted uint64
	doubtful bool // the connection ended while the next was sent
	err      error
}

// soakBytes is what messages are made of.
var soakBytes = func() []byte {
	b := make([]byte, 1<<20)
	random := rand.New(rand.NewPCG(0, 0))
	for i := range b {
		b[i] = "abcdefghijklmnopqrstuvwxyz 012345"[random.IntN(33)]
	}
	return b
}()

const soakHeader = 20 // bytes: two digits of the sender, ten of the number, eight of the size

func soakMessage(buf []byte, sender int, number uint64, size int) []byte {
	buf = fmt.Appendf(buf[:0], "%02d%010d%08d", sender, number, size)
	from := (sender*31 + int(number)*17) % (len(soakBytes) - size)
	return append(buf, soakBytes[from:from+size]...)
}

// converse has one conversation.
func (c *Carrier) converse(ctx context.Context, seed uint64, total *soakTotal) error {
	random := rand.New(rand.NewPCG(seed, 7))
	config := func() wsd.Config {
		return wsd.Config{
			MessageBuffer: anyOf(random, 0, -1, 1, 100), SendQueue: anyOf(random, 0, 0, 1, 1000, -1),
			StreamAbove: anyOf[int64](random, 0, 0, 3000),
		}
	}
	clients, servers := config(), config()
	if random.IntN(3) == 0 {
		clients.Compression, servers.Compression = new(wsd.Compression), new(wsd.Compression)
	}
	client, server, err := c.pair(ctx, clients, servers)
	if err != nil {
		return err
	}
	quota, most := anyOf(random, 5, 50, 300), anyOf(random, 100, 2000)
	if random.IntN(4) == 0 {
		quota, most = 20, 200_000 // more than a window has room for
	}
	sides := [2]*soakSide{{name: "client", conn: client}, {name: "server", conn: server}}
	for _, side := range sides {
		side.senders = make([]soakSender, 1+random.IntN(3))
	}
	var sending sync.WaitGroup
	for i, side := range sides {
		side.got = make([]uint64, len(sides[1-i].senders))
		side.consumer.Go(side.consume)
		for id := range side.senders {
			own := rand.New(rand.NewPCG(seed, uint64(100*i+id)))
			sending.Go(func() { side.send(ctx, id, quota, most, own) })
		}
	}
	first := sides[random.IntN(2)]
	gentle := random.IntN(3) > 0
	var ending sync.WaitGroup
	switch how := random.IntN(3); {
	case gentle:
		sending.Wait()
		err = first.conn.Close(wsd.StatusNormalClosure, "done")
	case how == 0:
		for _, side := range sides {
			ending.Go(func() { _ = side.conn.Close(wsd.StatusGoingAway, "") })
		}
	case how == 1:
		first.conn.CloseNow()
	default:
		_ = first.conn.Close(wsd.StatusGoingAway, "")
	}
	sending.Wait()
	ending.Wait()
	for _, side := range sides {
		<-side.conn.Closed()
		side.consumer.Wait()
	}
	if gentle && err != nil {
		return fmt.Errorf("%s: Close: %w", first.name, err)
	}
	for i, side := range sides {
		if gentle && !side.conn.CloseEvent().Clean {
			return fmt.Errorf("%s: a gentle end was not clean: %w", side.name, side.conn.CloseEvent().Err)
		}
		// Whoever closes discards what there is no room for from then on.
		if err := judge(side, sides[1-i], gentle && side != first, total); err != nil {
			return err
		}
	}
	return nil
}

func anyOf[T any](random *rand.Rand, of ...T) T { return of[random.IntN(len(of))] }

// send sends messages, and overwrites each behind that.
func (side *soakSide) send(ctx context.Context, id, quota, most int, random *rand.Rand) {
	x := &side.senders[id]
	var buf []byte
	for range quota {
		size := random.IntN(1 + random.IntN(most))
		buf = soakMessage(buf, id, x.accepted+1, size)
		err := side.conn.Send(ctx, wsd.Binary(buf))
		clear(buf)
		switch {
		case errors.Is(err, wsd.ErrClosed):
			x.doubtful = true
			return
		case err != nil:
			x.err = err
			return
		}
		x.accepted++
	}
}

// consume receives to the end, and compares.
func (side *soakSide) consume() {
	for m := range side.conn.Messages() {
		data := m.Data
		if m.Streamed() {
			var b bytes.Buffer
			body := m.Body()
			_, err := b.ReadFrom(body)
			_ = body.Close()
			if err != nil {
				if !errors.Is(err, wsd.ErrClosed) {
					side.problem = err
				}
				continue // the connection ended ahead of it
			}
			data = b.Bytes()
		}
		if side.problem == nil {
			side.problem = side.take(data)
		}
	}
}

// take compares a message with what it must be.
func (side *soakSide) take(data []byte) error {
	var id, size int
	var number uint64
	if len(data) < soakHeader {
		return fmt.Errorf("a message of %d bytes, which nobody sent", len(data))
	}
	if _, err := fmt.Sscanf(string(data[:soakHeader]), "%02d%010d%08d", &id, &number, &size); err != nil || id >= len(side.got) {
		return fmt.Errorf("a message that nobody sent: %q", data[:soakHeader])
	}
	if !bytes.Equal(data, soakMessage(nil, id, number, size)) {
		return fmt.Errorf("message %d of sender %d was changed", number, id)
	}
	if number != side.got[id]+1 {
		return fmt.Errorf("message %d of sender %d came behind %d", number, id, side.got[id])
	}
	side.got[id] = number
	side.arrived++
	return nil
}

// judge compares what came to one side with what the other has sent.
func judge(to, from *soakSide, whole bool, total *soakTotal) error {
	event := to.conn.CloseEvent()
	switch {
	case to.problem != nil:
		return fmt.Errorf("%s: %w", to.name, to.problem)
	case event.Err == nil || to.conn.State() != wsd.StateClosed:
		return fmt.Errorf("%s: ended without saying so", to.name)
	}
	if event.Clean {
		total.clean.Add(1)
	} else {
		total.unclean.Add(1)
	}
	total.arrived.Add(to.arrived)
	for id := range from.senders {
		x, got := &from.senders[id], to.got[id]
		total.accepted.Add(x.accepted)
		switch {
		case x.err != nil:
			return fmt.Errorf("%s, sender %d: %w", from.name, id, x.err)
		case got > x.accepted+1 || got > x.accepted && !x.doubtful:
			return fmt.Errorf("%s: got message %d of sender %d, which had %d accepted", to.name, got, id, x.accepted)
		case whole && got != x.accepted:
			return fmt.Errorf("%s: got %d messages of sender %d, which had %d accepted, and the end was clean", to.name, got, id, x.accepted)
		}
	}
	return nil
}
