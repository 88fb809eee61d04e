//go:build linux

package main

// This file drives a broadcast: one publisher, many who listen, and some of them slow to read.

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// broadcastLoad is a publisher that keeps a number of messages under way: published and not yet read by every subscriber
// who isn't slow.
type broadcastLoad struct {
	subscribers int // the slow ones are more
	slow        int
	deaf        bool // the slow ones read nothing
	inflight    int
	script      *script
	warmup      time.Duration
	duration    time.Duration
	cpu         func() time.Duration
}

// A slow reader takes so many bytes, so seldom, and its kernel keeps little for it: 20 KB/s, far less than is published.
const (
	slowBytes    = 1 << 10
	slowInterval = 50 * time.Millisecond
	slowReceive  = 4 << 10
)

// joinTime is left between the last handshake and the first message: a server answers a handshake a moment before it has
// put the subscriber on its list.
const joinTime = 300 * time.Millisecond

// run gives a sample that counts deliveries, with the time from publishing to reading.
func (l broadcastLoad) run(port int) (result sample, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	subscribe := target{port: port, path: "/sub"}
	fds, err := subscribe.connectAll(0, l.subscribers)
	if err != nil {
		return sample{}, err
	}
	defer closeAll(fds)
	subscribe.receive = slowReceive
	slow, err := subscribe.connectAll(l.subscribers, l.slow)
	if err != nil {
		return sample{}, err
	}
	defer closeAll(slow)
	for _, fd := range slow {
		if err := unix.SetNonblock(fd, true); err != nil {
			return sample{}, fmt.Errorf("bench: a socket's mode: %w", err)
		}
	}
	publisherFD, err := target{port: port, path: "/pub"}.connect(l.subscribers + l.slow)
	if err != nil {
		return sample{}, err
	}
	defer unix.Close(publisherFD)

	poll, err := newPoller()
	if err != nil {
		return sample{}, err
	}
	defer poll.close()
	publisher := newPeer(l.script, l.inflight)
	peers := make([]*peer, l.subscribers)
	for i, fd := range fds {
		peers[i] = &peer{script: l.script, line: publisher.line}
		if err := poll.add(fd, i); err != nil {
			return sample{}, err
		}
	}
	if err := poll.add(publisherFD, l.subscribers); err != nil {
		return sample{}, err
	}
	time.Sleep(joinTime)

	// missing[m % inflight] is how many have yet to read message m. Everyone reads in order, so that messages become
	// complete in order as well.
	missing := make([]int, l.inflight)
	for i := range missing {
		missing[i] = l.subscribers
	}
	h := newHistogram()
	var deliveries uint64
	const (
		warming = iota
		measuring
		draining
	)
	phase, start := warming, clock()
	deadline, slowAt := start+int64(l.warmup), start
	var began int64
	var done uint64
	var cpu time.Duration
	underway := l.inflight
	publisher.release(l.inflight, start)
	if err := flush(publisherFD, publisher); err != nil {
		return sample{}, err
	}
	for phase != draining || underway > 0 {
		events, err := poll.wait(10 * time.Millisecond)
		if err != nil {
			return sample{}, err
		}
		now := clock()
		if now >= slowAt && !l.deaf {
			slowAt = now + int64(slowInterval)
			for _, fd := range slow {
				// Whatever comes of it is right: some servers send slow readers away.
				unix.Read(fd, poll.buf[:slowBytes])
			}
		}
		if now >= deadline && (phase != measuring || h.n > 0 || now >= deadline+int64(drainTime)) {
			switch phase {
			case warming:
				phase, began, deadline = measuring, now, now+int64(l.duration)
				done, cpu = deliveries, l.cpu()
				h.reset()
			case measuring:
				phase, deadline = draining, now+int64(drainTime)
				result.CPU = l.cpu() - cpu
				result.Elapsed = time.Duration(now - began)
				result.Messages = float64(deliveries - done)
				result.take(h)
			case draining:
				return sample{}, fmt.Errorf("bench: %d broadcasts are incomplete after %v", underway, drainTime)
			}
		}
		for _, event := range events {
			i := int(event.Fd)
			if i == l.subscribers {
				continue // the publisher is told nothing; its writing goes on below
			}
			if event.Events&^unix.EPOLLOUT == 0 {
				continue
			}
			p := peers[i]
			err := poll.drain(fds[i], func(b []byte) error {
				now, first := clock(), p.answers
				n, err := p.feed(b, now, h)
				deliveries += uint64(n)
				for m := first; m < first+uint64(n); m++ {
					slot := m % uint64(l.inflight)
					if missing[slot]--; missing[slot] > 0 {
						continue
					}
					missing[slot] = l.subscribers
					if phase == draining {
						underway--
					} else {
						publisher.release(1, now)
					}
				}
				return err
			})
			if err != nil {
				return sample{}, err
			}
		}
		if err := flush(publisherFD, publisher); err != nil {
			return sample{}, err
		}
	}
	return result, nil
}
