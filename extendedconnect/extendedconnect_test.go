package extendedconnect_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	_ "github.com/seed62836080/wsd/extendedconnect"
	"github.com/seed62836080/wsd/internal/http2test"
)

// announced is what a server of net/http says of extended CONNECT.
func announced(t *testing.T) bool {
	t.Helper()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	client, err := http2test.NewClient(conn)
	require.NoError(t, err)
	defer client.Close()
	return client.ExtendedConnect()
}

// TestServersAnnounceExtendedConnect fails with a release of Go that has another way.
func TestServersAnnounceExtendedConnect(t *testing.T) {
	want := os.Getenv("EXTENDEDCONNECT_OFF") == ""
	require.Equal(t, want, announced(t))
}

func TestGODEBUGIsRestored(t *testing.T) {
	require.NotContains(t, os.Getenv("EXTENDEDCONNECT_OFF")+os.Getenv("GODEBUG"), "http2xconnect=1")
}

func TestGODEBUGOfTheProgramHolds(t *testing.T) {
	if os.Getenv("EXTENDEDCONNECT_CHILD") != "" {
		return
	}
	for _, env := range [][]string{
		{"GODEBUG=http2xconnect=0", "EXTENDEDCONNECT_OFF=1"},
		{"GODEBUG=gctrace=0"},
		{"GODEBUG="},
	} {
		cmd := exec.Command(os.Args[0], "-test.run", "TestServers|TestGODEBUGIsRestored")
		cmd.Env = append(append(os.Environ(), "EXTENDEDCONNECT_CHILD=1"), env...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", env, out)
	}
}
