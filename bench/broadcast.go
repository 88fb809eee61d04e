//go:build linux

package main

// This file drives a broadcast: one publisher, many who listen, and some of them slow to read.

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"runtime"
	"slices"
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
	topics      topics
	script      *script
	speaks      *protocol // what subscribers speak, nil for messages as they are
	warmup      time.Duration
	duration    time.Duration
	cpu         func() time.Duration
}

// protocol is one that a library has above WebSocket.
type protocol struct {
	greeting func() ([]byte, error)                               // the payload with which a subscriber begins, which is answered by one message
	piece    func(channel string, message []byte) (uint64, error) // how many bytes of payload a published message takes
}

// greet has subscribers begin.
func (p *protocol) greet(fds []int) error {
	payload, err := p.greeting()
	if err != nil {
		return err
	}
	frame := appendFrame(nil, 0x80|opBinary, payload)
	for _, fd := range fds {
		if _, err := writeBlocking(fd, frame); err != nil {
			return fmt.Errorf("bench: a greeting: %w", err)
		}
		if err := readAnswer(fd); err != nil {
			return err
		}
	}
	return nil
}

// readAnswer reads one binary message of one frame. Nothing else comes before something is published.
func readAnswer(fd int) error {
	header, buf := make([]byte, 4), make([]byte, 4<<10)
	fill := func(b []byte) (err error) {
		for n := 0; len(b) > 0 && err == nil; b = b[n:] {
			n, err = readBlocking(fd, b)
		}
		return err
	}
	if err := fill(header[:2]); err != nil || header[0] != 0x80|opBinary || header[1] > 126 {
		return fmt.Errorf("bench: expected an answer to the greeting, got %q, %v", header[:2], err)
	}
	length := int(header[1])
	if length == 126 {
		if err := fill(header[2:]); err != nil {
			return fmt.Errorf("bench: the answer to the greeting: %w", err)
		}
		length = int(binary.BigEndian.Uint16(header[2:]))
	}
	for n := 0; length > 0; length -= n {
		n = min(length, len(buf))
		if err := fill(buf[:n]); err != nil {
			return fmt.Errorf("bench: the answer to the greeting: %w", err)
		}
	}
	return nil
}

// A slow reader takes so many bytes, so seldom, and its kernel keeps little for it: 20 KB/s, far less than is published.
const (
	slowBytes    = 1 << 10
	slowInterval = 50 * time.Millisecond
	slowReceive  = 4 << 10
)

// joinTime is left between the last handshake and the first message: a server answers a handshake a moment before it has
// put the subscriber on its list. A server whose subscriptions take longer says by /ready when there are no more to come.
const joinTime = 300 * time.Millisecond

// run gives a sample that counts deliveries, with the time from publishing to reading.
func (l broadcastLoad) run(port int) (result sample, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	subscribe := target{port: port, path: "/sub", numbered: true}
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
	var piece uint64
	if l.speaks != nil {
		if piece, err = l.speaks.piece(l.topics.channel(0), l.script.want[0]); err != nil {
			return sample{}, err
		}
		if err := l.speaks.greet(append(slices.Clone(fds), slow...)); err != nil {
			return sample{}, err
		}
	}
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
		peers[i] = &peer{script: l.script, line: publisher.line, piece: piece, stride: uint64(l.topics.groups)}
		peers[i].begin(uint64(i % l.topics.groups))
		if err := poll.add(fd, i); err != nil {
			return sample{}, err
		}
	}
	if err := poll.add(publisherFD, l.subscribers); err != nil {
		return sample{}, err
	}
	time.Sleep(joinTime)
	client := http.Client{Timeout: drainTime}
	if answer, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/ready", port)); err == nil {
		answer.Body.Close() // most servers have no such page
	}

	// missing[m % inflight] is how many have yet to read message m. Where all get the same messages these become complete in
	// order; where not, one that waits for an earlier one is complete with that.
	missing, each := make([]int, l.inflight), l.subscribers/l.topics.groups
	for i := range missing {
		missing[i] = each
	}
	var oldest int // the slot of the oldest message under way
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
				now, m := clock(), p.at
				n, err := p.feed(b, now, h)
				deliveries += uint64(n)
				for ; m < p.at; m += p.stride {
					missing[m%uint64(l.inflight)]--
				}
				for missing[oldest] == 0 {
					missing[oldest] = each
					oldest = (oldest + 1) % l.inflight
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
