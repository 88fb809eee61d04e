// receive_test.go checks the loop over all messages: how it ends, whose memory its messages are, and JSON received.

package wsd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// eachEnd runs a test in a bubble for each role and compression: near has a loop over Each, far sends.
func eachEnd(t *testing.T, test func(t *testing.T, near, far *wsd.Conn)) {
	for compression, agreed := range compressions {
		for _, role := range []wsd.Role{wsd.ServerRole, wsd.ClientRole} {
			t.Run(compression+", "+role.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					near, far := pipeOf(role, wsd.Config{Compression: agreed})
					defer far.CloseNow()
					defer near.CloseNow()
					test(t, near, far)
				})
			})
		}
	}
}

// sizesOfEach are those of messages that share memory, have their own, are released, and come in pieces.
var sizesOfEach = []int{0, 10, 512, 513, 5 << 10, 40 << 10, 1<<20 + 1}

func TestEachHasEveryMessageAndAQuietEnd(t *testing.T) {
	eachEnd(t, func(t *testing.T, near, far *wsd.Conn) {
		var sending sync.WaitGroup
		sending.Go(func() {
			for i := range 10 {
				for _, size := range sizesOfEach {
					_ = far.Send(t.Context(), wsd.Binary(bytes.Repeat([]byte{byte(i)}, size)))
				}
			}
			_ = far.Close(4321, "done")
		})
		n := 0
		for m, err := range near.Each(t.Context()) {
			require.NoError(t, err)
			want := bytes.Repeat([]byte{byte(n / len(sizesOfEach))}, sizesOfEach[n%len(sizesOfEach)])
			require.True(t, bytes.Equal(want, m.Data), "message %d", n)
			clear(m.Data) // it is the loop's
			n++
		}
		require.Equal(t, 10*len(sizesOfEach), n)
		require.True(t, near.CloseEvent().Clean, "the event is complete behind the loop")
		require.EqualValues(t, 4321, near.CloseEvent().Code)
		sending.Wait()
		for range near.Each(t.Context()) {
			t.Error("nothing comes after the end")
		}
	})
}

// Whoever closes, with or without a code, a closing handshake is a clean end.
func TestEachEndsQuietlyHoweverItWasClosed(t *testing.T) {
	for name, closes := range map[string]func(near, far *wsd.Conn){
		"by this side":         func(near, _ *wsd.Conn) { _ = near.StartClose(wsd.StatusGoingAway, "") },
		"by the peer":          func(_, far *wsd.Conn) { _ = far.StartClose(wsd.StatusInternalError, "") },
		"by the peer, no code": func(_, far *wsd.Conn) { _ = far.StartClose(wsd.StatusNoStatus, "") },
		"by both at the same time": func(near, far *wsd.Conn) {
			_ = near.StartClose(wsd.StatusGoingAway, "")
			_ = far.StartClose(wsd.StatusNormalClosure, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachEnd(t, func(t *testing.T, near, far *wsd.Conn) {
				closes(near, far)
				for range near.Each(near.Context()) { // which is canceled at the end
					t.Error("there is neither a message nor an error")
				}
				require.True(t, near.CloseEvent().Clean)
			})
		})
	}
}

func TestEachSaysWhatWentWrong(t *testing.T) {
	for name, row := range map[string]struct {
		happens func(near *wsd.Conn, p *peer)
		cause   func(error) bool
	}{
		"a violation": {func(_ *wsd.Conn, p *peer) { p.send(frame{0x83, nil}) },
			func(err error) bool { return errors.As(err, new(*wsd.ProtocolError)) }},
		"the transport ends":     {func(_ *wsd.Conn, p *peer) { p.close() }, func(err error) bool { return err != nil }},
		"CloseNow":               {func(near *wsd.Conn, _ *peer) { near.CloseNow() }, func(err error) bool { return err != nil }},
		"no answer to the close": {func(near *wsd.Conn, _ *peer) { _ = near.StartClose(1000, "") }, func(err error) bool { return errors.Is(err, wsd.ErrCloseTimeout) }},
	} {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				near, p := pair(t, wsd.Config{PingInterval: -1})
				ends(t, near, p)
				p.send(text("one"))
				var got []string
				for m, err := range near.Each(near.Context()) {
					if err == nil {
						got = append(got, m.String())
						row.happens(near, p)
						continue
					}
					require.ErrorIs(t, err, wsd.ErrClosed)
					require.True(t, row.cause(err), "%v", err)
					require.Empty(t, m)
					got = append(got, "the end")
				}
				require.Equal(t, []string{"one", "the end"}, got)
				require.Equal(t, wsd.StateClosed, near.State())
			})
		})
	}
}

// A context ends the loop and not the connection.
func TestEachUntilAContextIsDone(t *testing.T) {
	eachEnd(t, func(t *testing.T, near, far *wsd.Conn) {
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		n := 0
		for _, err := range near.Each(ctx) {
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, why)
			require.NotErrorIs(t, err, wsd.ErrClosed)
			n++
		}
		require.Equal(t, 1, n)
		require.Equal(t, wsd.StateOpen, near.State())
		require.NoError(t, far.Send(t.Context(), wsd.Text("still here")))
		m, err := near.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, "still here", m.String())
		//lint:ignore SA1012 that it is found
		for _, err := range near.Each(nil) {
			require.Equal(t, wsd.ErrNilContext, err)
			n++
		}
		require.Equal(t, 2, n)
	})
}

// The end of the messages may come before that of the connection, which the context does not wait for.
func TestEachWhileTheEndTakesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, p := clientConn(t, wsd.Config{CloseTimeout: time.Hour})
		ends(t, a, p)
		p.send(closeFrame(1000)) // and then the peer does not end its bytes, for which a client waits
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		for _, err := range a.Each(ctx) {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NotErrorIs(t, err, wsd.ErrClosed)
		}
		require.Equal(t, wsd.StateClosing, a.State())
	})
}

// Each, Messages and Receive take from one stream, in order.
func TestEachSharesTheStream(t *testing.T) {
	eachEnd(t, func(t *testing.T, near, far *wsd.Conn) {
		for _, s := range []string{"1", "2", "3", "4", "5"} {
			require.NoError(t, far.Send(t.Context(), wsd.Text(s)))
		}
		var got []string
		take := func() {
			for m := range near.Each(t.Context()) {
				got = append(got, m.String())
				if len(got)%2 == 0 {
					break
				}
			}
		}
		take()
		got = append(got, (<-near.Messages()).String())
		take()
		m, err := near.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"1", "2", "3", "4", "5"}, append(got, m.String()))
	})
}

// Rule 11: each message of the loop arrives in memory that it has used before, except one that the loop was left with.
func TestRule11EachLends(t *testing.T) {
	for _, size := range []int{600, 8 << 10, 100 << 10, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			client, server := wsdtest.Pipe()
			defer client.CloseNow()
			defer server.CloseNow()
			const most = 200 // pools may forget
			var sending sync.WaitGroup
			sending.Go(func() {
				for i := range 2 * most {
					if client.Send(context.Background(), wsd.Binary(bytes.Repeat([]byte{byte(i)}, size))) != nil {
						return
					}
				}
			})
			seen := make(map[*byte]bool)
			reused, n := false, 0
			var kept wsd.Message
			for m, err := range server.Each(t.Context()) {
				require.NoError(t, err)
				require.Equal(t, byte(n), m.Data[size-1])
				reused = reused || seen[unsafe.SliceData(m.Data)]
				seen[unsafe.SliceData(m.Data)] = true
				if n++; n >= 10 && reused || n == most {
					kept = m
					break
				}
			}
			require.True(t, reused)
			want := slices.Clone(kept.Data)
			for range most {
				m, err := server.Receive(t.Context())
				require.NoError(t, err)
				require.NotEqual(t, unsafe.SliceData(kept.Data), unsafe.SliceData(m.Data))
				m.Release()
			}
			require.True(t, bytes.Equal(want, kept.Data), "a loop that was left keeps its message")
			server.CloseNow()
			sending.Wait()
		})
	}
}

// An echo by Each sends back what came, though the memory of each message serves the next.
func TestEchoByEach(t *testing.T) {
	for compression, agreed := range compressions {
		t.Run(compression, func(t *testing.T) {
			eachTransport(t, wsd.Config{Compression: agreed}, func(t *testing.T, client, server *wsd.Conn) {
				var echoing sync.WaitGroup
				echoing.Go(func() { echoByEach(server) })
				echoing.Go(func() {
					for i := range 20 {
						for _, size := range sizesOfEach {
							if client.Send(context.Background(), wsd.Binary(bytes.Repeat([]byte{byte(i)}, size))) != nil {
								return
							}
						}
					}
				})
				n := 0
				for m, err := range client.Each(t.Context()) {
					require.NoError(t, err)
					want := bytes.Repeat([]byte{byte(n / len(sizesOfEach))}, sizesOfEach[n%len(sizesOfEach)])
					require.True(t, bytes.Equal(want, m.Data), "message %d", n)
					if n++; n == 20*len(sizesOfEach) {
						break
					}
				}
				require.NoError(t, client.Close(wsd.StatusNormalClosure, ""))
				echoing.Wait()
			})
		})
	}
}

func echoByEach(c *wsd.Conn) {
	for m, err := range c.Each(context.Background()) {
		if err != nil || c.Send(context.Background(), m) != nil {
			return
		}
	}
}

func TestJSONBothWays(t *testing.T) {
	type order struct {
		Item  string
		Count int
		Raw   json.RawMessage
		Long  []string
	}
	eachEnd(t, func(t *testing.T, near, far *wsd.Conn) {
		long := make([]string, 1000)
		for i := range long {
			long[i] = fmt.Sprint("line ", i)
		}
		sent := order{"tea", 3, json.RawMessage(`{"a":[1,2]}`), long}
		var first order
		for i := range 5 {
			sent.Count = i
			require.NoError(t, far.SendJSON(t.Context(), sent))
			var got order
			require.NoError(t, near.ReceiveJSON(t.Context(), &got))
			require.Equal(t, sent, got)
			if i == 0 {
				first = got
			}
		}
		require.Equal(t, 0, first.Count)
		require.Equal(t, long, first.Long, "what was decoded shares no memory with messages")
		require.Equal(t, `{"a":[1,2]}`, string(first.Raw))

		require.NoError(t, far.SendJSON(t.Context(), nil))
		m, err := near.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, wsd.TextMessage, m.Type)
		require.Equal(t, "null", m.String())
	})
}

func TestJSONThatIsNone(t *testing.T) {
	eachEnd(t, func(t *testing.T, near, far *wsd.Conn) {
		var into struct{ N int }
		var unsupported *json.UnsupportedTypeError
		require.ErrorAs(t, far.SendJSON(t.Context(), make(chan int)), &unsupported)
		require.NoError(t, far.Send(t.Context(), wsd.Text("{")))
		var syntax *json.SyntaxError
		require.ErrorAs(t, near.ReceiveJSON(t.Context(), &into), &syntax)
		require.NoError(t, far.Send(t.Context(), wsd.Text(`{"N":"no number"}`)))
		var mismatch *json.UnmarshalTypeError
		require.ErrorAs(t, near.ReceiveJSON(t.Context(), &into), &mismatch)
		require.NoError(t, far.SendJSON(t.Context(), 1))
		require.ErrorAs(t, near.ReceiveJSON(t.Context(), nil), new(*json.InvalidUnmarshalError))
		require.NoError(t, far.Send(t.Context(), wsd.Binary([]byte(`{"N":7}`))))
		require.NoError(t, near.ReceiveJSON(t.Context(), &into))
		require.Equal(t, 7, into.N)
		require.Equal(t, wsd.StateOpen, near.State())

		//lint:ignore SA1012 that it is found
		require.Equal(t, wsd.ErrNilContext, near.ReceiveJSON(nil, &into))
		//lint:ignore SA1012 that it is found
		require.Equal(t, wsd.ErrNilContext, near.SendJSON(nil, 1))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, near.ReceiveJSON(ctx, &into), context.Canceled)
		require.ErrorIs(t, near.SendJSON(ctx, 1), context.Canceled)
		near.CloseNow()
		require.ErrorIs(t, near.ReceiveJSON(t.Context(), &into), wsd.ErrClosed)
		require.ErrorIs(t, near.SendJSON(t.Context(), 1), wsd.ErrClosed)
	})
}

func TestMessagesAsText(t *testing.T) {
	b := []byte("the bytes themselves")
	m := wsd.TextBytes(b)
	require.Equal(t, wsd.TextMessage, m.Type)
	require.Same(t, unsafe.SliceData(b), unsafe.SliceData(m.Data))
	require.Equal(t, "the bytes themselves", m.String())
	require.Equal(t, "got the bytes themselves, \xFF", fmt.Sprintf("got %s, %v", m, wsd.Binary([]byte{0xFF})))
	require.Empty(t, wsd.Message{}.String())
}
