// promises_closeargs_test.go checks that Close closes, whatever it is asked to say.

package wsd_test

import (
	"encoding/binary"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

const maxReason = 123 // bytes (RFC 6455, section 5.5)

func TestCloseWithAReasonThatDoesNotFit(t *testing.T) {
	for name, row := range map[string]struct{ reason, want string }{
		"too long":                         {strings.Repeat("x", 124), strings.Repeat("x", 123)},
		"a megabyte":                       {strings.Repeat("x", 1<<20), strings.Repeat("x", 123)},
		"a character across the boundary":  {strings.Repeat("x", 122) + "é", strings.Repeat("x", 122)},
		"four bytes across the boundary":   {strings.Repeat("x", 120) + "😀", strings.Repeat("x", 120)},
		"four bytes up to the boundary":    {strings.Repeat("x", 119) + "😀tail", strings.Repeat("x", 119) + "😀"},
		"a reason of characters of 3 B":    {strings.Repeat("€", 100), strings.Repeat("€", 41)},
		"a reason that fits is not harmed": {strings.Repeat("€", 41), strings.Repeat("€", 41)},
	} {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				code, reason, err := closeAnswered(t, pair, wsd.StatusGoingAway, row.reason)
				require.NoError(t, err)
				require.EqualValues(t, wsd.StatusGoingAway, code)
				require.Equal(t, row.want, reason)
			})
		})
	}
}

func TestCloseWithAReasonThatIsNotUTF8(t *testing.T) {
	for name, given := range map[string]string{
		"in the middle": "before\xFFafter", "at the end": "before\xE2\x82", "nothing else": "\xC0\xAF",
		"long": strings.Repeat("\xFF", 1000), "replaced at the boundary": strings.Repeat("x", 121) + "\xFF",
	} {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				code, reason, err := closeAnswered(t, pair, wsd.StatusGoingAway, given)
				require.NoError(t, err)
				require.EqualValues(t, wsd.StatusGoingAway, code)
				require.True(t, utf8.ValidString(reason), "%q", reason)
				require.LessOrEqual(t, len(reason), maxReason)
				for _, part := range []string{"before", "after"} {
					require.Equal(t, strings.Contains(given, part), strings.Contains(reason, part), "%q", reason)
				}
			})
		})
	}
}

func TestCloseWithACodeThatMayNotBeSent(t *testing.T) {
	for _, given := range []wsd.StatusCode{0, 999, 1004, wsd.StatusAbnormalClosure, wsd.StatusTLSHandshake, 1016, 2999, 5000, 65535} {
		eachRole(t, func(t *testing.T, pair newPair) {
			code, _, err := closeAnswered(t, pair, given, "why")
			require.EqualValues(t, wsd.StatusInternalError, code, given)
			var argument *wsd.CloseArgumentError
			require.ErrorAs(t, err, &argument)
			require.Equal(t, given, argument.Code)
		})
	}
}

// closeAnswered closes a connection whose peer answers, and returns the close frame and what Close returned.
func closeAnswered(t *testing.T, pair newPair, code wsd.StatusCode, reason string) (uint16, string, error) {
	c, p := pair(t, wsd.Config{})
	background := ends(t, c, p)
	require.NoError(t, c.Send(t.Context(), wsd.Text("ahead of the close frame")))
	closed := make(chan error, 1)
	background.Go(func() { closed <- c.Close(code, reason) })
	require.Equal(t, text("ahead of the close frame"), p.receive())
	synctest.Wait()
	require.NotEqual(t, wsd.StateOpen, c.State(), "Close has left the connection open")
	f := p.receive()
	require.Equal(t, byte(0x88), f.first)
	require.GreaterOrEqual(t, len(f.payload), 2)
	p.send(f)
	p.close()
	err := <-closed
	require.Equal(t, wsd.StateClosed, c.State())
	require.True(t, c.CloseEvent().Clean)
	return binary.BigEndian.Uint16(f.payload), string(f.payload[2:]), err
}
