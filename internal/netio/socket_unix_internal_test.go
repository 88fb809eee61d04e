//go:build unix

// socket_unix_internal_test.go looks at who has the state of a read.

package netio

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/wiretest"
)

// The state of a read goes back with Release, and serves another transport then.
func TestTheStateOfAReadIsLent(t *testing.T) {
	var transports [2]Transport
	for i := range transports {
		dialed, accepted := wiretest.Pair(t, "tcp")
		transports[i].Init(accepted)
		for _, said := range []string{"first", "second"} {
			_, err := dialed.Write([]byte(said))
			require.NoError(t, err)
			b, err := transports[i].Read(nil, true)
			require.NoError(t, err)
			require.Equal(t, said, string(b))
			require.Same(t, &transports[i], transports[i].socket.reading.t)
			require.Nil(t, transports[i].socket.reading.into)
			lent := transports[i].socket.reading
			transports[i].Release()
			require.Nil(t, transports[i].socket.reading)
			require.Nil(t, lent.t)
		}
	}
}
