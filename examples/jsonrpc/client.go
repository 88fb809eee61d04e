// client.go is a JSON-RPC 2.0 client that comes back: what is called on it concurrently shares one connection, and what is
// subscribed to is subscribed to again on the next.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/seed62836080/wsd"
)

// errLost is matched by the errors of calls whose connection has ended before the answer came. The server may have carried
// them out, so only the caller knows whether to repeat them.
var errLost = errors.New("the connection was lost before the answer came")

// call is what is sent: a request, or a notification if it has no ID.
type call struct {
	Version string `json:"jsonrpc"`
	ID      uint64 `json:"id,omitempty"`
	Method  string `json:"method"`
	Params  any    `json:"params,omitempty"`
}

// incoming is what is received: the answer to a request, or a notification if it has a method.
type incoming struct {
	ID     uint64          `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *rpcError       `json:"error"`
}

// rpcError is an error that the server has answered.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) Error() string { return fmt.Sprintf("%s (%d)", e.Message, e.Code) }

// client is safe for concurrent use.
type client struct {
	notified func(method string, params json.RawMessage) // called by run for each notification, in order

	mu      sync.Mutex
	conn    *wsd.Conn                // nil while there is none
	changed chan struct{}            // closed when conn changes
	last    uint64                   // ID of the last request
	waiting map[uint64]chan incoming // requests on conn without an answer; each channel has room for one
	topics  map[string]struct{}      // what is subscribed to
}

func newClient(notified func(method string, params json.RawMessage)) *client {
	return &client{notified: notified, changed: make(chan struct{}), topics: make(map[string]struct{})}
}

// run keeps the client connected until ctx is done, for which it returns nil, or retrying cannot help.
func (c *client) run(ctx context.Context, url string, opts *wsd.RedialOptions) error {
	running, cancel := context.WithCancel(ctx)
	var subscribing sync.WaitGroup
	defer subscribing.Wait()
	defer cancel()
	var last error
	for conn, err := range wsd.Redial(ctx, url, opts) {
		if last = err; err != nil {
			continue
		}
		for topic := range c.connect(conn) {
			subscribing.Go(func() { c.resubscribe(running, conn, topic) })
		}
		for msg := range conn.Messages() {
			c.receive(msg)
		}
		c.connect(nil)
	}
	if ctx.Err() != nil {
		return nil
	}
	return last
}

// connect makes conn the connection that calls use, and fails those that wait on the one before. It returns the topics.
func (c *client) connect(conn *wsd.Conn) map[string]struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	for _, answer := range c.waiting {
		close(answer)
	}
	c.conn, c.changed, c.waiting = conn, make(chan struct{}), make(map[uint64]chan incoming)
	return maps.Clone(c.topics)
}

// resubscribe subscribes on a new connection. If that ends, too, the next one does it again.
func (c *client) resubscribe(ctx context.Context, conn *wsd.Conn, topic string) {
	err := c.callOn(ctx, conn, "subscribe", topic, nil)
	if err != nil && !errors.Is(err, errLost) && ctx.Err() == nil {
		c.notified("error", json.RawMessage(fmt.Sprintf("%q", topic+": "+err.Error())))
	}
}

func (c *client) receive(msg wsd.Message) {
	var in incoming
	if msg.Decode(&in) != nil {
		return
	}
	if in.Method != "" {
		c.notified(in.Method, in.Params)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if answer, ok := c.waiting[in.ID]; ok {
		delete(c.waiting, in.ID)
		answer <- in
	}
}

// call calls a method, once there is a connection, and waits for the answer, which is decoded into result if that is not
// nil. The error is a *rpcError if the server answered one, and matches errLost if the connection ended first.
func (c *client) call(ctx context.Context, method string, params, result any) error {
	return c.callOn(ctx, nil, method, params, result)
}

// callOn is call on the connection on and no other, if that is not nil.
func (c *client) callOn(ctx context.Context, on *wsd.Conn, method string, params, result any) error {
	conn, id, answer, err := c.place(ctx, on)
	if err != nil {
		return err
	}
	defer c.forget(id, answer)
	msg, err := wsd.JSON(call{"2.0", id, method, params})
	if err != nil {
		return err
	}
	if err := conn.Send(ctx, msg); err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	select {
	case in, ok := <-answer:
		switch {
		case !ok:
			return errLost
		case in.Error != nil:
			return in.Error
		case result != nil:
			return json.Unmarshal(in.Result, result)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// place takes a place among the requests on a connection: on, or the first that there is.
func (c *client) place(ctx context.Context, on *wsd.Conn) (conn *wsd.Conn, id uint64, answer chan incoming, err error) {
	for {
		c.mu.Lock()
		conn, changed := c.conn, c.changed
		if conn != nil && (on == nil || conn == on) {
			defer c.mu.Unlock()
			c.last++
			answer := make(chan incoming, 1)
			c.waiting[c.last] = answer
			return conn, c.last, answer, nil
		}
		c.mu.Unlock()
		if on != nil {
			return nil, 0, nil, errLost
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, 0, nil, ctx.Err()
		}
	}
}

// forget gives up the place of a request whose answer nobody waits for.
func (c *client) forget(id uint64, answer chan incoming) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[id] == answer {
		delete(c.waiting, id)
	}
}

// notify tells the server something, if there is a connection.
func (c *client) notify(ctx context.Context, method string, params any) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return errLost
	}
	msg, err := wsd.JSON(call{Version: "2.0", Method: method, Params: params})
	if err != nil {
		return err
	}
	return conn.Send(ctx, msg)
}

// subscribe subscribes to a topic for as long as the client runs, once on each connection, beginning with the present one
// if there is one: only its error is returned.
func (c *client) subscribe(ctx context.Context, topic string) error {
	c.mu.Lock()
	c.topics[topic] = struct{}{}
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return nil
	}
	err := c.callOn(ctx, conn, "subscribe", topic, nil)
	if errors.Is(err, errLost) {
		return nil // the next connection subscribes
	}
	return err
}
