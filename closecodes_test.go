// closecodes_test.go checks from outside which close frames may come and go (RFC 6455, sections 5.5.1 and 7.4).

package wsd_test

import (
	"encoding/binary"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// mayBeSent is section 7.4, and the IANA registry of close codes.
func mayBeSent(code int) bool {
	return code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
}

func parseOne(role wsd.Role, f frame) (wsd.Event, error) {
	p := wsd.NewParser(role, wsd.Config{})
	event, _, err := p.Parse(encodeFrame(f, role == wsd.ServerRole))
	return event, err
}

func TestCloseCodesThatMayCome(t *testing.T) {
	for _, role := range []wsd.Role{wsd.ClientRole, wsd.ServerRole} {
		for code := range 1 << 16 {
			event, err := parseOne(role, closeFrame(code))
			if mayBeSent(code) {
				require.NoError(t, err, code)
				require.EqualValues(t, wsd.OpClose, event.Opcode)
				require.EqualValues(t, code, event.Code)
				require.Empty(t, event.Data)
				continue
			}
			var violation *wsd.ProtocolError
			require.ErrorAs(t, err, &violation, code)
			require.Equal(t, wsd.StatusProtocolError, violation.Code, code)
		}
	}
}

func TestClosePayloadsThatMayCome(t *testing.T) {
	event, err := parseOne(wsd.ServerRole, frame{0x88, nil})
	require.NoError(t, err)
	require.Equal(t, wsd.StatusNoStatus, event.Code)
	event, err = parseOne(wsd.ServerRole, frame{0x88, closePayload(1000, "κόσμε")})
	require.NoError(t, err)
	require.Equal(t, wsd.StatusNormalClosure, event.Code)
	require.Equal(t, "κόσμε", string(event.Data))
	for payload, want := range map[string]wsd.StatusCode{
		"\x03":             wsd.StatusProtocolError,
		"\x03\xE8\xC3":     wsd.StatusInvalidPayload,
		"\x03\xE8\xFF":     wsd.StatusInvalidPayload,
		"\x03\xED":         wsd.StatusProtocolError,
		"\x00\x00\xFF\xFF": wsd.StatusProtocolError,
	} {
		_, err := parseOne(wsd.ServerRole, frame{0x88, []byte(payload)})
		var violation *wsd.ProtocolError
		require.ErrorAs(t, err, &violation, "%q", payload)
		require.Equal(t, want, violation.Code, "%q", payload)
	}
}

// Every code that may be sent is sent as it is, and what is sent may come.
func TestCloseCodesThatMayGo(t *testing.T) {
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			background := ends(t, c, p)
			closed := make(chan error, 1)
			background.Go(func() { closed <- c.Close(wsd.StatusCode(code), "why") })
			f := p.receive()
			require.Equal(t, byte(0x88), f.first)
			require.EqualValues(t, code, binary.BigEndian.Uint16(f.payload))
			require.Equal(t, "why", string(f.payload[2:]))
			event, err := parseOne(wsd.ClientRole, f)
			require.NoError(t, err)
			require.EqualValues(t, code, event.Code)
			p.send(f)
			require.NoError(t, <-closed)
		})
	}
}
