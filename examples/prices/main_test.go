// main_test.go runs the example's server: what is shown, that the slow client catches up once prices rest, and the shutdown.
package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// start runs the server, and returns its page's URL and a connection of the page's.
func start(t *testing.T) (url string, conn *wsd.Conn) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, w, "127.0.0.1:0", 4000, 1000) }()
	line := make([]byte, 64)
	n, err := r.Read(line)
	require.NoError(t, err)
	url = strings.TrimSpace(string(line[:n]))
	conn, _, err = wsd.Dial(t.Context(), url+"prices", nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		go func() {
			for range conn.Messages() {
			}
		}()
		cancel()
		require.NoError(t, <-ended)
		<-conn.Closed()
		require.Equal(t, wsd.StatusGoingAway, conn.CloseEvent().Code)
	})
	return url, conn
}

func receive(t *testing.T, conn *wsd.Conn) (m message) {
	t.Helper()
	msg, err := conn.Receive(t.Context())
	require.NoError(t, err)
	require.NoError(t, msg.Decode(&m))
	return m
}

// The slow client reads a quarter of what changes, and has every newest price soon after the market has stopped.
func TestTheSlowClientConverges(t *testing.T) {
	_, conn := start(t)
	first := receive(t, conn)
	require.Len(t, first.All, instruments)
	prices, slow := first.All, make([]float64, instruments)
	stopped := false
	for seconds, known := 0, 0; !stopped || known < instruments; {
		m := receive(t, conn)
		switch {
		case m.Replaced != nil:
			if seconds++; seconds == 2 {
				require.NoError(t, conn.Send(t.Context(), wsd.Text("stop")))
			}
			stopped = !*m.Live
			if stopped {
				require.Positive(t, *m.Replaced)
			}
		case m.Slow > 0:
			slow[*m.I] = m.Slow
		default:
			prices[*m.I] = m.Price
		}
		known = 0
		for i := range slow {
			if slow[i] == prices[i] || slow[i] == 0 { // a price that never changed was never sent to it
				known++
			}
		}
	}
}

func TestWhatIsNoOrder(t *testing.T) {
	url, _ := start(t)
	conn, _, err := wsd.Dial(t.Context(), url+"prices", nil)
	require.NoError(t, err)
	require.NoError(t, conn.Send(t.Context(), wsd.Text("hurry")))
	for range conn.Messages() {
	}
	<-conn.Closed()
	require.Equal(t, wsd.StatusPolicyViolation, conn.CloseEvent().Code)
}

func TestPage(t *testing.T) {
	url, _ := start(t)
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), "wsd prices")
	require.NotRegexp(t, `(src|href)="(https?:)?//`, string(body), "the page must not need anything from elsewhere")
}
