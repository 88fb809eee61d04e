// peers_test.go checks when a node counts as gone, and what operators are told.

package natsbroker

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/internal/clock"
)

// A node that has died is gone from presence within Options.Dead, whenever it did between two looks, and one that is heard of
// at every other beat never is. What it may have missed is counted.
func TestGoneWithinItsTime(t *testing.T) {
	const dead, interval = defaultDead, defaultDead / beats
	for offset := time.Duration(0); offset < interval; offset += interval / 20 {
		l := &link{broker: &Broker{log: slog.New(slog.DiscardHandler), options: Options{Dead: dead}}, roster: newRoster(1)}
		l.peers = newPeers(l)
		l.passing.Store(5)
		l.peers.note(2)
		l.roster.hear(&word{Kind: state, From: 2, Changes: []change{{Topic: "t", ID: "ann", Stamp: 1}}})
		heard := l.peers.known[2].heard
		l.passing.Store(12)
		for now := heard + offset; l.peers.alive() > 0; now += interval {
			require.LessOrEqual(t, now-heard, dead-interval/2, "half a beat is left for the way")
			require.Len(t, l.roster.at("t"), 1)
			l.peers.bury(now, interval, false)
			if now-heard <= 2*interval {
				require.Equal(t, 1, l.peers.alive(), "a beat may be lost")
			}
		}
		require.Empty(t, l.roster.at("t"))
		require.EqualValues(t, 1, l.counts.lost.Load())
		require.EqualValues(t, 7, l.counts.unreached.Load())
		l.passing.Store(20)
		l.peers.note(2)
		require.EqualValues(t, 7+8, l.counts.unreached.Load(), "it was not dead, and has missed more")
	}
}

// A process that has hung itself gives the others their time once more.
func TestWhoHungBuriesNobody(t *testing.T) {
	l := &link{broker: &Broker{log: slog.New(slog.DiscardHandler)}, roster: newRoster(1)}
	l.peers = newPeers(l)
	l.peers.note(2)
	now := clock.Now() + time.Hour
	l.peers.bury(now, time.Second, true)
	require.Equal(t, 1, l.peers.alive())
	l.peers.bury(now+time.Second, time.Second, false)
	require.Equal(t, 1, l.peers.alive())
	l.peers.bury(now+5*time.Second, time.Second, false)
	require.Zero(t, l.peers.alive())
}

// With history, fewer than three nodes are worth a word in the log.
func TestTooFewNodesForHistory(t *testing.T) {
	const word = "history does not survive the loss of a server"
	history := []hub.History{{Topics: "kept.>", Messages: 10, Age: time.Hour, Bytes: 1 << 20}}
	two := []string{"127.0.0.1:1", "127.0.0.1:2"}
	for name, row := range map[string]struct {
		opts    Options
		history []hub.History
		warned  int
	}{
		"one of two":                  {Options{Listen: "127.0.0.1:0", Routes: two[:1]}, history, 1},
		"one of two, without history": {Options{Listen: "127.0.0.1:0", Routes: two[:1]}, nil, 0},
		"one of three":                {Options{Listen: "127.0.0.1:0", Routes: two}, history, 0},
		"alone":                       {Options{}, history, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logged
			row.opts.Logger, row.opts.Timeout = slog.New(slog.NewTextHandler(&log, nil)), 2*time.Second
			l, err := start(t, row.opts).Attach(hub.Node{Deliver: func(hub.Publication) {}, Resumed: func() {}, History: row.history})
			require.NoError(t, err)
			require.NoError(t, l.Close())
			require.Equal(t, row.warned, log.count(word))
		})
	}
}
