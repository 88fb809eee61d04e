// http2_servers_test.go has wsd's client talk with a server over HTTP/2 that cannot take part in every case.

package interop

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// TestHypercornOverHTTP2 has the cases that need neither codes nor pongs, of which hypercorn's programs are not told.
func TestHypercornOverHTTP2(t *testing.T) {
	t.Parallel()
	hypercorn := peer{"hypercorn", true, false, true, python("hypercorn")}
	run := hypercorn.start(t, "server")
	results.version("hypercorn", run.ready.Version)
	taken := []string{"text", "binary", "1 MiB", "1,000 messages at once", "fragments sent", "ping by wsd", "subprotocol", "compression"}
	for scheme, port := range map[string]int{"ws": run.ready.WS, "wss": run.ready.WSS} {
		t.Run(scheme, func(t *testing.T) {
			results.addExtra(t, "hypercorn", "messages, fragments, pings, subprotocols, compression and closes, over HTTP/2", scheme)
			with := dialingHTTP2(run, fmt.Sprintf("%s://127.0.0.1:%d", scheme, port))
			for _, c := range cases {
				if slices.Contains(taken, c.name) {
					t.Run(c.name, func(t *testing.T) { c.run(t, with) })
				}
			}
			t.Run("close by wsd", func(t *testing.T) {
				l := with.open(t, options{})
				echo(l, wsd.Text("before"))
				require.NoError(t, l.Close(4000, "done"))
				require.True(t, l.CloseEvent().Clean)
				l.told("closed")
			})
			t.Run("close by the peer", func(t *testing.T) {
				l := with.open(t, options{})
				l.order("close", map[string]any{"code": 4001, "reason": "enough"})
				event := l.ended()
				require.Equal(t, wsd.StatusCode(4001), event.Code)
				require.Equal(t, "enough", event.Reason)
			})
		})
	}
}
