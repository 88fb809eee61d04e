// rules_test.go holds connections over HTTP/2 to what holds for those over TCP.

package h2_test

import (
	"testing"

	"github.com/seed62836080/wsd/internal/streamtest"
)

func carrier(t *testing.T, secure bool) *streamtest.Carrier {
	t.Helper()
	server := new(streamtest.Server)
	s := serve(t, secure, server)
	return &streamtest.Carrier{URL: s.url, Transport: s.transport, Server: server}
}

func TestTheRulesHoldOverHTTP2(t *testing.T) { streamtest.Rules(t, carrier(t, false)) }

func TestSoakOverHTTP2(t *testing.T) { streamtest.Soak(t, carrier(t, true), 80, 10) }
