// Cluster is a chat over several nodes, each a process with a page of its own: what is said on one is read on all. A button
// kills a node, whose pages then go on at another and miss nothing. It is the example for package hub with a broker,
// natsbroker.Embedded, which needs nothing to be installed.
//
//	go run ./examples/cluster [-nodes 3] [-again 10s]
//
// Once all nodes run, each line on standard output is the URL of a node's page. A node that was killed starts again after a
// while.
package main

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
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// asNode is the environment variable that has this program be a node. It has the node's settings in JSON.
const asNode = "WSD_CLUSTER_NODE"

// settings are what a node is told.
type settings struct {
	Number int      // from 1 on
	Pages  []string // the addresses of all nodes' HTTP servers
	Routes []string // those on which their servers of NATS wait for each other
	Secret string   // what they show each other
	Dir    string   // where history is kept
}

func main() {
	if told := os.Getenv(asNode); told != "" {
		if err := beNode(told); err != nil {
			fmt.Fprintln(os.Stderr, "cluster: node:", err)
			os.Exit(1)
		}
		return
	}
	nodes := flag.Int("nodes", 3, "`number` of nodes; three are the least of which one can be lost without losing what was said")
	again := flag.Duration("again", 10*time.Second, "`time` after which a node starts again that was killed")
	flag.Usage = usage
	flag.Parse()
	switch {
	case flag.NArg() > 0:
		refuse(fmt.Sprintf("expected no arguments, got %q", flag.Args()))
	case *nodes < 1 || *nodes > 9:
		refuse(fmt.Sprintf("expected -nodes from 1 to 9, got %d", *nodes))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for the nodes
	if err := run(ctx, os.Stdout, *nodes, *again); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func refuse(problem string) {
	fmt.Fprintf(os.Stderr, "cluster: %s; -help says more\n", problem)
	os.Exit(2)
}

func usage() {
	fmt.Fprint(flag.CommandLine.Output(), `usage: cluster [flags]

Cluster is a chat over several nodes, each a process of its own. It prints the URL of each node's page: open two beside each
other, and kill a node. Ctrl-C ends them all.

`)
	flag.PrintDefaults()
}

// run has nodes run until ctx is done.
func run(ctx context.Context, stdout io.Writer, n int, again time.Duration) error {
	all, err := plan(n)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(filepath.Dir(all[0].Dir)) }()
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	started := make(chan struct{}, n)
	for _, s := range all {
		running.Go(func() {
			if err := keep(ctx, s, again, started); err != nil {
				stop(err)
			}
		})
	}
	for range all {
		select {
		case <-started:
		case <-ctx.Done():
			return ended(ctx)
		}
	}
	for _, address := range all[0].Pages {
		if _, err := fmt.Fprintf(stdout, "http://%s/\n", address); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ended(ctx)
}

// ended returns why ctx is done, nil if that is as it should be.
func ended(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// plan finds addresses for nodes, which each keeps when it starts again, and directories.
func plan(n int) ([]settings, error) {
	dir, err := os.MkdirTemp("", "wsd-cluster-")
	if err != nil {
		return nil, err
	}
	var addresses []string
	for range 2 * n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	all := make([]settings, n)
	for i := range all {
		all[i] = settings{i + 1, addresses[:n], addresses[n:], newSecret, filepath.Join(dir, strconv.Itoa(i+1))}
	}
	return all, nil
}

// keep has a node run, and starts it again when it has been killed.
func keep(ctx context.Context, s settings, again time.Duration, started chan<- struct{}) error {
	for {
		err := runNode(ctx, s, started)
		if ctx.Err() != nil {
			return nil
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Exited() {
			return fmt.Errorf("node %d: %w", s.Number, err)
		}
		slog.Info("a node was killed", "node", s.Number, "starts again in", again)
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return nil
		}
	}
}

// runNode runs a node to its end. It says so when the node has started.
func runNode(ctx context.Context, s settings, started chan<- struct{}) error {
	told, err := json.Marshal(s)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), asNode+"="+string(told))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe() // the node ends when it is closed, or when this process ends
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = stdin.Close() })
	defer stop()
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err == nil {
		select {
		case started <- struct{}{}:
		default: // again
		}
	}
	return cmd.Wait()
}
