// main_test.go plays the game with both sides in one process.

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// All players get their points, the server's one loop says so, and players who leave are counted out.
func TestGame(t *testing.T) {
	const players = 50
	g := newGame()
	server := httptest.NewServer(g.server)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	attending, leave := context.WithCancel(ctx)
	defer leave()
	attended, ran := make(chan error, 1), make(chan struct{})
	in, out := io.Pipe()
	go func() { attended <- attend(attending, server.URL, players, 20*time.Millisecond) }()
	go func() {
		defer close(ran)
		g.run(ctx, out, 10*time.Millisecond)
		_ = out.Close()
	}()
	everybody, nobody := false, false
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var here, points int
		_, err := fmt.Sscanf(lines.Text(), "%d players, %d points", &here, &points)
		require.NoError(t, err)
		switch {
		case here == players && points > 3*players:
			everybody = true
			leave()
		case here == 0 && everybody:
			nobody = true
			cancel()
		}
	}
	<-ran
	require.True(t, everybody)
	require.True(t, nobody)
	require.NoError(t, <-attended)
}

// A player that does not read is sent away, and holds nobody up.
func TestAPlayerThatDoesNotRead(t *testing.T) {
	g := newGame()
	g.server.CloseTimeout = 100 * time.Millisecond
	server := httptest.NewServer(g.server)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		g.run(ctx, io.Discard, time.Hour)
	}()
	deaf, _, err := wsd.Dial(t.Context(), server.URL, &wsd.DialOptions{Config: wsd.Config{MessageBuffer: -1}})
	require.NoError(t, err)
	go func() {
		for deaf.Send(context.Background(), wsd.Text("a point for me")) == nil {
		}
		for range deaf.Messages() {
		}
	}()
	ann, _, err := wsd.Dial(t.Context(), server.URL, nil)
	require.NoError(t, err)
	defer ann.CloseNow()
	for n := 1; ; n++ {
		require.NoError(t, ann.Send(t.Context(), wsd.Text("a point for me")))
		answer, err := ann.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(n), string(answer.Data))
		select {
		case <-deaf.Closed():
			cancel()
			<-ran
			return
		default:
		}
	}
}

func TestAttendWhereThereIsNoGame(t *testing.T) {
	server := httptest.NewServer(nil) // 404
	defer server.Close()
	require.ErrorAs(t, attend(t.Context(), server.URL, 3, time.Second), new(*wsd.HandshakeError))
}
