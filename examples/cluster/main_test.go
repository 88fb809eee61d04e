// main_test.go runs a cluster, and kills a node in the middle of a conversation.

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
)

// asCluster has the test binary be the program.
const asCluster = "WSD_CLUSTER_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asNode) != "" || os.Getenv(asCluster) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

const patience = 60 * time.Second

// startCluster returns the addresses of the nodes' pages.
func startCluster(t *testing.T, args ...string) (addresses []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asCluster+"=yes")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		require.NoError(t, cmd.Wait(), "it ends as it should")
	})
	lines := bufio.NewScanner(stdout)
	for range 3 {
		require.True(t, lines.Scan(), "a line with the URL of a page")
		addresses = append(addresses, strings.TrimSuffix(strings.TrimPrefix(lines.Text(), "http://"), "/"))
	}
	return addresses
}

// visitor is a page.
type visitor struct {
	name string
	conn *wsd.Conn
	at   hub.Position
	said []string
	here []string

	again map[string]bool // what any of them has said again, as the nodes were electing who keeps history
}

// visit connects with a node, as another node's page may.
func (v *visitor) visit(t *testing.T, address, origin string) {
	t.Helper()
	url := fmt.Sprintf("ws://%s/ws?name=%s&epoch=%s&seq=%d", address, v.name, v.at.Epoch, v.at.Seq)
	var err error
	v.conn, _, err = wsd.Dial(t.Context(), url, &wsd.DialOptions{Header: http.Header{"Origin": {"http://" + origin}}})
	require.NoError(t, err)
	t.Cleanup(v.conn.CloseNow)
}

func (v *visitor) say(t *testing.T, text string) {
	t.Helper()
	require.NoError(t, v.conn.SendJSON(t.Context(), map[string]any{"text": text}))
}

// until takes news until a condition holds.
func (v *visitor) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !holds() {
		msg, err := v.conn.Receive(ctx)
		require.NoError(t, err, "%s: %s: has %q, sees %q", v.name, what, v.said, v.here)
		var told news
		require.NoError(t, json.Unmarshal(msg.Data, &told))
		require.False(t, told.Gap)
		switch {
		case told.Error != "":
			_, text, found := strings.Cut(told.Error, notSaid)
			require.True(t, found, told.Error)
			v.again[text] = true
			v.say(t, text)
		case told.Line != nil:
			var l line
			require.NoError(t, json.Unmarshal(told.Line, &l))
			v.at = *told.At
			if v.again[l.Text] && slices.Contains(v.said, l.Text) {
				continue // it was kept the first time after all
			}
			v.said = append(v.said, l.Text)
		case told.Moved:
			require.NoError(t, v.conn.SendJSON(ctx, map[string]any{"who": true}))
		case told.Here != nil:
			v.here = nil
			for _, p := range told.Here {
				v.here = append(v.here, p.ID)
			}
		}
	}
}

func (v *visitor) hears(t *testing.T, texts ...string) {
	t.Helper()
	v.until(t, fmt.Sprint(texts), func() bool { return len(v.said) >= len(texts) })
	require.Equal(t, texts, v.said)
}

func (v *visitor) sees(t *testing.T, names ...string) {
	t.Helper()
	v.until(t, fmt.Sprint(names), func() bool { return fmt.Sprint(v.here) == fmt.Sprint(names) })
}

func TestANodeIsKilled(t *testing.T) {
	nodes := startCluster(t, "-nodes", "3", "-again", "1s")
	again := make(map[string]bool)
	ann, bob, cyd := visitor{name: "ann", again: again}, visitor{name: "bob", again: again}, visitor{name: "cyd", again: again}
	ann.visit(t, nodes[0], nodes[0])
	bob.visit(t, nodes[1], nodes[1])
	ann.sees(t, "ann", "bob")
	bob.sees(t, "ann", "bob")
	ann.say(t, "one")
	bob.hears(t, "one")
	bob.say(t, "two")
	ann.hears(t, "one", "two")

	require.NoError(t, ann.conn.SendJSON(t.Context(), map[string]any{"kill": true}))
	<-ann.conn.Closed()
	bob.say(t, "three")
	bob.hears(t, "one", "two", "three")
	ann.visit(t, nodes[2], nodes[0])
	ann.hears(t, "one", "two", "three")
	ann.say(t, "four")
	bob.hears(t, "one", "two", "three", "four")
	bob.sees(t, "ann", "bob")

	require.Eventually(t, func() bool {
		answer, err := http.Get("http://" + nodes[0] + "/")
		if err != nil {
			return false
		}
		return answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
	}, patience, 10*time.Millisecond, "it starts again")
	cyd.visit(t, nodes[0], nodes[0])
	cyd.hears(t, "one", "two", "three", "four")
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{{"extra"}, {"-nodes", "0"}, {"-nosuch"}} {
		cmd := exec.Command(os.Args[0], args...)
		cmd.Env = append(os.Environ(), asCluster+"=yes")
		output, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit, "%s", output)
		require.Equal(t, 2, exit.ExitCode())
	}
}
