//go:build linux

package main

// This file opens connections that say one thing and then nothing more, and connections that only shake hands.

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// holdWork is what a process does that holds idle connections.
type holdWork struct {
	Port  int
	Conns int
}

// shares spreads connections over as many processes as the limit of open files asks for.
func shares(conns int, files uint64) []int {
	each := max(1, int(files)-fileMargin)
	n := (conns + each - 1) / each
	list := make([]int, n)
	for i := range list {
		list[i] = (conns + i) / n
	}
	return list
}

// idleMemory is what connections to servers of a role take of these when they have been idle for a while, in bytes. Each
// server has its share of them, and so has a process that holds their other ends.
func idleMemory(r role, conns int, set settings) (total float64, err error) {
	var servers []*process
	for _, share := range shares(conns, set.files) {
		server, err := start(r)
		if err != nil {
			return 0, err
		}
		defer server.stop()
		before, err := server.memory()
		if err != nil {
			return 0, err
		}
		total -= before
		servers = append(servers, server)
		holder := r
		holder.Work, holder.Hold = holdIdle, holdWork{server.port, share}
		client, err := start(holder)
		if err != nil {
			return 0, err
		}
		defer client.stop()
		if _, err := client.out.ReadString('\n'); err != nil {
			return 0, fmt.Errorf("bench: opening %d idle connections to %s: %w", share, r.Library, err)
		}
	}
	time.Sleep(set.idle)
	for _, server := range servers {
		after, err := server.memory()
		if err != nil {
			return 0, err
		}
		total += after
	}
	return total, nil
}

// run opens the connections, says so, and holds them until standard input ends.
func (w holdWork) run(r role) error {
	script, messages, t := binaryScript(64), 1, target{port: w.Port, path: "/"}
	if r.Loop != "" {
		t.path = r.Loop
	}
	if r.Deflate {
		var err error
		if script, err = jsonScript(r.Takeover, r.Window); err != nil {
			return err
		}
		t.offer = offer(r)
		messages = 64 // of 1 KiB, so many that windows of 32 KiB are full
	}
	if r.Library == rawName {
		t.raw, script = true, script.unspoken()
	}
	fds, err := openIdle(t, w.Conns, script, messages)
	if err != nil {
		return err
	}
	defer closeAll(fds)
	fmt.Println("held")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return fmt.Errorf("bench: standard input: %w", err)
	}
	return nil
}

// openIdle opens n connections and has some messages of each given back. Close them with closeAll.
func openIdle(t target, n int, s *script, messages int) (fds []int, err error) {
	if fds, err = t.connectAll(0, n); err != nil {
		return nil, err
	}
	const threads = 4
	errs := make([]error, threads)
	var wg sync.WaitGroup
	for thread := range threads {
		wg.Go(func() {
			for i := thread; i < n && errs[thread] == nil; i += threads {
				errs[thread] = echoAll(fds[i], s, messages)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		closeAll(fds)
		return nil, err
	}
	return fds, nil
}

// echoAll sends messages over a blocking socket, so few that the kernel takes them all, and checks the answers.
func echoAll(fd int, s *script, messages int) error {
	p, h := newPeer(s, messages), newHistogram()
	p.release(messages, clock())
	for b := p.unsent(); len(b) > 0; b = p.unsent() {
		n, err := writeBlocking(fd, b)
		if err != nil {
			return fmt.Errorf("bench: writing: %w", err)
		}
		p.wrote(n)
	}
	buf := make([]byte, 4<<10)
	for p.answers < uint64(messages) {
		n, err := readBlocking(fd, buf)
		if err != nil {
			return fmt.Errorf("bench: reading an answer: %w", err)
		}
		if _, err := p.feed(buf[:n], clock(), h); err != nil {
			return err
		}
	}
	return nil
}

// handshakeLoad opens and closes connections, a few at a time.
type handshakeLoad struct {
	threads  int
	warmup   time.Duration
	duration time.Duration
	cpu      func() time.Duration
}

// run gives a sample that counts handshakes, with the time from connecting to the server's answer.
func (l handshakeLoad) run(t target) (result sample, err error) {
	var stop, measuring atomic.Bool
	var handshakes atomic.Uint64
	errs := make([]error, l.threads)
	hs := make([]*histogram, l.threads)
	var wg sync.WaitGroup
	for thread := range l.threads {
		hs[thread] = newHistogram()
		wg.Go(func() {
			for !stop.Load() {
				began := clock()
				// Each thread has a source address of its own.
				fd, err := t.connect(thread * perSource)
				if err == nil && t.raw {
					err = mirror(fd, t.request())
				}
				if err != nil {
					errs[thread] = err
					return
				}
				if measuring.Load() {
					hs[thread].add(time.Duration(clock()-began), 1)
				}
				unix.Close(fd)
				handshakes.Add(1)
			}
		})
	}
	time.Sleep(l.warmup)
	measuring.Store(true)
	began, done, cpu := clock(), handshakes.Load(), l.cpu()
	time.Sleep(l.duration)
	for handshakes.Load() == done && clock() < began+int64(drainTime) {
		time.Sleep(l.duration)
	}
	result.CPU = l.cpu() - cpu
	result.Elapsed = time.Duration(clock() - began)
	result.Messages = float64(handshakes.Load() - done)
	stop.Store(true)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return sample{}, err
	}
	h := newHistogram()
	for _, other := range hs {
		h.merge(other)
	}
	result.take(h)
	return result, nil
}

// mirror sends bytes to the raw loop and reads them back: the exchange of a handshake without what it means.
func mirror(fd int, b []byte) error {
	if _, err := writeBlocking(fd, b); err != nil {
		return fmt.Errorf("bench: writing: %w", err)
	}
	for got := 0; got < len(b); {
		n, err := readBlocking(fd, b)
		if err != nil {
			return fmt.Errorf("bench: reading: %w", err)
		}
		got += n
	}
	return nil
}
