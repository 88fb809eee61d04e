//go:build linux

package main

// This file is the measured process of the client workload: one library's clients against the raw echo server.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// clientWork is what a client process does.
type clientWork struct {
	Port     int
	Conns    int
	Inflight int
	Size     int // of a message, in bytes
	Warmup   time.Duration
	Duration time.Duration
}

// echoWork is one connection's part of it: which messages to send, and what becomes of the answers. The sending and the
// receiving side may be different goroutines, each of them one.
type echoWork struct {
	script   *script
	inflight int
	stop     *atomic.Bool
	measured *atomic.Bool // the warm-up is over
	messages *atomic.Uint64

	sent   uint64
	at     int // the script's message to send next
	sentAt []int64

	answers atomic.Uint64
	expect  int // the script's message that the next answer belongs to
	limit   atomic.Uint64
	h       *histogram
	warm    bool   // h has forgotten the warm-up
	timed   uint64 // one answer of so many has its round trip taken
}

// send gives the message to send next. It is the script's: read it alone.
func (w *echoWork) send() []byte {
	if w.sent%w.timed == 0 {
		w.sentAt[w.sent%uint64(len(w.sentAt))] = clock()
	}
	w.sent++
	w.limit.Store(w.sent)
	message := w.script.want[w.at]
	w.at = w.script.after(w.at)
	return message
}

// expected is what the next answer must hold.
func (w *echoWork) expected() []byte { return w.script.want[w.expect] }

// received counts and checks an answer, and says whether to send another message for it.
func (w *echoWork) received(answer []byte) (more bool, err error) {
	n := w.answers.Load()
	want := w.expected()
	if len(answer) != len(want) || n%sampleEvery == 0 && !bytes.Equal(answer, want) {
		return false, fmt.Errorf("bench: answer %d, of %d bytes, differs from what was sent, %d bytes", n, len(answer), len(want))
	}
	if n%w.timed == 0 {
		if !w.warm && w.measured.Load() {
			w.h.reset()
			w.warm = true
		}
		w.h.add(time.Duration(clock()-w.sentAt[n%uint64(len(w.sentAt))]), 1)
	}
	w.expect = w.script.after(w.expect)
	w.answers.Store(n + 1)
	w.messages.Add(1)
	return !w.stop.Load(), nil
}

// done tells whether every message has been answered. The sender asks when it isn't about to send more.
func (w *echoWork) done() bool { return w.answers.Load() == w.limit.Load() }

// run connects, measures and closes.
func (c clientWork) run(lib library) (result sample, err error) {
	if lib.dial == nil {
		return sample{}, fmt.Errorf("bench: %s is not measured as a client", lib.name)
	}
	script := binaryScript(c.Size)
	// Reading the clock for every message of many under way would cost the quick ones more than the slow ones.
	timed := uint64(min(c.Inflight, 16))
	var stop, measured atomic.Bool
	works := make([]*echoWork, c.Conns)
	counters := make([]paddedCounter, c.Conns)
	clients := make([]echoClient, c.Conns)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i := range works {
		if clients[i], err = lib.dial(ctx, fmt.Sprintf("ws://127.0.0.1:%d/", c.Port)); err != nil {
			return sample{}, fmt.Errorf("bench: dialling with %s: %w", lib.name, err)
		}
		works[i] = &echoWork{
			script: script, inflight: c.Inflight, stop: &stop, measured: &measured, messages: &counters[i].n,
			sentAt: make([]int64, c.Inflight), h: newHistogram(), timed: timed,
		}
	}
	messages := func() (sum uint64) {
		for i := range counters {
			sum += counters[i].n.Load()
		}
		return sum
	}

	errs := make([]error, c.Conns)
	var wg sync.WaitGroup
	for i, w := range works {
		wg.Go(func() { errs[i] = clients[i].echo(w) })
	}
	ended := make(chan struct{})
	go func() {
		wg.Wait()
		close(ended)
	}()
	pause := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-ended:
			return errors.Join(append(errs, errors.New("bench: a client ended before its time"))...)
		}
	}
	if err := pause(c.Warmup); err != nil {
		return sample{}, err
	}
	measured.Store(true)
	began, done, cpu := clock(), messages(), ownCPU()
	if err := pause(c.Duration); err != nil {
		return sample{}, err
	}
	// So many that one at least has been timed.
	for messages() < done+2*timed*uint64(c.Conns) && clock() < began+int64(drainTime) {
		if err := pause(c.Duration); err != nil {
			return sample{}, err
		}
	}
	result.CPU = ownCPU() - cpu
	result.Elapsed = time.Duration(clock() - began)
	result.Messages = float64(messages() - done)
	stop.Store(true)
	select {
	case <-ended:
	case <-time.After(drainTime):
		return sample{}, fmt.Errorf("bench: answers are missing after %v", drainTime)
	}
	if err := errors.Join(errs...); err != nil {
		return sample{}, err
	}
	h := newHistogram()
	for _, w := range works {
		h.merge(w.h)
	}
	result.take(h)
	for _, client := range clients {
		client.close()
	}
	return result, nil
}

// paddedCounter is a counter that shares its cache line with no other.
type paddedCounter struct {
	n atomic.Uint64
	_ [56]byte
}

// ownCPU is the user and system time that this process has taken.
func ownCPU() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		panic(fmt.Sprintf("bench: this process's CPU clock: %v", err)) // every Linux has it
	}
	return time.Duration(ts.Nano())
}
