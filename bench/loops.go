//go:build linux

package main

// This file is the ways to write an echo with wsd, each at a path of its server's, and the cases that compare them.

import (
	"context"
	"errors"

	"github.com/seed62836080/wsd"
)

// loopPaths are the ways to write an echo, each at a path.
var loopPaths = []struct {
	name, path string
	echo       func(*wsd.Conn)
}{
	{"range without Release", "/range", func(conn *wsd.Conn) {
		for message := range conn.Messages() {
			if conn.Send(context.Background(), message) != nil {
				return
			}
		}
	}},
	{"range with Release", "/release", func(conn *wsd.Conn) {
		for message := range conn.Messages() {
			if conn.Send(context.Background(), message) != nil {
				return
			}
			message.Release()
		}
	}},
	{"Each", "/each", func(conn *wsd.Conn) {
		for message, err := range conn.Each(context.Background()) {
			if err != nil || conn.Send(context.Background(), message) != nil {
				return
			}
		}
	}},
	{"Each and TrySend", "/try", func(conn *wsd.Conn) {
		for message, err := range conn.Each(context.Background()) {
			if err == nil {
				err = conn.TrySend(message)
			}
			if errors.Is(err, wsd.ErrQueueFull) {
				err = conn.Send(context.Background(), message)
			}
			if err != nil {
				return
			}
		}
	}},
}

// inboxPath is the path of an echo that is one loop over the messages of all connections.
const inboxPath = "/inbox"

// serveInbox serves that echo. Its connections need no handler.
func serveInbox(options wsd.AcceptOptions) *wsd.Server {
	inbox := wsd.NewInbox(64 * 64) // what is under way in the fullest row
	options.Inbox = inbox
	go func() {
		for delivery := range inbox.C() {
			if !delivery.Ended && delivery.Conn.Send(context.Background(), delivery.Message) == nil {
				delivery.Message.Release()
			}
		}
	}()
	return &wsd.Server{AcceptOptions: options}
}

// loopCase measures an echo that is written in another way, at a path of its own. Only wsd has several.
func loopCase(quick bool, name, path string, conns, inflight, size int) benchCase {
	r := role{Work: serveEcho, Loop: path}
	return benchCase{name: name, quick: quick, role: r,
		run: func(lib library, set settings) (result reading, err error) {
			err = withServer(lib.name, r, func(server *process) error {
				l := load{conns, inflight, binaryScript(size), set.warmup, set.duration, server.cpu}
				s, err := l.run(target{port: server.port, path: path})
				result = s.read(size)
				return err
			})
			return result, err
		}}
}

// loopCases are the ways to write an echo in wsd.
func loopCases() (cases []benchCase) {
	for _, load := range []struct {
		name                  string
		conns, inflight, size int
	}{{burstCase, 64, 16, 1 << 10}, {large64KCase, 4, 1, 64 << 10}} {
		for _, way := range loopPaths {
			cases = append(cases, loopCase(false, load.name+", "+way.name, way.path, load.conns, load.inflight, load.size))
		}
	}
	const oneLoop = "one loop over an Inbox"
	return append(cases,
		loopCase(false, pipelinedCase+", range with Release", "/release", 64, 64, 64),
		loopCase(true, pipelinedCase+", "+oneLoop, inboxPath, 64, 64, 64),
		loopCase(false, singleCase+", "+oneLoop, inboxPath, 64, 1, 64),
		loopCase(false, burstCase+", "+oneLoop, inboxPath, 64, 16, 1<<10))
}
