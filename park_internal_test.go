// park_internal_test.go looks at what a connection without a reader keeps.

package wsd

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/park"
	"github.com/seed62836080/wsd/internal/wiretest"
)

// A quiet connection lends its parser to others only between two messages, and goes on with its own limits.
func TestAParserIsLentBetweenMessages(t *testing.T) {
	c := ClientRole
	for _, row := range []struct {
		name  string
		cfg   Config
		input []byte
		lent  bool
	}{
		{"new", Config{}, nil, true},
		{"behind a message", Config{}, wire(c, 0x82, "a"), true},
		{"behind a ping", Config{}, wire(c, 0x89, "a"), true},
		{"in a header", Config{}, []byte("\x82"), false},
		{"in a payload", Config{}, wire(c, 0x82, "ab")[:7], false},
		{"between fragments", Config{}, wire(c, 0x02, "a"), false},
		{"behind a close frame", Config{}, wire(c, 0x88, ""), false},
		{"behind a violation", Config{}, []byte("\x83"), false},
		{"with compression", Config{Compression: &Compression{}}, nil, false},
		{"with messages in parts", Config{StreamAbove: 1}, nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := reader{parser: NewParser(ServerRole, row.cfg)}
			_, _, err := r.parser.Parse(row.input)
			require.Equal(t, row.name == "behind a violation", err != nil)
			r.returnParser()
			require.Equal(t, row.lent, r.parser == nil)
		})
	}

	s := settle(ServerRole, &Config{MaxMessageSize: 1000, MaxFragments: 2})
	var r reader
	r.takeParser(s)
	for _, frame := range [][]byte{wire(c, 0x02, strings.Repeat("x", 500)), wire(c, 0x80, "x")} {
		_, _, err := r.parser.Parse(frame)
		require.NoError(t, err)
	}
	other := NewParser(ClientRole, Config{MaxMessageSize: 10})
	parsers.Put(other)
	r.returnParser()
	r.takeParser(s)
	require.Equal(t, 501, r.parser.longestSoFar)
	_, _, err := r.parser.Parse(wire(c, 0x82, strings.Repeat("x", 1000)))
	require.NoError(t, err)
	_, _, err = r.parser.Parse(wire(c, 0x82, strings.Repeat("x", 1001)))
	require.ErrorContains(t, err, "1009")
	r.parser = nil
	r.takeParser(s)
	_, _, err = r.parser.Parse(concat(wire(c, 0x02, "a"), wire(c, 0x00, "b"), wire(c, 0x80, "c")))
	require.ErrorContains(t, err, "MaxFragments")
}

// Parking gives the parser back, and where it cannot be done the reader goes on with one.
func TestParkingGivesTheParserBack(t *testing.T) {
	if !park.Supported {
		t.Skip("no parking here")
	}
	_, socket := wiretest.Pair(t, "tcp")
	c := newConn(socket, ServerRole, &Config{}, &agreement{})
	c.parking.possible = true
	c.reader.takeParser(c.settings)
	require.True(t, c.reader.park())
	require.Nil(t, c.reader.parser)
	require.True(t, park.Unpark((*parkedConn)(c)))
	c.reader.takeParser(c.settings)
	require.NoError(t, socket.Close())
	require.False(t, c.reader.park())
	require.NotNil(t, c.reader.parser)
}
