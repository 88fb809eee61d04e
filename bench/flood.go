//go:build linux

package main

// This file measures what one connection that sends all it can costs the others, and what Config.ReceiveRate saves them.

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

// floodPace is the ReceiveRate, in messages a second, of the servers that have one: more than an honest connection sends.
const floodPace = 10_000

// besideOthers is what one more connection does beside those that are measured. It is not counted, though its CPU time is the
// server's too.
type besideOthers func(l load, t target) error

// flooding has 1,024 messages under way all the time.
func flooding(l load, t target) error {
	l.conns, l.inflight = 1, 1024
	_, err := l.run(t)
	return err
}

// keepingPace sends as much as floodPace permits, in bursts of a millisecond, and so shows what a peer costs that the server
// serves as much as one that floods.
func keepingPace(l load, t target) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const burst, room = floodPace / 1000, 1024
	fds, err := t.connectAll(0, 1)
	if err != nil {
		return err
	}
	defer closeAll(fds)
	poll, err := newPoller()
	if err != nil {
		return err
	}
	defer poll.close()
	if err := poll.add(fds[0], 0); err != nil {
		return err
	}
	p, h := newPeer(l.script, room), newHistogram()
	begun := clock()
	end := begun + int64(l.duration)
	for next := begun; ; {
		now := clock()
		switch ahead := p.line.n - p.answers; {
		case now >= end && ahead == 0:
			if least := uint64(l.duration.Seconds() * floodPace * 0.8); p.answers < least {
				return fmt.Errorf("bench: expected %d answers at the rate, got %d", least, p.answers)
			}
			return nil
		case now >= end+int64(drainTime):
			return fmt.Errorf("bench: %d answers are missing after %v", ahead, drainTime)
		case now < end && now >= next && ahead+burst <= room:
			p.release(burst, now)
			next += int64(time.Millisecond)
		}
		if err := flush(fds[0], p); err != nil {
			return err
		}
		if _, err := poll.wait(time.Millisecond); err != nil {
			return err
		}
		err := poll.drain(fds[0], func(b []byte) error {
			_, err := p.feed(b, clock(), h)
			return err
		})
		if err != nil {
			return err
		}
	}
}

// floodCase measures the echo of 64 connections with one message in flight each, beside one more, if that is not nil.
func floodCase(quick bool, name string, beside besideOthers, pace int) benchCase {
	r := role{Work: serveEcho, Pace: pace}
	return benchCase{name: name, quick: quick, role: r,
		run: func(lib library, set settings) (result reading, err error) {
			err = withServer(lib.name, r, func(server *process) error {
				t, script := target{port: server.port, path: "/"}, binaryScript(64)
				if lib.name == rawName {
					t.raw, script = true, script.unspoken()
				}
				honest := load{64, 1, script, set.warmup, set.duration, server.cpu}
				if beside == nil {
					s, err := honest.run(t)
					result = s.read(64)
					return err
				}
				other := load{0, 0, script, 0, set.warmup + set.duration + time.Second/4, server.cpu}
				ended := make(chan error, 1)
				go func() { ended <- beside(other, t) }()
				s, err := honest.run(t)
				result = s.read(64)
				if err = errors.Join(err, <-ended); err != nil {
					return fmt.Errorf("bench: beside one more: %w", err)
				}
				return nil
			})
			return result, err
		}}
}
