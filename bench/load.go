//go:build linux

package main

// This file drives the connections of a load: one thread with epoll, or a goroutine for each where TLS is spoken.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// load is an echo load: connections that each keep a number of messages under way.
type load struct {
	conns    int
	inflight int
	script   *script
	warmup   time.Duration
	duration time.Duration
	cpu      func() time.Duration // the server's, so far
}

// sample is what one measurement gave.
type sample struct {
	Messages       float64       // round trips
	Elapsed        time.Duration // the time they took
	CPU            time.Duration // user and system time of the measured process
	P50, P99, P999 time.Duration // round trips, from when a message is released to when its answer has been read
}

func (s *sample) take(h *histogram) {
	s.P50, s.P99, s.P999 = h.quantile(0.5), h.quantile(0.99), h.quantile(0.999)
}

// rate is round trips a second.
func (s sample) rate() float64 { return s.Messages / s.Elapsed.Seconds() }

// cpuEach is CPU time a round trip, in microseconds.
func (s sample) cpuEach() float64 { return float64(s.CPU.Nanoseconds()) / 1e3 / s.Messages }

// drainTime bounds the wait for answers that are still under way when a measurement ends.
const drainTime = 20 * time.Second

// poller is an epoll instance and a buffer that all its connections read into.
type poller struct {
	fd     int
	events []unix.EpollEvent
	buf    []byte
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("bench: epoll: %w", err)
	}
	return &poller{fd: fd, events: make([]unix.EpollEvent, 256), buf: make([]byte, 256<<10)}, nil
}

func (p *poller) close() { unix.Close(p.fd) }

// add watches a socket for reading and writing. Events tell edges and carry the index.
func (p *poller) add(fd, index int) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("bench: a socket's mode: %w", err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff, Fd: int32(index)}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("bench: epoll: %w", err)
	}
	return nil
}

// wait gives the events that have come, none where there are none for so long.
func (p *poller) wait(timeout time.Duration) ([]unix.EpollEvent, error) {
	n, err := unix.EpollWait(p.fd, p.events, int(timeout.Milliseconds()))
	if err != nil && err != unix.EINTR {
		return nil, fmt.Errorf("bench: epoll: %w", err)
	}
	return p.events[:max(n, 0)], nil
}

// drain reads what a socket holds and hands it on, piece by piece.
func (p *poller) drain(fd int, piece func([]byte) error) error {
	for {
		n, err := unix.Read(fd, p.buf)
		switch {
		case err == unix.EAGAIN:
			return nil
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("bench: reading: %w", err)
		case n == 0:
			return errors.New("bench: expected an answer, the server closed the connection")
		}
		if err := piece(p.buf[:n]); err != nil {
			return err
		}
		if n < len(p.buf) {
			return nil // the next byte to come makes an edge of its own
		}
	}
}

// flush writes what a peer has released, as much as the socket takes.
func flush(fd int, p *peer) error {
	for b := p.unsent(); len(b) > 0; b = p.unsent() {
		n, err := writeSome(fd, b)
		if err != nil {
			return err
		}
		if p.wrote(n); n < len(b) {
			return nil
		}
	}
	return nil
}

// run measures the load over plain TCP. One thread does all of it, so that it takes one core at most from the server.
func (l load) run(t target) (result sample, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fds, err := t.connectAll(0, l.conns)
	if err != nil {
		return sample{}, err
	}
	defer closeAll(fds)
	poll, err := newPoller()
	if err != nil {
		return sample{}, err
	}
	defer poll.close()
	peers := make([]*peer, l.conns)
	for i, fd := range fds {
		peers[i] = newPeer(l.script, l.inflight)
		if err := poll.add(fd, i); err != nil {
			return sample{}, err
		}
	}
	progress := func() (sum float64) {
		for _, p := range peers {
			sum += p.progress()
		}
		return sum
	}

	h := newHistogram()
	for i, p := range peers {
		p.release(l.inflight, clock())
		if err := flush(fds[i], p); err != nil {
			return sample{}, err
		}
	}
	const (
		warming = iota
		measuring
		draining
	)
	phase, deadline := warming, clock()+int64(l.warmup)
	var began int64
	var done float64
	var cpu time.Duration
	pending := l.conns * l.inflight
	for phase != draining || pending > 0 {
		events, err := poll.wait(20 * time.Millisecond)
		if err != nil {
			return sample{}, err
		}
		now := clock()
		// A measurement goes on until it has seen something, however large the messages or busy the machine.
		if now >= deadline && (phase != measuring || h.n > 0 || now >= deadline+int64(drainTime)) {
			switch phase {
			case warming:
				phase, began, deadline = measuring, now, now+int64(l.duration)
				done, cpu = progress(), l.cpu()
				h.reset()
			case measuring:
				phase, deadline = draining, now+int64(drainTime)
				result.CPU = l.cpu() - cpu
				result.Elapsed = time.Duration(now - began)
				result.Messages = progress() - done
				result.take(h)
			case draining:
				return sample{}, fmt.Errorf("bench: %d answers are missing after %v", pending, drainTime)
			}
		}
		for _, event := range events {
			fd, p := fds[event.Fd], peers[event.Fd]
			if event.Events&^unix.EPOLLOUT != 0 {
				err := poll.drain(fd, func(b []byte) error {
					now := clock()
					n, err := p.feed(b, now, h)
					if phase == draining {
						pending -= n
					} else {
						p.release(n, now)
					}
					return err
				})
				if err != nil {
					return sample{}, err
				}
			}
			if err := flush(fd, p); err != nil {
				return sample{}, err
			}
		}
	}
	return result, nil
}

// runTLS measures the load over TLS 1.3, with a goroutine for each connection.
func (l load) runTLS(t target) (result sample, err error) {
	type secured struct {
		net.Conn
		peer *peer
		h    *histogram
	}
	conns := make([]*secured, 0, l.conns)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range l.conns {
		// The certificate is made for one run and seen by nobody else; checking it isn't what is measured.
		c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", t.port), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return sample{}, fmt.Errorf("bench: connecting over TLS: %w", err)
		}
		conns = append(conns, &secured{c, newPeer(l.script, l.inflight), newHistogram()})
		if t.raw {
			continue
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write(t.request()); err != nil {
			return sample{}, fmt.Errorf("bench: sending the handshake: %w", err)
		}
		if err := t.checkResponse(c.Read); err != nil {
			return sample{}, err
		}
		// Answers that don't come shall not be waited for without end.
		c.SetDeadline(time.Now().Add(l.warmup + 2*l.duration + 2*drainTime))
	}

	var stop, measuring atomic.Bool
	var messages atomic.Uint64
	var wg sync.WaitGroup
	errs := make([]error, len(conns))
	for i, c := range conns {
		wg.Go(func() {
			p, buf, counted := c.peer, make([]byte, 32<<10), false
			p.release(l.inflight, clock())
			for {
				for b := p.unsent(); len(b) > 0; b = p.unsent() {
					n, err := c.Write(b)
					if p.wrote(n); err != nil {
						errs[i] = fmt.Errorf("bench: writing: %w", err)
						return
					}
				}
				if p.answers == p.line.n {
					return
				}
				n, err := c.Read(buf)
				if err != nil {
					if stop.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
						err = fmt.Errorf("%d answers are missing: %w", p.line.n-p.answers, err)
					}
					errs[i] = fmt.Errorf("bench: reading: %w", err)
					return
				}
				if !counted && measuring.Load() {
					c.h.reset()
					counted = true
				}
				now := clock()
				answers, err := p.feed(buf[:n], now, c.h)
				if err != nil {
					errs[i] = err
					return
				}
				messages.Add(uint64(answers))
				if !stop.Load() {
					p.release(answers, now)
				}
			}
		})
	}

	ended, cancel := context.WithCancel(context.Background())
	go func() {
		wg.Wait()
		cancel()
	}()
	pause := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ended.Done(): // something went wrong
		}
	}
	pause(l.warmup)
	measuring.Store(true)
	began, done, cpu := clock(), messages.Load(), l.cpu()
	pause(l.duration)
	for messages.Load() == done && ended.Err() == nil && clock() < began+int64(drainTime) {
		pause(l.duration)
	}
	result.CPU = l.cpu() - cpu
	result.Elapsed = time.Duration(clock() - began)
	result.Messages = float64(messages.Load() - done)
	stop.Store(true)
	for _, c := range conns {
		c.SetReadDeadline(time.Now().Add(drainTime))
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return sample{}, err
	}
	h := newHistogram()
	for _, c := range conns {
		h.merge(c.h)
	}
	result.take(h)
	return result, nil
}
