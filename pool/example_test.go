// example_test.go shows the two ways to use a pool, and its metrics.

package pool_test

import (
	"context"
	"encoding/json"
	"expvar"
	"fmt"
	"net/http/httptest"
	"sort"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/pool"
)

// Request and answer: Do lends a connection for one of each.
func ExamplePool_Do() {
	server := httptest.NewServer(&wsd.Server{Handler: echo})
	defer server.Close()
	p, err := pool.New(server.URL, &pool.Options{MaxConns: 4})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	ctx := context.Background()
	var answer wsd.Message
	err = p.Do(ctx, func(conn *pool.Conn) error {
		if err := conn.Send(ctx, wsd.Text("hello")); err != nil {
			return err
		}
		answer, err = conn.Receive(ctx)
		return err
	})
	fmt.Println(string(answer.Data), err)
	// Output: hello <nil>
}

// Work is fanned out over all connections: each goroutine holds one and takes jobs from a channel.
func ExamplePool_Acquire() {
	server := httptest.NewServer(&wsd.Server{Handler: echo})
	defer server.Close()
	const connections = 3
	p, err := pool.New(server.URL, &pool.Options{MaxConns: connections})
	if err != nil {
		panic(err)
	}
	defer p.Close()

	jobs := make(chan string)
	var mu sync.Mutex
	var done []string
	group, ctx := errgroup.WithContext(context.Background())
	for range connections {
		group.Go(func() error {
			conn, err := p.Acquire(ctx)
			if err != nil {
				return err
			}
			defer conn.Release()
			for job := range jobs {
				if err := conn.Send(ctx, wsd.Text(job)); err != nil {
					return err
				}
				answer, err := conn.Receive(ctx)
				if err != nil {
					return err
				}
				mu.Lock()
				done = append(done, string(answer.Data))
				mu.Unlock()
			}
			return nil
		})
	}
	for i := range 6 {
		select {
		case jobs <- fmt.Sprintf("job %d", i):
		case <-ctx.Done():
		}
	}
	close(jobs)
	err = group.Wait()
	sort.Strings(done)
	fmt.Println(done, err)
	// Output: [job 0 job 1 job 2 job 3 job 4 job 5] <nil>
}

// Stats is plain data: expvar shows it at /debug/vars.
func ExamplePool_Stats() {
	p, err := pool.New("wss://user:secret@example.com/rpc?token=secret", &pool.Options{MaxConns: 4})
	if err != nil {
		panic(err)
	}
	defer p.Close()
	expvar.Publish("rpc pool", expvar.Func(func() any { return p.Stats() }))

	var shown pool.Stats
	if err := json.Unmarshal([]byte(expvar.Get("rpc pool").String()), &shown); err != nil {
		panic(err)
	}
	fmt.Println(shown.MaxConns, shown.InUse, shown.Idle, shown.Endpoints[0].URL)
	// Output: 4 0 0 wss://example.com/rpc
}
