// options_test.go checks what is refused, and that nobody gets in who is not to.

package natsbroker

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
)

func TestOptions(t *testing.T) {
	mutual := &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert}
	for name, row := range map[string]struct {
		opts   Options
		option string
	}{
		"a prefix with a wildcard": {Options{Prefix: "a.*"}, "Prefix"},
		"a prefix that is long":    {Options{Prefix: "abcdefghijklmnopqrstuvwxyz0123456789"}, "Prefix"},
		"too short":                {Options{Dead: time.Millisecond}, "Dead"},
		"too many":                 {Options{Replicas: 6, Listen: "127.0.0.1:0"}, "Replicas"},
		"credentials":              {Options{Credentials: "x"}, "Credentials"},
		"no port":                  {Options{Listen: "127.0.0.1"}, "Listen"},
		"routes without Listen":    {Options{Routes: []string{"127.0.0.1:1"}}, "Routes"},
		"a secret without Listen":  {Options{Secret: "x"}, "Secret"},
		"a route without a port":   {Options{Listen: "127.0.0.1:0", Routes: []string{"x"}}, "Routes"},
		"all addresses":            {Options{Listen: "0.0.0.0:0"}, "Secret"},
		"all addresses of IPv6":    {Options{Listen: "[::]:0"}, "Secret"},
		"no host":                  {Options{Listen: ":0"}, "Secret"},
		"a name":                   {Options{Listen: "node1.example:0"}, "Secret"},
		"a far route":              {Options{Listen: "127.0.0.1:0", Routes: []string{"10.0.0.1:1"}}, "Secret"},
		"TLS that anybody may use": {Options{Listen: "10.0.0.1:0", TLS: &tls.Config{}}, "TLS"},
		"loopback":                 {Options{Listen: "127.0.0.1:0", Routes: []string{"localhost:1", "[::1]:2"}}, ""},
		"a secret":                 {Options{Listen: "10.0.0.1:0", Secret: "x"}, ""},
		"TLS with certificates":    {Options{Listen: "10.0.0.1:0", TLS: mutual}, ""},
		"TLS and a secret":         {Options{Listen: "10.0.0.1:0", TLS: &tls.Config{}, Secret: "x"}, ""},
		"nothing":                  {Options{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newBroker(&row.opts, (*Options).checkEmbedded)
			requireRefused(t, row.option, err)
		})
	}
	for option, opts := range map[string]Options{
		"Listen": {Listen: "127.0.0.1:0"}, "Secret": {Secret: "x"}, "Dir": {Dir: "x"}, "Name": {Name: "x"}, "": {Credentials: "x"},
	} {
		_, err := newBroker(&opts, (*Options).checkConnect)
		requireRefused(t, option, err)
	}
}

func requireRefused(t *testing.T, option string, err error) {
	t.Helper()
	if option == "" {
		require.NoError(t, err)
		return
	}
	var refused *OptionError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, option, refused.Option)
}

func TestReplicas(t *testing.T) {
	for want, opts := range map[int]Options{
		1: {Listen: "127.0.0.1:1", Routes: []string{"127.0.0.1:1", "127.0.0.1:2"}},
		3: {Listen: "127.0.0.1:1", Routes: []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}},
		2: {Listen: "127.0.0.1:1", Replicas: 2},
	} {
		require.NoError(t, opts.checkEmbedded())
		require.Equal(t, want, opts.Replicas)
	}
}

// start starts an embedded server for a test.
func start(t *testing.T, opts Options) *Broker {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	b, err := Embedded(&opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func TestAloneListensNowhere(t *testing.T) {
	b := start(t, Options{})
	require.Nil(t, b.server.server.ClusterAddr())
	require.Nil(t, b.server.server.Addr())
	require.Empty(t, b.Addr())
}

// A node counts as connected once every connection to it is there. How many those are is for the server to say.
func TestRoutesCountOnceTheyAreWhole(t *testing.T) {
	first := start(t, Options{Listen: "127.0.0.1:0", NoHistory: true})
	second := start(t, Options{Listen: "127.0.0.1:0", Routes: []string{first.Addr()}, NoHistory: true})
	for _, b := range []*Broker{first, second} {
		s := b.server.server
		require.Eventually(t, func() bool { return b.Stats().Routes == 1 }, patience, time.Millisecond)
		require.Equal(t, routesEach, s.NumRoutes())
		require.Equal(t, 1, s.NumRemotes())
	}
}

// The port for clients that a node of a cluster needs is on loopback, and takes only this process.
func TestClientsAreNotLetIn(t *testing.T) {
	b := start(t, Options{Listen: "127.0.0.1:0", Secret: "s"})
	address := b.server.server.Addr().(*net.TCPAddr)
	require.True(t, address.IP.IsLoopback())
	for _, login := range []nats.Option{nats.Name("nobody"), nats.UserInfo(user, ""), nats.UserInfo(user, "s"), nats.UserInfo("wsd", "s")} {
		_, err := nats.Connect("nats://"+address.String(), login)
		require.ErrorIs(t, err, nats.ErrAuthorization)
	}
	c, err := nats.Connect("nats://"+address.String(), nats.UserInfo(user, b.server.password))
	require.NoError(t, err)
	c.Close()
}

// patience is how long anything may take that has to happen at all.
const patience = 60 * time.Second

// logged is what has been logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// requireStranger starts a node that the first is to refuse, with a word in the log of one of them, and then one that is let in.
// A server counts a connection that it has made until it is told that it is refused, so that counts say nothing.
func requireStranger(t *testing.T, first *Broker, log *logged, word string, stranger, member Options) {
	t.Helper()
	var near, far, other recorder
	ours := attach(t, first, &near)
	require.NoError(t, ours.Subscribe("t"))
	before := log.count(word)
	theirs := attach(t, start(t, stranger), &other)
	require.NoError(t, theirs.Subscribe("t"))
	require.Eventually(t, func() bool { return log.count(word) > before }, patience, time.Millisecond)
	let := attach(t, start(t, member), &far)
	require.NoError(t, let.Subscribe("t"))
	require.Eventually(t, func() bool { return let.peers.alive() == 1 && ours.peers.alive() == 1 }, patience, time.Millisecond)
	publish(t, theirs, "t", "from a stranger")
	publish(t, let, "t", "from a member")
	near.awaits(t, "from a member")
	far.awaits(t, "from a member")
	other.awaits(t, "from a stranger")
	require.Zero(t, theirs.peers.alive())
}

func TestNodesNeedTheSecret(t *testing.T) {
	t.Parallel()
	var log logged
	logger := slog.New(slog.NewTextHandler(&log, nil))
	first := start(t, Options{Listen: "127.0.0.1:0", Secret: "s", Logger: logger})
	node := func(secret string) Options {
		return Options{Listen: "127.0.0.1:0", Secret: secret, Routes: []string{first.Addr()}}
	}
	requireStranger(t, first, &log, "authentication error", node("another"), node("s"))
}

func TestReady(t *testing.T) {
	t.Parallel()
	require.NoError(t, start(t, Options{}).Ready(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	alone := start(t, Options{Listen: "127.0.0.1:0", Routes: []string{"127.0.0.1:1", "127.0.0.1:2"}, Timeout: time.Second})
	err := alone.Ready(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "no other node")
}

func TestNoHistory(t *testing.T) {
	b := start(t, Options{NoHistory: true})
	h := hub.New(&hub.Options{Broker: b, History: []hub.History{{Topics: "a"}}})
	_, err := h.History(t.Context(), "a", hub.Position{}, 1)
	var refused *hub.OptionError
	require.ErrorAs(t, err, &refused)
	require.NoError(t, h.Close())
	require.Zero(t, b.Stats().Stored)
}

// What an embedded server keeps is told, in memory and in files.
func TestStored(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"", t.TempDir()} {
		b := start(t, Options{Dir: dir})
		require.Zero(t, b.Stats().Stored)
		h := hub.New(&hub.Options{Broker: b, History: []hub.History{{Topics: "a"}}})
		require.NoError(t, h.Publish(t.Context(), "a", wsd.Binary(make([]byte, 10_000))))
		require.GreaterOrEqual(t, b.Stats().Stored, uint64(10_000))
		require.NoError(t, h.Close())
	}
}

func TestConnectToNobody(t *testing.T) {
	_, err := Connect("nats://127.0.0.1:1", &Options{Timeout: time.Second})
	require.ErrorIs(t, err, nats.ErrNoServers)
}

func TestNodesMustAgreeOnHistory(t *testing.T) {
	b := start(t, Options{})
	one := hub.New(&hub.Options{Broker: b, History: []hub.History{{Topics: "a"}}})
	defer func() { require.NoError(t, one.Close()) }()
	other := hub.New(&hub.Options{Broker: b, History: []hub.History{{Topics: "a", Messages: 7}}})
	_, err := other.History(t.Context(), "a", hub.Position{}, 1)
	var refused *hub.OptionError
	require.ErrorAs(t, err, &refused)
	require.NoError(t, other.Close())
	require.NoError(t, one.Close())
	later := hub.New(&hub.Options{Broker: b, History: []hub.History{{Topics: "a", Messages: 7}}})
	_, err = later.History(t.Context(), "a", hub.Position{}, 1)
	require.NoError(t, err, "once nobody has other options, those of the stream are changed")
	require.NoError(t, later.Close())
}
