// rules_test.go holds connections over HTTP/3 to what holds for those over TCP.

package h3_test

import (
	"testing"

	"github.com/seed62836080/wsd/internal/streamtest"
)

func carrier(t *testing.T) *streamtest.Carrier {
	t.Helper()
	server := new(streamtest.Server)
	url, opts := serve(t, server, nil)
	return &streamtest.Carrier{URL: url, Transport: opts.HTTPClient.Transport, Server: server}
}

func TestTheRulesHoldOverHTTP3(t *testing.T) { streamtest.Rules(t, carrier(t)) }

func TestSoakOverHTTP3(t *testing.T) { streamtest.Soak(t, carrier(t), 80, 10) }
