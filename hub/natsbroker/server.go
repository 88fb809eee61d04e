// server.go runs a server of NATS inside the process.

package natsbroker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// startsWithin is how long an embedded server may take to start at the least, on a machine that is busy with other things.
const startsWithin = 20 * time.Second

// embedded is a server.
type embedded struct {
	server   *server.Server
	options  *Options
	password string // of the only user, made anew each time
	scratch  string // a directory to remove in the end, "" if there is none
}

// user is the name of the only user.
const user = "hub"

// startServer starts a server, and waits until it can be used.
func startServer(o *Options, log *slog.Logger) (*embedded, error) {
	e := &embedded{options: o, password: rand.Text()}
	so := &server.Options{
		DontListen: true, NoSigs: true, MaxPayload: maxPayload, MaxPending: 8 * maxPayload, Username: user, Password: e.password,
		PingInterval: o.Dead / beats, MaxPingsOut: 2, WriteDeadline: o.Dead, DisableJetStreamBanner: true,
	}
	if err := e.cluster(so); err != nil {
		return nil, err
	}
	if err := e.store(so); err != nil {
		return nil, err
	}
	s, err := server.NewServer(so)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wsd: embedded NATS: %w", err), e.clean())
	}
	e.server = s
	s.SetLoggerV2(&serverLog{log.With("nats", so.ServerName)}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(max(o.Timeout, startsWithin)) {
		return nil, errors.Join(errors.New("wsd: embedded NATS has not started, its log says why"), e.stop())
	}
	if o.Listen != "" && s.ClusterAddr() == nil {
		return nil, errors.Join(fmt.Errorf("wsd: embedded NATS does not listen on %s", o.Listen), e.stop())
	}
	e.awaitRoutes()
	return e, nil
}

// cluster has the server wait for other nodes, and look for them.
func (e *embedded) cluster(so *server.Options) error {
	o := e.options
	if o.Listen == "" {
		so.ServerName = o.Name
		return nil
	}
	host, text, _ := net.SplitHostPort(o.Listen)
	port, err := strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return &OptionError{"Listen", fmt.Sprintf("expected a port number, got %q", o.Listen)}
	}
	random := port == 0
	if random {
		if port, err = freePort(host); err != nil {
			return fmt.Errorf("wsd: embedded NATS: %w", err)
		}
	}
	// A server that listens to no clients waits for no other servers either.
	so.DontListen, so.Host, so.Port = false, "127.0.0.1", server.RANDOM_PORT
	so.Cluster = server.ClusterOpts{
		Name: o.Prefix, Host: host, Port: port, Advertise: o.Advertise, PingInterval: o.Dead / beats, MaxPingsOut: 2,
		WriteDeadline: o.Dead, AuthTimeout: 2, TLSConfig: o.TLS, TLSTimeout: 2, PoolSize: routesEach - 1,
	}
	if o.Secret != "" {
		so.Cluster.Username, so.Cluster.Password = o.Prefix, o.Secret
	}
	// The servers that keep history are counted by routes, of which one is to itself.
	own := net.JoinHostPort(host, strconv.Itoa(port))
	for _, route := range append(o.otherRoutes(own), own) {
		u := &url.URL{Scheme: "nats", Host: route}
		if o.Secret != "" {
			u.User = url.UserPassword(o.Prefix, o.Secret)
		}
		so.Routes = append(so.Routes, u)
	}
	so.ServerName = o.Name
	if so.ServerName == "" {
		so.ServerName = o.Prefix + "-" + strings.NewReplacer(":", "-", "[", "", "]", "").Replace(firstOf(o.Advertise, o.Listen))
		if random {
			so.ServerName += "-" + rand.Text()[:8]
		}
	}
	return nil
}

// freePort returns a port that nobody listens on.
func freePort(host string) (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// store has the server keep history.
func (e *embedded) store(so *server.Options) error {
	o := e.options
	if o.NoHistory {
		return nil
	}
	so.JetStream, so.StoreDir = true, o.Dir
	if o.Dir != "" {
		return nil
	}
	var err error
	e.scratch, err = os.MkdirTemp("", o.Prefix+"-nats-")
	so.StoreDir = e.scratch
	return err
}

// awaitRoutes gives the other nodes a moment to be found.
func (e *embedded) awaitRoutes() {
	want := min(e.options.others(), 1)
	for deadline := time.Now().Add(min(e.options.Timeout, time.Second)); e.routes() < want && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
}

// routesEach is how many connections there are to another server: one for the messages of clients, one for what the servers
// tell each other. Either may be there first, and what has no connection yet goes nowhere.
const routesEach = 2

// routes returns how many other servers it is connected with.
func (e *embedded) routes() int { return min(e.server.NumRemotes(), e.server.NumRoutes()/routesEach) }

// stored returns how many bytes of history it keeps.
func (e *embedded) stored() uint64 {
	if e.options.NoHistory {
		return 0
	}
	kept := e.server.GlobalAccount().JetStreamUsage()
	return kept.Store + kept.Memory
}

// lacks returns what is not there yet, "" if nothing is missing.
func (e *embedded) lacks() string {
	if e.routes() < min(e.options.others(), 1) {
		return "no other node has been found"
	}
	if health := e.server.Healthz(&server.HealthzOptions{}); health.Status != "ok" {
		return health.Error
	}
	return ""
}

// addr returns where the server waits for others.
func (e *embedded) addr() string {
	if a := e.server.ClusterAddr(); a != nil {
		return a.String()
	}
	return ""
}

// dial connects to the server without a socket.
func (e *embedded) dial(g *gate, more ...nats.Option) (*nats.Conn, error) {
	all := append(e.options.common(), nats.InProcessServer(g.provider(e.server)), nats.UserInfo(user, e.password))
	return nats.Connect("", append(append(all, e.options.NATS...), more...)...)
}

// stop stops the server, and waits for that.
func (e *embedded) stop() error {
	e.server.Shutdown()
	e.server.WaitForShutdown()
	return e.clean()
}

func (e *embedded) clean() error {
	if e.scratch == "" {
		return nil
	}
	return os.RemoveAll(e.scratch)
}

// serverLog passes on what a server wants known.
type serverLog struct{ to *slog.Logger }

func (l *serverLog) Noticef(string, ...any) {}
func (l *serverLog) Debugf(string, ...any)  {}
func (l *serverLog) Tracef(string, ...any)  {}
func (l *serverLog) Warnf(format string, about ...any) {
	if !strings.HasPrefix(format, "Plaintext passwords") { // the only one is made here, and given to nobody
		l.to.Warn(fmt.Sprintf(format, about...))
	}
}
func (l *serverLog) Errorf(format string, about ...any) { l.to.Error(fmt.Sprintf(format, about...)) }
func (l *serverLog) Fatalf(format string, about ...any) { l.to.Error(fmt.Sprintf(format, about...)) }
