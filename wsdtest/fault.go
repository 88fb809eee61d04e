// fault.go is a transport that fails on purpose and repeatably: delays, short reads and writes, cuts at any byte, resets,
// stalls, a dead direction.

package wsdtest

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Faults says what goes wrong with a transport. The zero value is a transport with nothing wrong.
type Faults struct {
	// Seed determines everything that is random. With the same seed, the same calls meet the same faults. The two
	// directions do not influence each other.
	Seed uint64
	// MaxRead and MaxWrite bound the bytes that one Read returns, and those given to one Write of the transport below:
	// each time a number from one to the bound is drawn. Zero leaves reads and writes whole.
	MaxRead, MaxWrite int
	// Delay bounds the time that a Read or a Write waits before it begins; a time up to that is drawn for each call. If
	// DelayOneIn is more than one, only one of that many calls is delayed.
	Delay      time.Duration
	DelayOneIn int
	// Read and Write each break one direction, once.
	Read, Write Break
}

// Break is what happens to one direction of a transport at one place in its bytes.
type Break struct {
	Kind BreakKind
	// After is how many bytes pass before it happens.
	After int64
	// For is how long a Stall lasts.
	For time.Duration
}

// BreakKind says how a direction breaks.
type BreakKind uint8

// The ways to break.
const (
	// Unbroken is the zero value: nothing happens.
	Unbroken BreakKind = iota
	// Cut ends the direction. Read returns io.EOF. Write fails with io.ErrClosedPipe, and the other end reads io.EOF; if
	// the transport below has no CloseWrite, it is closed for that.
	Cut
	// Reset ends both directions, with ErrReset. A TCP connection below is closed with a RST segment.
	Reset
	// Stall lets nothing pass for a while, and then continues.
	Stall
	// Dead silently lets nothing more pass. Read waits. Write loses what it is given, and waits too once that is more
	// than 64 KiB, which stands for the buffers of a network.
	Dead
)

// String returns the name of the constant, in lower case.
func (k BreakKind) String() string {
	switch k {
	case Unbroken:
		return "unbroken"
	case Cut:
		return "cut"
	case Reset:
		return "reset"
	case Stall:
		return "stall"
	case Dead:
		return "dead"
	}
	return "unknown"
}

// ErrReset is returned by Read and Write after a Break of kind Reset. It matches syscall.ECONNRESET.
var ErrReset error = resetError{}

type resetError struct{}

func (resetError) Error() string { return "wsdtest: " + syscall.ECONNRESET.Error() }
func (resetError) Unwrap() error { return syscall.ECONNRESET }

// FaultyTransport is a transport with faults. One goroutine may read and one may write at a time, as wsd.NewConn does;
// any goroutine may call the other methods. Inside a testing/synctest bubble its waits are durable if those of the
// transport below are.
type FaultyTransport struct {
	below  io.ReadWriteCloser
	faults Faults
	read   direction // the reading goroutine's
	write  direction // the writing goroutine's
	closed chan struct{}
	once   sync.Once

	mu      sync.Mutex // guards all below
	failure error      // what all calls return: ErrReset, or net.ErrClosed
	err     error      // what Close returned
}

// direction is the state of one direction.
type direction struct {
	random *rand.Rand
	passed int64 // bytes
	broken bool  // its Break has happened
	lost   int   // bytes given to a dead direction
}

// Faulty returns rwc with faults. It owns rwc from then on.
func Faulty(rwc io.ReadWriteCloser, faults Faults) *FaultyTransport {
	return &FaultyTransport{
		below:  rwc,
		faults: faults,
		read:   direction{random: rand.New(rand.NewPCG(faults.Seed, 1))},
		write:  direction{random: rand.New(rand.NewPCG(faults.Seed, 2))},
		closed: make(chan struct{}),
	}
}

// Read reads from the transport below, as far as the faults allow.
func (f *FaultyTransport) Read(p []byte) (int, error) {
	d, at := &f.read, &f.faults.Read
	if err := f.delay(d); err != nil {
		return 0, err
	}
	if len(p) > 0 && f.faults.MaxRead > 0 {
		p = p[:min(len(p), 1+d.random.IntN(f.faults.MaxRead))]
	}
	if left := at.After - d.passed; at.Kind != Unbroken && !(d.broken && at.Kind == Stall) {
		if left <= 0 && len(p) > 0 {
			d.broken = true
			switch at.Kind {
			case Cut:
				return 0, io.EOF
			case Reset:
				return 0, f.reset()
			case Dead:
				<-f.closed
				return 0, f.failed()
			case Stall:
				if err := f.wait(at.For); err != nil {
					return 0, err
				}
			}
		} else {
			p = p[:min(int64(len(p)), max(left, 0))]
		}
	}
	n, err := f.below.Read(p)
	d.passed += int64(n)
	return n, f.explain(err)
}

// Write writes to the transport below, as far as the faults allow. It writes all of p or returns an error.
func (f *FaultyTransport) Write(p []byte) (n int, err error) {
	d, at := &f.write, &f.faults.Write
	if err := f.delay(d); err != nil {
		return 0, err
	}
	for len(p) > 0 {
		piece := p
		if f.faults.MaxWrite > 0 {
			piece = p[:min(len(p), 1+d.random.IntN(f.faults.MaxWrite))]
		}
		if left := at.After - d.passed; at.Kind != Unbroken && !(d.broken && at.Kind == Stall) {
			if left <= 0 {
				first := !d.broken
				d.broken = true
				switch at.Kind {
				case Cut:
					if first {
						f.closeWrite()
					}
					return n, io.ErrClosedPipe
				case Reset:
					return n, f.reset()
				case Dead:
					if d.lost += len(p); d.lost > pipeBuffer {
						<-f.closed
						return n, f.failed()
					}
					return n + len(p), nil
				case Stall:
					if err := f.wait(at.For); err != nil {
						return n, err
					}
				}
			} else {
				piece = piece[:min(int64(len(piece)), left)]
			}
		}
		written, err := f.below.Write(piece)
		n += written
		d.passed += int64(written)
		if err != nil {
			return n, f.explain(err)
		}
		p = p[written:]
	}
	return n, nil
}

// delay waits for a random time before a call, if one is due.
func (f *FaultyTransport) delay(d *direction) error {
	if f.faults.Delay <= 0 || f.faults.DelayOneIn > 1 && d.random.IntN(f.faults.DelayOneIn) > 0 {
		return nil
	}
	return f.wait(time.Duration(d.random.Int64N(int64(f.faults.Delay)) + 1))
}

// wait waits for a given time, or for the end.
func (f *FaultyTransport) wait(long time.Duration) error {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-f.closed:
		return f.failed()
	}
}

// explain returns what an error of the transport below means: if the transport has ended, what ended it.
func (f *FaultyTransport) explain(err error) error {
	if err == nil {
		return nil
	}
	if failure := f.failed(); failure != nil {
		return failure
	}
	return err
}

// failed returns what has ended the transport, nil if nothing has.
func (f *FaultyTransport) failed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failure
}

// reset ends both directions at once.
func (f *FaultyTransport) reset() error {
	if tcp, ok := f.below.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	f.end(ErrReset)
	return ErrReset
}

// end ends the transport, once, for the reason given.
func (f *FaultyTransport) end(why error) {
	f.once.Do(func() {
		f.mu.Lock()
		f.failure = why
		f.mu.Unlock()
		close(f.closed)
		err := f.below.Close()
		f.mu.Lock()
		f.err = err
		f.mu.Unlock()
	})
}

// Close closes the transport below, and ends all waiting.
func (f *FaultyTransport) Close() error {
	f.end(net.ErrClosed)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *FaultyTransport) closeWrite() {
	if half, ok := f.below.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		return
	}
	_ = f.Close()
}

// CloseWrite tells the other end that no more bytes come, if the transport below can.
func (f *FaultyTransport) CloseWrite() error {
	if half, ok := f.below.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// LocalAddr returns the address of this end of the transport below, nil if it has none.
func (f *FaultyTransport) LocalAddr() net.Addr {
	if below, ok := f.below.(interface{ LocalAddr() net.Addr }); ok {
		return below.LocalAddr()
	}
	return nil
}

// RemoteAddr returns the address of the other end of the transport below, nil if it has none.
func (f *FaultyTransport) RemoteAddr() net.Addr {
	if below, ok := f.below.(interface{ RemoteAddr() net.Addr }); ok {
		return below.RemoteAddr()
	}
	return nil
}

// SetDeadline sets the deadlines of the transport below, if it has them. A wait that is a fault ends only with Close.
func (f *FaultyTransport) SetDeadline(t time.Time) error {
	if below, ok := f.below.(interface{ SetDeadline(time.Time) error }); ok {
		return below.SetDeadline(t)
	}
	return os.ErrNoDeadline
}
