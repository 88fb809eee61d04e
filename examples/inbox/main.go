// Command inbox is a game for ten thousand players whose server is one goroutine: a loop over the messages of all of them.
//
//	go run ./examples/inbox [-players N] [-join ws://host/path]
//
// It starts itself once more as the players, so that each of the two has enough file descriptors. Ctrl-C ends both.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/seed62836080/wsd"
)

func main() {
	players := flag.Int("players", 10_000, "how many `players` there are")
	join := flag.String("join", "", "be the players of the game at a `URL`, instead of its server")
	flag.Usage = usage
	flag.Parse()
	switch {
	case flag.NArg() > 0:
		refuse("expected no arguments, got %q", flag.Args())
	case *players < 1:
		refuse("-players: expected at least 1, got %d", *players)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for connections to be closed
	err := error(nil)
	if *join != "" {
		err = attend(ctx, *join, *players, time.Second)
	} else {
		err = host(ctx, os.Stdout, *players)
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "inbox:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprint(flag.CommandLine.Output(), `usage: inbox [flags]

Inbox serves a game to players of its own, with one goroutine for all of them, and says every second how it goes. Ctrl-C ends
it.

`)
	flag.PrintDefaults()
}

func refuse(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "inbox: "+format+"; -help says more\n", args...)
	os.Exit(2)
}

// host serves the game, and starts its players in another process.
func host(ctx context.Context, out io.Writer, players int) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	game := newGame()
	server := &http.Server{Handler: game.server, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	defer func() {
		limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = errors.Join(server.Shutdown(limit), game.server.Shutdown(limit))
	}()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	others := exec.CommandContext(ctx, self, "-join", "ws://"+listener.Addr().String(), "-players", strconv.Itoa(players))
	others.Stderr = os.Stderr
	others.Cancel = func() error { return others.Process.Signal(os.Interrupt) }
	if err := others.Start(); err != nil {
		return err
	}
	playing, over := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { game.run(playing, out, time.Second) })
	err = others.Wait()
	over()
	all.Wait()
	return err
}

// game is what its one goroutine knows. It needs no lock.
type game struct {
	inbox           *wsd.Inbox
	server          *wsd.Server
	players, points int
}

// player is the Value of a connection.
type player struct{ points int }

func newGame() *game {
	g := &game{inbox: wsd.NewInbox(64)}
	g.server = &wsd.Server{AcceptOptions: wsd.AcceptOptions{Config: wsd.Config{
		Inbox: g.inbox,
		Trace: &wsd.Trace{Opened: func(c *wsd.Conn, _ wsd.OpenedInfo) { c.SetValue(new(player)) }},
	}}}
	return g
}

// run plays until ctx is done, and says in every interval how it goes.
func (g *game) run(ctx context.Context, out io.Writer, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case delivery := <-g.inbox.C():
			g.handle(delivery)
		case <-ticker.C:
			fmt.Fprintf(out, "%d players, %d points\n", g.players, g.points)
		case <-ctx.Done():
			return
		}
	}
}

// handle gives a point for each message, and tells the player.
func (g *game) handle(d wsd.Delivery) {
	p := d.Conn.Value().(*player)
	if d.Ended {
		if p.points > 0 {
			g.players--
		}
		return
	}
	d.Message.Release()
	if p.points++; p.points == 1 {
		g.players++
	}
	g.points++
	// Not Send: one player that does not read would hold up all others.
	if err := d.Conn.TrySend(wsd.Text(strconv.Itoa(p.points))); errors.Is(err, wsd.ErrQueueFull) {
		_ = d.Conn.StartClose(wsd.StatusTryAgainLater, "too slow")
	}
}

// attend is all players at once: each sends a message in every interval, and is told its points.
func attend(ctx context.Context, url string, players int, every time.Duration) error {
	inbox := wsd.NewInbox(64)
	conns, err := dial(ctx, url, players, &wsd.DialOptions{Config: wsd.Config{Inbox: inbox}})
	defer func() {
		for _, conn := range conns {
			_ = conn.StartClose(wsd.StatusGoingAway, "")
		}
		for _, conn := range conns {
			<-conn.Closed()
		}
	}()
	if err != nil {
		return err
	}
	const turns = 20 // not all at the same moment
	ticker := time.NewTicker(max(every/turns, time.Millisecond))
	defer ticker.Stop()
	for turn := 0; ; {
		select {
		case delivery := <-inbox.C():
			if delivery.Ended {
				return fmt.Errorf("a player is out: %w", delivery.Conn.CloseEvent().Err)
			}
			delivery.Message.Release()
		case <-ticker.C:
			for i := turn; i < len(conns); i += turns {
				_ = conns[i].TrySend(wsd.Text("a point for me"))
			}
			turn = (turn + 1) % turns
		case <-ctx.Done():
			return nil
		}
	}
}

// dial opens connections, some at a time. It returns also those that it has opened before one failed.
func dial(ctx context.Context, url string, n int, opts *wsd.DialOptions) ([]*wsd.Conn, error) {
	var (
		mu     sync.Mutex // guards the next two
		conns  = make([]*wsd.Conn, 0, n)
		failed error
	)
	tickets := make(chan struct{})
	var dialing sync.WaitGroup
	for range min(n, 64) {
		dialing.Go(func() {
			for range tickets {
				conn, _, err := wsd.Dial(ctx, url, opts)
				mu.Lock()
				if err != nil {
					failed = err
				} else {
					conns = append(conns, conn)
				}
				mu.Unlock()
			}
		})
	}
	for range n {
		tickets <- struct{}{}
	}
	close(tickets)
	dialing.Wait()
	return conns, failed
}
