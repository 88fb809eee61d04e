// gorilla_programs_test.go runs the tests of programs that others wrote for gorilla/websocket over package gorilla.

package interop

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// gorillaPrograms import gorilla, and have tests that need no network.
var gorillaPrograms = []struct {
	module string
	args   []string // of go test
	conns  int      // that its tests make at least, both ends counted
}{
	{"github.com/slack-go/slack@v0.35.0", []string{"./socketmode/...", "./slacktest/..."}, 20},
	// Without the tests that send to all before the last session has begun, and so fail over gorilla too.
	{"github.com/olahol/melody@v1.4.0", []string{"-skip=Broadcast|TestClose", "."}, 100},
	// Without the test that waits for a minute, over gorilla too, and those of polling, which end in races and need no WebSocket.
	{"github.com/googollee/go-socket.io@v1.7.0", []string{"-run=TestEngineWebsocket|^TestWebsocket", "./engineio", "./engineio/transport/websocket"}, 4},
	{"github.com/sourcegraph/jsonrpc2@v0.2.3", []string{"."}, 2},
	{"github.com/centrifugal/centrifuge-go@v0.12.1", []string{"-run=Compaction|Stale|Tags|WithoutFilter|2502|Below2500", "."}, 16},
	// Remote commands and port forwarding of Kubernetes.
	{"k8s.io/client-go@v0.37.2", []string{
		"-run=WebSocket|Tunnel", "./tools/remotecommand", "./tools/portforward", "./transport/websocket",
	}, 30},
}

// TestProgramsThatUseGorilla builds programs that others wrote over package gorilla, and runs their tests.
func TestProgramsThatUseGorilla(t *testing.T) {
	door := filepath.Join(t.TempDir(), "websocket")
	standIn(t, door)
	for _, program := range gorillaPrograms {
		t.Run(program.module, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "program")
			copyModule(t, program.module, dir)
			for _, replacement := range []string{"github.com/gorilla/websocket=" + door, "github.com/seed62836080/wsd=" + repository(t)} {
				out, err := goIn(dir, "mod", "edit", "-replace", replacement)
				require.NoError(t, err, "%s", out)
			}
			profile := filepath.Join(t.TempDir(), "profile")
			args := []string{"test", "-vet=off", "-timeout=2m", "-coverpkg=github.com/seed62836080/wsd/gorilla", "-covermode=atomic", "-coverprofile=" + profile}
			out, err := goIn(dir, append(args, program.args...)...)
			require.NoError(t, err, "%s", out)
			conns := connsMade(t, profile)
			t.Logf("%d ends of connections", conns)
			require.GreaterOrEqual(t, conns, program.conns, "ends of connections of package gorilla")
		})
	}
}

// counted is a line of a coverage profile: where a block begins, and how often it ran.
var counted = regexp.MustCompile(`(?m)^github\.com/seed62836080/wsd/gorilla/conn\.go:(\d+)\..* (\d+)$`)

// connsMade returns how often, by a coverage profile, package gorilla has made a connection.
func connsMade(t *testing.T, profile string) (made int) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "../gorilla/conn.go", nil, 0)
	require.NoError(t, err)
	begins := 0
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Name.Name == "newConn" {
			begins = set.Position(f.Pos()).Line
		}
	}
	require.NotZero(t, begins, "newConn is not in conn.go")
	data, err := os.ReadFile(profile)
	require.NoError(t, err)
	for _, block := range counted.FindAllSubmatch(data, -1) {
		if string(block[1]) == strconv.Itoa(begins) {
			count, err := strconv.Atoi(string(block[2]))
			require.NoError(t, err)
			made += count
		}
	}
	return made
}

// copyModule copies a module from the module cache, which gets it if need be.
func copyModule(t *testing.T, module, dir string) {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	var got struct{ Dir string }
	require.NoError(t, json.Unmarshal(out, &got))
	require.NoError(t, filepath.WalkDir(got.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(got.Dir, path)
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		to := filepath.Join(dir, below)
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err = os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, data, 0o644)
	}))
}
