//go:build linux

package main

// This file measures what one connection that sends all it can costs the others, and what Config.ReceiveRate saves them.

import (
	"errors"
	"fmt"
	"time"
)

// floodPace is the ReceiveRate, in messages a second, of the servers that have one: more than an honest connection sends.
const floodPace = 10_000

// floodCase measures the echo of 64 connections with one message in flight each, beside one that always has 1,024 under way.
// That one is not counted, though its CPU time is the server's too.
func floodCase(quick bool, name string, flooders, pace int) benchCase {
	r := role{Work: serveEcho, Pace: pace}
	return benchCase{name: name, quick: quick, role: r,
		run: func(lib library, set settings) (result reading, err error) {
			err = withServer(lib.name, r, func(server *process) error {
				t, script := target{port: server.port, path: "/"}, binaryScript(64)
				if lib.name == rawName {
					t.raw, script = true, script.unspoken()
				}
				honest := load{64, 1, script, set.warmup, set.duration, server.cpu}
				if flooders == 0 {
					s, err := honest.run(t)
					result = s.read(64)
					return err
				}
				flood := load{flooders, 1024, script, 0, set.warmup + set.duration + time.Second/4, server.cpu}
				flooded := make(chan error, 1)
				go func() {
					_, err := flood.run(t)
					flooded <- err
				}()
				s, err := honest.run(t)
				result = s.read(64)
				if err = errors.Join(err, <-flooded); err != nil {
					return fmt.Errorf("bench: beside a flood: %w", err)
				}
				return nil
			})
			return result, err
		}}
}
