// redial_test.go tests what Redial yields, how long it pauses, when it stops, and that it leaves nothing behind.

package wsd_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// redialed is a server in memory for Redial, and the times of the handshakes that it got.
type redialed struct {
	opts  *wsd.RedialOptions
	mu    sync.Mutex
	tries []time.Time
	fault error // what dials get instead of a connection
}

// redialing serves handler inside a synctest bubble.
func redialing(t *testing.T, handler http.Handler, opts wsd.RedialOptions) *redialed {
	r := &redialed{opts: &opts}
	l := listenInMemory(net.Pipe)
	server := &http.Server{Handler: handler}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		<-served
	})
	opts.DialOptions.HTTPClient = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			r.mu.Lock()
			r.tries = append(r.tries, time.Now())
			fault := r.fault
			r.mu.Unlock()
			if fault != nil {
				return nil, fault
			}
			return l.dial(ctx)
		},
	}}
	return r
}

// pauses returns the times between the tries.
func (r *redialed) pauses() (all []time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := 1; i < len(r.tries); i++ {
		all = append(all, r.tries[i].Sub(r.tries[i-1]))
	}
	return all
}

func (r *redialed) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = err
}

// handled is a server whose connections are given to handler.
func handled(t *testing.T, handler func(*wsd.Conn)) *wsd.Server {
	s := &wsd.Server{Handler: handler}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, s.Shutdown(ctx))
		require.Zero(t, s.Connections())
	})
	return s
}

func TestRedialYieldsFreshConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var count atomic.Int64
		r := redialing(t, handled(t, func(c *wsd.Conn) {
			_ = c.Send(context.Background(), wsd.Text(strconv.FormatInt(count.Add(1), 10)))
			_ = c.Close(wsd.StatusServiceRestart, "")
		}), wsd.RedialOptions{})
		var got []string
		seen := map[*wsd.Conn]bool{}
		for conn, err := range wsd.Redial(t.Context(), "ws://server/", r.opts) {
			require.NoError(t, err)
			require.False(t, seen[conn])
			seen[conn] = true
			for m := range conn.Messages() {
				got = append(got, string(m.Data))
			}
			if len(got) == 4 {
				break
			}
		}
		require.Equal(t, []string{"1", "2", "3", "4"}, got)
		for conn := range seen {
			require.Equal(t, wsd.StateClosed, conn.State())
		}
	})
}

// A context that is done ends the sequence without a further error, however the end of the iteration's connection is
// judged.
func TestRedialWhoseContextEndsInATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := redialing(t, handled(t, echo), wsd.RedialOptions{Permanent: func(error) bool { return true }})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		turns := 0
		for _, err := range wsd.Redial(ctx, "ws://server/", r.opts) {
			require.NoError(t, err)
			turns++
			cancel()
		}
		require.Equal(t, 1, turns)
	})
}

// The bound of the pauses doubles up to MaxBackoff, the pauses are spread under it, and what lived long enough resets it.
func TestRedialBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var live time.Duration
		r := redialing(t, handled(t, func(c *wsd.Conn) {
			<-time.After(live)
			c.CloseNow()
		}), wsd.RedialOptions{MinBackoff: time.Second, MaxBackoff: 16 * time.Second, ResetAfter: time.Minute})
		bounds := []time.Duration{1, 2, 4, 8, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16}
		r.fail(syscall.ECONNREFUSED)
		tries := 0
		var slept time.Duration
		for conn, err := range wsd.Redial(t.Context(), "ws://server/", r.opts) {
			require.Nil(t, conn)
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
			require.ErrorAs(t, err, new(*wsd.HandshakeError))
			if tries++; tries > len(bounds) {
				break
			}
		}
		distinct := map[time.Duration]bool{}
		for i, pause := range r.pauses() {
			require.Positive(t, pause)
			require.LessOrEqual(t, pause, bounds[i]*time.Second, "pause %d", i)
			distinct[pause] = true
			slept += pause
		}
		require.Len(t, distinct, len(bounds))
		// Half of the sum of the bounds is expected; sixteen pauses miss that by half only once in a million.
		require.Greater(t, slept, 40*time.Second)

		// A server that accepts and closes at once is met with the same growing pauses,
		r.fail(nil)
		r.tries = nil
		tries = 0
		for conn, err := range wsd.Redial(t.Context(), "ws://server/", r.opts) {
			require.NoError(t, err)
			<-conn.Closed()
			if tries++; tries > len(bounds) {
				break
			}
		}
		slept = 0
		for i, pause := range r.pauses() {
			require.LessOrEqual(t, pause, bounds[i]*time.Second, "pause %d", i)
			slept += pause
		}
		require.Greater(t, slept, 40*time.Second)

		// and one whose connections live on with the shortest each time.
		r.tries = nil
		tries = 0
		live = time.Minute
		for conn, err := range wsd.Redial(t.Context(), "ws://server/", r.opts) {
			require.NoError(t, err)
			<-conn.Closed()
			if tries++; tries > len(bounds) {
				break
			}
		}
		for i, pause := range r.pauses() {
			require.LessOrEqual(t, pause-live, time.Second, "pause %d", i)
		}
	})
}

func TestRedialHonoursRetryAfter(t *testing.T) {
	for _, test := range []struct {
		status      int
		after       string // RFC 9110, section 10.2.3
		least, most time.Duration
	}{
		{503, "60", time.Minute, time.Minute + time.Second},
		{429, "60", time.Minute, time.Minute + time.Second},
		{503, "date", 59 * time.Second, time.Minute + time.Second},
		{503, "999999999999", 24 * time.Hour, 24*time.Hour + time.Second},
		{503, "99999999999999999999999", 24 * time.Hour, 24*time.Hour + time.Second},
		{503, "-60", 0, time.Second},
		{503, "soon", 0, time.Second},
		{503, "", 0, time.Second},
		{503, "Sat, 01 Jan 1994 00:00:00 GMT", 0, time.Second},
		{500, "60", 0, time.Second},
		{425, "60", 0, time.Second},
	} {
		t.Run(strconv.Itoa(test.status)+" "+test.after, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := redialing(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					after := test.after
					if after == "date" {
						after = time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)
					}
					w.Header().Set("Retry-After", after)
					w.WriteHeader(test.status)
				}), wsd.RedialOptions{MinBackoff: time.Second, MaxBackoff: time.Second})
				tries := 0
				for _, err := range wsd.Redial(t.Context(), "ws://server/", r.opts) {
					var handshake *wsd.HandshakeError
					require.ErrorAs(t, err, &handshake)
					require.Equal(t, test.status, handshake.StatusCode)
					if tries++; tries == 3 {
						break
					}
				}
				for _, pause := range r.pauses() {
					require.GreaterOrEqual(t, pause, test.least)
					require.LessOrEqual(t, pause, test.most)
				}
			})
		})
	}
}

func TestRedialWithoutPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := redialing(t, http.NotFoundHandler(), wsd.RedialOptions{MinBackoff: -1, MaxBackoff: -1})
		r.fail(syscall.ECONNREFUSED)
		tries := 0
		for _, err := range wsd.Redial(t.Context(), "ws://server/", r.opts) {
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
			if tries++; tries == 10 {
				break
			}
		}
		for _, pause := range r.pauses() {
			require.Zero(t, pause)
		}
	})
}

// An error that a retry cannot fix is yielded and is the last.
func TestRedialStopsAtPermanentErrors(t *testing.T) {
	for status, permanent := range map[int]bool{400: true, 401: true, 403: true, 404: true, 410: true, 426: true, 499: true,
		408: false, 425: false, 429: false, 500: false, 502: false, 503: false, 200: false, 302: false} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := redialing(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }),
					wsd.RedialOptions{})
				tries := 0
				for _, err := range wsd.Redial(t.Context(), "ws://server/", r.opts) {
					require.Equal(t, permanent, wsd.Permanent(err))
					if tries++; tries == 3 {
						break
					}
				}
				require.Equal(t, permanent, tries == 1)
			})
		})
	}
	for code, permanent := range map[wsd.StatusCode]bool{1002: true, 1003: true, 1007: true, 1009: true, 1010: true, 3000: true,
		1000: false, 1001: false, 1008: false, 1011: false, 1012: false, 1013: false, 1014: false, 4000: false} {
		t.Run(code.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := redialing(t, handled(t, func(c *wsd.Conn) { _ = c.Close(code, "why") }), wsd.RedialOptions{})
				turns := 0
				var last error
				for conn, err := range wsd.Redial(t.Context(), "ws://server/", r.opts) {
					if err != nil {
						last = err
						continue
					}
					<-conn.Closed()
					if turns++; turns == 3 {
						break
					}
				}
				if !permanent {
					require.NoError(t, last)
					require.Equal(t, 3, turns)
					return
				}
				require.Equal(t, 1, turns)
				var closed *wsd.CloseError
				require.ErrorAs(t, last, &closed)
				require.Equal(t, code, closed.Code)
				require.ErrorIs(t, last, wsd.ErrClosed)
			})
		})
	}
}

// A yielded error says in which attempt it was, how long the pause is, which is kept, and whether it is the last.
func TestRedialErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := make(chan wsd.StatusCode, 8)
		r := redialing(t, handled(t, func(c *wsd.Conn) { _ = c.Close(<-ends, "") }), wsd.RedialOptions{ResetAfter: time.Minute})
		r.fail(syscall.ECONNREFUSED)
		var errs []*wsd.RedialError
		turns := 0
		for conn, err := range wsd.Redial(t.Context(), "ws://server/", r.opts) {
			if turns++; err != nil {
				failed := new(wsd.RedialError)
				require.ErrorAs(t, err, &failed)
				errs = append(errs, failed)
				if turns == 3 {
					r.fail(nil)
				}
				continue
			}
			switch turns {
			case 4:
				ends <- wsd.StatusGoingAway // at once
			case 5:
				time.Sleep(time.Minute)
				ends <- wsd.StatusGoingAway
				r.fail(syscall.ECONNREFUSED)
			}
			<-conn.Closed()
			if turns == 5 {
				time.AfterFunc(time.Minute, func() { r.fail(nil); ends <- wsd.StatusUnauthorized })
			}
		}
		require.Greater(t, len(errs), 4)
		tries := r.tries
		for i, want := range []int{1, 2, 3} {
			require.Equal(t, want, errs[i].Attempt)
			require.False(t, errs[i].Last)
			require.Equal(t, tries[i+1].Sub(tries[i]), errs[i].Pause)
			require.ErrorIs(t, errs[i], syscall.ECONNREFUSED)
			require.Contains(t, errs[i].Error(), "(attempt "+strconv.Itoa(want)+", the next in ")
		}
		for i, failed := range errs[3:] {
			require.Equal(t, i+1, failed.Attempt, "it starts over behind a connection that lasted")
			last := i == len(errs[3:])-1
			require.Equal(t, last, failed.Last)
			if last {
				require.Zero(t, failed.Pause)
				require.ErrorIs(t, failed, wsd.ErrClosed)
				require.Contains(t, failed.Error(), "the last)")
			} else {
				require.Equal(t, tries[i+6].Sub(tries[i+5]), failed.Pause)
			}
		}
	})
}

// Prepare is asked before each attempt, and what it changes holds for that one alone.
func TestRedialPrepare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type seen struct{ path, token, constant string }
		var got []seen
		ws := handled(t, nil)
		r := redialing(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got = append(got, seen{r.URL.Path, strings.Join(r.Header["Authorization"], "|"), r.Header.Get("X-Constant")})
			_ = ws.Serve(w, r, nil, func(c *wsd.Conn) { _ = c.Close(wsd.StatusUnauthorized, "") })
		}), wsd.RedialOptions{})
		r.opts.DialOptions.Header = http.Header{"X-Constant": {"c"}}
		unavailable := errors.New("no token today")
		calls := 0
		r.opts.Prepare = func(ctx context.Context, opts *wsd.DialOptions) (string, error) {
			require.NoError(t, ctx.Err())
			calls++
			opts.Header.Add("Authorization", strconv.Itoa(calls))
			switch calls {
			case 1:
				return "", nil
			case 2:
				return "", unavailable
			}
			return "ws://server/" + strconv.Itoa(calls), nil
		}
		var turns int
		for conn, err := range wsd.Redial(t.Context(), "ws://server/given", r.opts) {
			if turns++; turns == 2 {
				require.ErrorIs(t, err, unavailable)
				continue
			}
			require.NoError(t, err, "3000 is no reason to give up")
			<-conn.Closed()
			require.Equal(t, wsd.StatusUnauthorized, conn.CloseEvent().Code)
			if turns == 4 {
				break
			}
		}
		require.Equal(t, []seen{{"/given", "1", "c"}, {"/3", "3", "c"}, {"/4", "4", "c"}}, got)
		require.Equal(t, http.Header{"X-Constant": {"c"}}, r.opts.DialOptions.Header)

		r.opts.Prepare = func(_ context.Context, opts *wsd.DialOptions) (string, error) {
			opts.Header.Set("X-Constant", "changed")
			return "nonsense", nil
		}
		turns = 0
		for _, err := range wsd.Redial(t.Context(), "ws://server/given", r.opts) {
			turns++
			require.ErrorAs(t, err, new(*wsd.HandshakeError))
		}
		require.Equal(t, 1, turns)
		require.Equal(t, "c", r.opts.DialOptions.Header.Get("X-Constant"))
	})
}

// A code that the peer sends only in answer to this side's Close is no reason to give up.
func TestRedialBehindAnOwnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := redialing(t, handled(t, echo), wsd.RedialOptions{})
		turns := 0
		for conn, err := range wsd.Redial(t.Context(), "ws://server/", r.opts) {
			require.NoError(t, err)
			require.NoError(t, conn.Close(wsd.StatusUnsupportedData, "not what was expected"))
			require.Equal(t, wsd.StatusUnsupportedData, conn.CloseEvent().Code)
			require.False(t, wsd.Permanent(conn.CloseEvent().Err))
			if turns++; turns == 3 {
				break
			}
		}
		require.Equal(t, 3, turns)
	})
}

func TestRedialPermanentPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []error
		end := errors.New("end of it")
		r := redialing(t, http.NotFoundHandler(), wsd.RedialOptions{Permanent: func(err error) bool {
			asked = append(asked, err)
			return len(asked) == 3
		}})
		tries := 0
		for _, err := range wsd.Redial(t.Context(), "ws://server/", r.opts) {
			require.Error(t, err)
			tries++
		}
		require.Equal(t, 3, tries, "404 is retried where the policy says so")
		require.Len(t, asked, 3)
		require.False(t, wsd.Permanent(end))
		require.False(t, wsd.Permanent(nil))
	})
}

// A certificate that cannot be verified may be a different one the next time; RedialOptions.Permanent can say otherwise.
func TestRedialWithAWrongCertificate(t *testing.T) {
	server := httptest.NewUnstartedServer(&wsd.Server{Handler: echo})
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	trusted := x509.NewCertPool()
	opts := &wsd.RedialOptions{MinBackoff: 1, MaxBackoff: 1, DialOptions: wsd.DialOptions{
		HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}}}
	url := "wss" + strings.TrimPrefix(server.URL, "https")
	wrong := func(err error) bool { return errors.As(err, new(*tls.CertificateVerificationError)) }

	stopping := *opts
	stopping.Permanent = func(err error) bool { return wrong(err) || wsd.Permanent(err) }
	tries := 0
	for conn, err := range wsd.Redial(t.Context(), url, &stopping) {
		require.Nil(t, conn)
		require.True(t, wrong(err), "%v", err)
		tries++
	}
	require.Equal(t, 1, tries)

	for conn, err := range wsd.Redial(t.Context(), url, opts) {
		if tries++; err != nil {
			require.True(t, wrong(err), "%v", err)
			require.False(t, wsd.Permanent(err))
			if tries == 4 {
				trusted.AddCert(server.Certificate())
			}
			continue
		}
		require.NoError(t, conn.Send(t.Context(), wsd.Text("hello")))
		m, err := conn.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, "hello", string(m.Data))
		break
	}
	require.Equal(t, 5, tries)
}

func TestRedialOfWhatCannotBeDialed(t *testing.T) {
	for _, url := range []string{"", "server", "ftp://server", "ws://", "ws://server/#fragment", "ws://ser ver", "ws://server/%zz", "ws://server:65536"} {
		tries := 0
		for conn, err := range wsd.Redial(t.Context(), url, nil) {
			require.Nil(t, conn)
			require.ErrorAs(t, err, new(*wsd.HandshakeError))
			tries++
		}
		require.Equal(t, 1, tries, url)
	}
	var none context.Context
	tries := 0
	for _, err := range wsd.Redial(none, "ws://server", nil) {
		require.ErrorIs(t, err, wsd.ErrNilContext)
		tries++
	}
	require.Equal(t, 1, tries)
}

// Wherever the loop ends, nothing is left: the bubble and the server's count of connections check that.
func TestRedialLeavesNothing(t *testing.T) {
	type end struct {
		name string
		at   func(cancel context.CancelFunc, conn *wsd.Conn, err error) (stop bool)
	}
	for _, end := range []end{
		{"break at once", func(context.CancelFunc, *wsd.Conn, error) bool { return true }},
		{"break after the end of the connection", func(_ context.CancelFunc, conn *wsd.Conn, _ error) bool {
			conn.CloseNow()
			return true
		}},
		{"break while it closes", func(_ context.CancelFunc, conn *wsd.Conn, _ error) bool {
			go func() { _ = conn.Close(wsd.StatusNormalClosure, "") }()
			return true
		}},
		{"cancel, then break", func(cancel context.CancelFunc, _ *wsd.Conn, _ error) bool {
			cancel()
			return true
		}},
		{"cancel in the body", func(cancel context.CancelFunc, _ *wsd.Conn, _ error) bool {
			cancel()
			return false
		}},
		{"cancel while the body receives", func(cancel context.CancelFunc, conn *wsd.Conn, _ error) bool {
			time.AfterFunc(time.Second, cancel)
			for range conn.Messages() {
				panic("no message was sent")
			}
			event := conn.CloseEvent()
			<-conn.Closed()
			if event = conn.CloseEvent(); !event.Clean || event.Code != wsd.StatusGoingAway {
				panic(event.Err)
			}
			return false
		}},
		{"cancel in a pause", func(cancel context.CancelFunc, _ *wsd.Conn, _ error) bool {
			time.AfterFunc(time.Nanosecond, cancel)
			return false
		}},
	} {
		t.Run(end.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := handled(t, echo)
				r := redialing(t, server, wsd.RedialOptions{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var last *wsd.Conn
				turns := 0
				for conn, err := range wsd.Redial(ctx, "ws://server/", r.opts) {
					require.NoError(t, err)
					last = conn
					turns++
					if end.at(cancel, conn, err) {
						break
					}
				}
				require.Equal(t, 1, turns)
				require.Equal(t, wsd.StateClosed, last.State())
				synctest.Wait()
				require.Zero(t, server.Connections())
			})
		})
	}
	t.Run("panic", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := redialing(t, handled(t, echo), wsd.RedialOptions{})
			var last *wsd.Conn
			require.PanicsWithValue(t, "oops", func() {
				for conn := range wsd.Redial(t.Context(), "ws://server/", r.opts) {
					last = conn
					panic("oops")
				}
			})
			require.Equal(t, wsd.StateClosed, last.State())
		})
	})
	t.Run("cancel in a dial", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			silent := make(chan struct{})
			r := redialing(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-silent }), wsd.RedialOptions{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			for range wsd.Redial(ctx, "ws://server/", r.opts) {
				t.Fatal("there is nothing to yield")
			}
			require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
			close(silent)
		})
	})
	t.Run("done beforehand", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range wsd.Redial(ctx, "ws://server/", nil) {
			t.Fatal("there is nothing to yield")
		}
	})
}

// An iteration that is over closes its connection with the closing handshake, whatever is still under way on it.
func TestRedialClosesWhatTheBodyLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := make(chan wsd.CloseEvent, 2)
		r := redialing(t, handled(t, func(c *wsd.Conn) {
			for m := range c.Messages() {
				for range 100 { // more than the client's Messages holds
					_ = c.Send(context.Background(), m)
				}
			}
			<-c.Closed()
			events <- c.CloseEvent()
		}), wsd.RedialOptions{})
		turns := 0
		for conn, err := range wsd.Redial(t.Context(), "ws://server/", r.opts) {
			require.NoError(t, err)
			require.NoError(t, conn.Send(t.Context(), wsd.Text("hello")))
			if turns++; turns == 2 {
				break
			}
		}
		for range 2 {
			event := <-events
			require.True(t, event.Clean)
			require.Equal(t, wsd.StatusNormalClosure, event.Code)
		}
	})
}

// One sequence serves several loops.
func TestRedialTwiceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := redialing(t, handled(t, echo), wsd.RedialOptions{})
		sequence := wsd.Redial(t.Context(), "ws://server/", r.opts)
		for a, err := range sequence {
			require.NoError(t, err)
			for b, err := range sequence {
				require.NoError(t, err)
				require.NotSame(t, a, b)
				requireEcho(t, b, "b")
				break
			}
			requireEcho(t, a, "a")
			break
		}
	})
}
