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
	return cases
}
