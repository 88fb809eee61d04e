// output_test.go checks how ends are told.

package dial

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

func TestEndingSaysWhoSaidWhat(t *testing.T) {
	for want, event := range map[string]wsd.CloseEvent{
		"closed by the server: 4001: evil\\x1b":                                                                               {Clean: true, Code: 4001, Reason: "evil\x1b"},
		"closed by the server: 1000 (normal closure)":                                                                         {Clean: true, Code: 1000, SentCode: 1000},
		"closed by this side: 4000: enough":                                                                                   {Clean: true, Local: true, Code: 4000, SentCode: 4000, SentReason: "enough"},
		"closed by this side: 1000 (normal closure); the server sent 4001: it was first":                                      {Clean: true, Local: true, Code: 4001, Reason: "it was first", SentCode: 1000},
		"ended without a closing handshake, 1006 (abnormal closure): nothing came from the peer within PongTimeout of a ping": {Code: 1006, Err: wsd.ErrPongTimeout},
	} {
		require.Equal(t, want, ending(event))
	}
}
