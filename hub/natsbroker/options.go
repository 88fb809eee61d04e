// options.go holds a broker's options, their defaults, and what is refused.

package natsbroker

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Options are a broker's options; nil means the defaults.
type Options struct {
	// Prefix is what all subjects and streams begin with, so that several applications can use one cluster. It is a word
	// of letters, digits, - and _. Default "wsd".
	Prefix string
	// Dead is for how long nothing must have been heard of a node until it counts as gone, with all who were present
	// there. Connections that are silent for that long are given up. Default 10 s, at least 500 ms.
	Dead time.Duration
	// Timeout is for how long a call that needs the broker waits until it fails with hub.ErrBroker, if its context does not
	// end before. When the leader of a stream of history dies, another is elected within ten seconds: with a longer Timeout,
	// calls wait for that. Default 5 s.
	Timeout time.Duration
	// Replicas is on how many servers each stream of history is. Default: three if Routes has two other nodes or more,
	// otherwise one. With one, history is away as long as its server is.
	Replicas int
	// File has history in files rather than in memory. It follows from Dir for Embedded.
	File bool
	// MaxBytes bounds each stream of history; there is one for each hub.History. The oldest is let go of. Default: none
	// but what the server has.
	MaxBytes int64
	// NoHistory leaves JetStream out of an embedded server.
	NoHistory bool
	// Logger is told of what operators want to know. Default slog.Default().
	Logger *slog.Logger

	// Listen is the address on which an embedded server waits for those of other nodes, host:port. With port 0 the
	// system chooses one, and Broker.Addr tells it. Without Listen it is alone, and listens nowhere.
	Listen string
	// Advertise is the address under which other nodes reach Listen, if that is another.
	Advertise string
	// Routes are addresses of other nodes. One that is there is enough: it tells of the others.
	Routes []string
	// Name is the embedded server's in the cluster. It must be another one for each node, and stay the same when one is
	// started again. Default: from Advertise or Listen.
	Name string
	// Secret is what nodes show each other, the same for all of a cluster. It needs TLS, or a network that nobody else
	// listens to, since it is sent as it is.
	Secret string
	// TLS encrypts what nodes send each other, or for Connect what is sent to the servers. Between nodes each shows its
	// certificate: without a Secret ClientAuth has to be tls.RequireAndVerifyClientCert.
	TLS *tls.Config
	// Dir is where an embedded server keeps history; it must be another one for each node. Without it history is in
	// memory, and what the server needs besides in a temporary directory.
	Dir string

	// Credentials is a file with a user's JWT and seed, for Connect. User, password and token can be in its url.
	Credentials string
	// NATS are more options for connections to NATS, applied last. See package nats.
	NATS []nats.Option
}

const (
	defaultDead    = 10 * time.Second
	leastDead      = 500 * time.Millisecond
	defaultTimeout = 5 * time.Second

	// beats is how many times a node is heard of in the time after which it counts as gone.
	beats = 5
	// maxPayload is the longest message between embedded nodes, in bytes.
	maxPayload = 8 << 20
	// reconnectBuffer is how many bytes wait while the server is away.
	reconnectBuffer = 8 << 20
)

// OptionError is returned for options that are not valid, or not secure.
type OptionError struct {
	Option  string // the name of the field of Options
	Problem string // what was expected and what came
}

// Error says which option is wrong.
func (e *OptionError) Error() string { return "wsd: natsbroker option " + e.Option + ": " + e.Problem }

// settle fills in the defaults, and returns what is wrong.
func (o *Options) settle() error {
	if o.Prefix == "" {
		o.Prefix = "wsd"
	}
	if strings.Trim(o.Prefix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" || len(o.Prefix) > 32 {
		return &OptionError{"Prefix", fmt.Sprintf("expected up to 32 letters, digits, - and _, got %q", o.Prefix)}
	}
	if o.Dead == 0 {
		o.Dead = defaultDead
	}
	if o.Dead < leastDead {
		return &OptionError{"Dead", fmt.Sprintf("expected at least %v, got %v", leastDead, o.Dead)}
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Replicas < 0 || o.Replicas > 5 {
		return &OptionError{"Replicas", fmt.Sprintf("expected 1 to 5, got %d", o.Replicas)}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return nil
}

// checkEmbedded refuses what Connect alone uses, and what is not secure.
func (o *Options) checkEmbedded() error {
	if o.Credentials != "" {
		return &OptionError{"Credentials", "expected none, as an embedded server has its own"}
	}
	o.File = o.Dir != ""
	o.settleReplicas()
	if o.Listen == "" {
		return o.checkAlone()
	}
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return &OptionError{"Listen", fmt.Sprintf("expected host:port, got %q", o.Listen)}
	}
	local := loopback(host)
	for _, route := range o.Routes {
		host, _, err := net.SplitHostPort(route)
		if err != nil {
			return &OptionError{"Routes", fmt.Sprintf("expected host:port, got %q", route)}
		}
		local = local && loopback(host)
	}
	mutual := o.TLS != nil && o.TLS.ClientAuth == tls.RequireAndVerifyClientCert
	switch {
	case local || o.Secret != "" || mutual:
		return nil
	case o.TLS != nil:
		return &OptionError{"TLS", "expected a Secret, or ClientAuth tls.RequireAndVerifyClientCert, as anybody could join the cluster"}
	}
	return &OptionError{"Secret", "expected a Secret or TLS where nodes are reached by more than loopback addresses"}
}

// checkAlone refuses what a node that is alone cannot have.
func (o *Options) checkAlone() error {
	for option, set := range map[string]bool{
		"Routes": len(o.Routes) > 0, "Advertise": o.Advertise != "", "Secret": o.Secret != "", "TLS": o.TLS != nil, "Replicas": o.Replicas > 1,
	} {
		if set {
			return &OptionError{option, "expected Listen too, as the node is alone without it"}
		}
	}
	return nil
}

// checkConnect refuses what an embedded server alone uses.
func (o *Options) checkConnect() error {
	for option, set := range map[string]bool{
		"Listen": o.Listen != "", "Advertise": o.Advertise != "", "Routes": len(o.Routes) > 0, "Name": o.Name != "", "Secret": o.Secret != "",
		"Dir": o.Dir != "", "NoHistory": o.NoHistory,
	} {
		if set {
			return &OptionError{option, "expected none, as it is for an embedded server"}
		}
	}
	o.settleReplicas()
	return nil
}

func (o *Options) settleReplicas() {
	switch {
	case o.Replicas > 0:
	case o.others() >= 2:
		o.Replicas = 3
	default:
		o.Replicas = 1
	}
}

// others returns how many other nodes Routes has.
func (o *Options) others() int { return len(o.otherRoutes(o.Listen)) }

// otherRoutes returns what is in Routes but for this node itself.
func (o *Options) otherRoutes(own string) (others []string) {
	for _, route := range o.Routes {
		if route != own && route != o.Advertise && !slices.Contains(others, route) {
			others = append(others, route)
		}
	}
	return others
}

// loopback reports whether a host is reached from this machine alone.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// common are the options of all connections to a server.
func (o *Options) common() []nats.Option {
	return []nats.Option{
		nats.Name(o.Prefix + " hub"), nats.NoEcho(),
		nats.PingInterval(o.Dead / beats), nats.MaxPingsOutstanding(2),
		nats.MaxReconnects(-1), nats.ReconnectWait(min(250*time.Millisecond, o.Dead/beats)),
		nats.ReconnectJitter(50*time.Millisecond, 50*time.Millisecond),
		nats.ReconnectBufSize(reconnectBuffer), nats.FlusherTimeout(o.Dead), nats.Timeout(o.Timeout),
		nats.IgnoreAuthErrorAbort(),
	}
}

// toServer are the options of connections to a server of another process.
func (o *Options) toServer() []nats.Option {
	all := o.common()
	if o.Credentials != "" {
		all = append(all, nats.UserCredentials(o.Credentials))
	}
	if o.TLS != nil {
		all = append(all, nats.Secure(o.TLS))
	}
	return append(all, o.NATS...)
}
