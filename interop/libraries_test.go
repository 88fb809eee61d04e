// libraries_test.go runs every case with every library, as a server and as a client, over ws and wss.

package interop

import (
	"fmt"
	"testing"
)

func TestServers(t *testing.T) {
	for _, p := range peers {
		if !p.server {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			run := p.start(t, "server")
			results.took(run)
			by := dialing
			if p.http2 {
				by = dialingHTTP2
			}
			for scheme, port := range map[string]int{"ws": run.ready.WS, "wss": run.ready.WSS} {
				t.Run(scheme, func(t *testing.T) {
					runCases(t, "server", p.name, by(run, fmt.Sprintf("%s://127.0.0.1:%d", scheme, port)))
				})
			}
		})
	}
}

func TestClients(t *testing.T) {
	for _, p := range peers {
		if !p.client {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			run := p.start(t, "client")
			results.took(run)
			for scheme, secure := range map[string]bool{"ws": false, "wss": true} {
				t.Run(scheme, func(t *testing.T) {
					s := startServer(t, secure, map[bool]string{true: "h2", false: "http/1.1"}[p.http2])
					runCases(t, "client", p.name, accepting(run, s, s.base))
				})
			}
		})
	}
}

// runCases runs all cases and notes their outcomes in the table of the role and the column of the peer.
func runCases(t *testing.T, role, name string, with opener) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			defer func() { results.add(role, c.name, name, outcomeOf(t)) }()
			c.run(t, with)
		})
	}
}
