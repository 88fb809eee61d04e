// main_test.go runs the example against its own feed.

package main

import (
	"bufio"
	"context"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// Three connections in a row get their subscription and their updates, with the ticker in between, until ctx ends it.
func TestFollow(t *testing.T) {
	server := httptest.NewServer(demo(time.Millisecond, 4))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- follow(ctx, out, server.URL, []string{"a", "b"}, time.Millisecond)
		_ = out.Close()
	}()
	var updates, subscriptions, losses, ticks int
	for lines := bufio.NewScanner(in); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "subscribed to [a b]":
			subscriptions++
		case strings.HasPrefix(line, "a "), strings.HasPrefix(line, "b "):
			updates++
		case line == "connection lost: wsd: closed with 1012 (service restart)":
			losses++
		case strings.HasSuffix(line, " updates so far"):
			ticks++
		default:
			t.Errorf("unexpected line %q", line)
		}
		if subscriptions == 3 && updates == 12 && ticks > 0 {
			cancel()
		}
	}
	require.NoError(t, <-ended)
	require.GreaterOrEqual(t, losses, 2)
}

func TestFollowWhereThereIsNoFeed(t *testing.T) {
	server := httptest.NewServer(nil) // 404
	defer server.Close()
	require.ErrorAs(t, follow(t.Context(), io.Discard, server.URL, nil, time.Second), new(*wsd.HandshakeError))
}

// The feed turns clients away that ask for nothing, and they do not come again.
func TestDemoRefusesAnEmptySubscription(t *testing.T) {
	server := httptest.NewServer(demo(time.Millisecond, 1))
	defer server.Close()
	var closed *wsd.CloseError
	require.ErrorAs(t, follow(t.Context(), io.Discard, server.URL, nil, time.Second), &closed)
	require.Equal(t, wsd.StatusUnsupportedData, closed.Code)
}
