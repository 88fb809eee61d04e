// node_test.go is a node of the fault tests: a process of its own, with an embedded server and a hub.

package natsbroker_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/hub/natsbroker"
)

// asNode is the environment variable that has the test binary be a node. It has the node's options in JSON.
const asNode = "NATSBROKER_TEST_NODE"

// nodeOptions are what a node is told.
type nodeOptions struct {
	Listen, Advertise string
	Routes            []string
	URL               string // of servers to Connect to, instead of an embedded one
	Dir               string
	Dead, Timeout     time.Duration
	Log               bool
}

func TestMain(m *testing.M) {
	if told := os.Getenv(asNode); told != "" {
		if err := beNode(told); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	// Tests here wait for other processes more than they work, whatever number of processors there is.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// faultHistory is what the nodes of the fault tests keep.
var faultHistory = []hub.History{{Topics: "kept.>", Messages: 20_000, Age: time.Hour, Bytes: -1}}

// framedText is what members are sent.
type framedText struct {
	At   hub.Position `json:"at"`
	Text string       `json:"text"`
	Gap  bool         `json:"gap,omitempty"`
}

func beNode(told string) error {
	var o nodeOptions
	if err := json.Unmarshal([]byte(told), &o); err != nil {
		return err
	}
	log := quiet
	if o.Log {
		log = slog.Default()
	}
	opts := &natsbroker.Options{
		Listen: o.Listen, Advertise: o.Advertise, Routes: o.Routes, Dir: o.Dir, Dead: o.Dead, Timeout: o.Timeout,
		Replicas: 3, Secret: "s", Logger: log,
	}
	start := natsbroker.Embedded
	if o.URL != "" {
		opts = &natsbroker.Options{Dead: o.Dead, Timeout: o.Timeout, File: true, Logger: log}
		start = func(opts *natsbroker.Options) (*natsbroker.Broker, error) { return natsbroker.Connect(o.URL, opts) }
	}
	broker, err := start(opts)
	if err != nil {
		return err
	}
	h := hub.New(&hub.Options{Broker: broker, History: faultHistory, Presence: []string{">"}, Frame: frame})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	go func() { _ = http.Serve(listener, nodeHandler(h, broker)) }()
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test says so, or ends
	return errors.Join(h.Close(), broker.Close())
}

func frame(_ string, at hub.Position, msg wsd.Message) wsd.Message {
	framed, _ := wsd.JSON(framedText{At: at, Text: string(msg.Data)})
	return framed
}

func nodeHandler(h *hub.Hub, broker *natsbroker.Broker) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		conn, err := wsd.Accept(w, r, nil)
		if err != nil {
			return
		}
		if err := admit(h, conn, r); err != nil {
			_ = conn.Close(wsd.StatusTryAgainLater, "not now")
			return
		}
		for range conn.Messages() {
		}
	})
	mux.HandleFunc("/publish", func(w http.ResponseWriter, r *http.Request) {
		switch err := h.Publish(r.Context(), r.FormValue("topic"), wsd.Text(r.FormValue("text"))); {
		case errors.Is(err, hub.ErrBroker):
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/ready", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if err := broker.Ready(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/presence", func(w http.ResponseWriter, r *http.Request) {
		list, err := h.Presence(r.Context(), r.FormValue("topic"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(list)
	})
	mux.HandleFunc("/stats", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(broker.Stats()) })
	return mux
}

// admit has a connection go on from where it says that it was.
func admit(h *hub.Hub, conn *wsd.Conn, r *http.Request) error {
	member, err := h.Join(conn, r.FormValue("id"))
	if err != nil {
		return err
	}
	topic := r.FormValue("topic")
	seq, err := strconv.ParseUint(r.FormValue("seq"), 10, 64)
	if err != nil {
		return err
	}
	err = member.SubscribeFrom(topic, hub.Position{Epoch: r.FormValue("epoch"), Seq: seq})
	if errors.Is(err, hub.ErrNoHistory) {
		return member.Subscribe(topic)
	}
	var gap *hub.Gap
	if errors.As(err, &gap) {
		told, _ := wsd.JSON(framedText{Gap: true, Text: err.Error()})
		_ = conn.TrySend(told)
		return member.SubscribeFrom(topic, gap.First)
	}
	return err
}

// nodeProcess is a node that runs, or has run.
type nodeProcess struct {
	options nodeOptions
	address string // of its HTTP server
	cmd     *exec.Cmd
	stdin   io.Closer
}

func (n *nodeProcess) start(t *testing.T) {
	t.Helper()
	told, err := json.Marshal(n.options)
	require.NoError(t, err)
	n.cmd = exec.Command(os.Args[0])
	n.cmd.Env = append(os.Environ(), asNode+"="+string(told))
	n.cmd.Stderr = os.Stderr
	n.stdin, err = n.cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := n.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, n.cmd.Start())
	t.Cleanup(n.kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err, "the node's first line")
	n.address = line[:len(line)-1]
}

// kill is kill -9. It may be called again.
func (n *nodeProcess) kill() {
	if n.cmd != nil {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
		n.cmd = nil
	}
}

// stop has the node take leave.
func (n *nodeProcess) stop() {
	if n.cmd != nil {
		_ = n.stdin.Close()
		_ = n.cmd.Wait()
		n.cmd = nil
	}
}

func (n *nodeProcess) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	require.NoError(t, n.cmd.Process.Signal(s))
}
