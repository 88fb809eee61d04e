// nodes.go joins the broadcasts of many processes: by servers of NATS that there are, or by one in each of them.

package serve

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
	"github.com/seed62836080/wsd/cmd/wsd/internal/client"
	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/hub/natsbroker"
)

// nodes are the flags that say how to find other processes, and what has come of them.
type nodes struct {
	nats, credentials string
	listen            string
	join              []string
	secretFile        string
	certificates      client.Certificates

	broker *natsbroker.Broker // nil if this process is alone
	hub    *hub.Hub           // nil before open
}

func (n *nodes) declare(f *cli.Flags) {
	f.Group("Broadcasts of many processes")
	f.String(&n.listen, "cluster", "ADDR", "with -broadcast: wait here for processes that -join it").Common()
	f.Strings(&n.join, "join", "ADDR", "the -cluster of one that is there, which tells of others").Common()
	f.String(&n.secretFile, "secret", "FILE", "what processes of a cluster show each other to be let in; any text, in a file").File()
	f.String(&n.nats, "nats", "URL", "with -broadcast: meet others at servers of NATS instead").Common()
	f.String(&n.credentials, "nats-creds", "FILE", "credentials for NATS, where they are not in the URL").File()
	n.certificates.Prefix = "node-"
	f.String(&n.certificates.Cert, "node-cert", "FILE", "the certificate for -cluster or -nats, PEM; processes of a cluster verify each other's").File()
	f.String(&n.certificates.Key, "node-key", "FILE", "its key, PEM, where that is not in the same file").File()
	f.String(&n.certificates.Roots, "node-cacert", "FILE", "the authorities that certificates of others must be of, PEM").File()
}

// check finds flags that contradict each other.
func (n *nodes) check(broadcast bool) error {
	clustered, any := n.listen != "", n.listen != "" || n.nats != ""
	switch {
	case any && !broadcast:
		return cli.Usagef("-cluster and -nats: expected -broadcast, too")
	case clustered && n.nats != "":
		return cli.Usagef("-cluster and -nats: expected one of them")
	case !clustered && len(n.join) > 0:
		return cli.Usagef("-join: expected -cluster with an own address, too")
	case !clustered && n.secretFile != "":
		return cli.Usagef("-secret: expected -cluster, too")
	case n.nats == "" && n.credentials != "":
		return cli.Usagef("-nats-creds: expected -nats, too")
	case !any && n.certificates.Given():
		return cli.Usagef("-node-cert, -node-key and -node-cacert: expected -cluster or -nats, too")
	case clustered && n.certificates.Given() && (n.certificates.Cert == "" || n.certificates.Roots == ""):
		return cli.Usagef("-node-cert and -node-cacert: expected both, as processes of a cluster verify each other")
	}
	return nil
}

// open finds the other processes.
func (n *nodes) open(log *slog.Logger) error {
	options := &hub.Options{Slow: hub.Close, MaxLength: -1, MaxTokens: -1}
	if n.listen != "" || n.nats != "" {
		var err error
		if n.broker, err = n.connect(log); err != nil {
			return err
		}
		options.Broker = n.broker
	}
	n.hub = hub.New(options)
	return nil
}

func (n *nodes) connect(log *slog.Logger) (*natsbroker.Broker, error) {
	o := &natsbroker.Options{Logger: log}
	var err error
	if n.certificates.Given() {
		if o.TLS, err = n.certificates.Config(); err != nil {
			return nil, err
		}
		o.TLS.ClientAuth, o.TLS.ClientCAs = tls.RequireAndVerifyClientCert, o.TLS.RootCAs
	}
	if n.nats != "" {
		o.Credentials = n.credentials
		broker, err := natsbroker.Connect(n.nats, o)
		return broker, n.named(err)
	}
	o.NoHistory = true
	if o.Listen, err = nodeAddress("-cluster", n.listen); err != nil {
		return nil, err
	}
	for _, typed := range n.join {
		for one := range strings.SplitSeq(typed, ",") {
			route, err := nodeAddress("-join", one)
			if err != nil {
				return nil, err
			}
			o.Routes = append(o.Routes, route)
		}
	}
	if n.secretFile != "" {
		secret, err := os.ReadFile(n.secretFile)
		if err != nil {
			return nil, cli.Usagef("-secret: %v", err)
		}
		if o.Secret = strings.TrimSpace(string(secret)); o.Secret == "" {
			return nil, cli.Usagef("-secret: expected something in %s", n.secretFile)
		}
	}
	broker, err := natsbroker.Embedded(o)
	return broker, n.named(err)
}

// named returns an error that has the names of flags in place of those of options.
func (n *nodes) named(err error) error {
	var option *natsbroker.OptionError
	switch {
	case !errors.As(err, &option):
		return err
	case option.Option == "Secret":
		return cli.Usagef("-cluster: expected -secret, or -node-cert and -node-cacert, as other machines can reach this one")
	}
	flags := map[string]string{"Listen": "-cluster", "Routes": "-join", "Credentials": "-nats-creds", "TLS": "-node-cert"}
	return cli.Usagef("%s: %s", flags[option.Option], option.Problem)
}

// nodeAddress is Address for processes of a cluster.
func nodeAddress(flag, typed string) (string, error) {
	network, address, err := Address(typed)
	if err != nil || network != "tcp" || !strings.Contains(address[:len(address)-1], ":") {
		return "", cli.Usagef("%s: expected an address such as 6222 or 10.0.0.1:6222, got %q", flag, typed)
	}
	return address, nil
}

// what says who else broadcasts.
func (n *nodes) what() string {
	switch {
	case n.nats != "":
		return " with all who use the same NATS"
	case n.broker != nil:
		return fmt.Sprintf(" with all who -join %s", n.broker.Addr())
	}
	return ""
}

// metrics are the counters of what goes to other processes and comes from them.
func (n *nodes) metrics() []metric {
	if n.broker == nil {
		return nil
	}
	stats := n.broker.Stats()
	return []metric{
		{"nodes", "gauge", "Processes that broadcast together, with this one.", uint64(stats.Nodes) + 1},
		{"nodes_lost_total", "counter", "Processes that were no longer heard of.", stats.Lost},
		{"nodes_sent_total", "counter", "Messages sent to other processes.", stats.Sent},
		{"nodes_received_total", "counter", "Messages received from other processes.", stats.Received},
		{"nodes_unreached_total", "counter", "Messages that other processes may have missed.", stats.Unreached},
	}
}

// close takes leave of the others.
func (n *nodes) close() {
	_ = n.hub.Close()
	if n.broker != nil {
		_ = n.broker.Close()
	}
}
