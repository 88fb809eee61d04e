//go:build linux

package main

// This file runs what is measured in a process of its own: this program again, told what to be by an argument.

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// roleArgument is the flag that makes the program a measured process. It stands first and its value is a role in JSON.
const roleArgument = "-role"

// What a measured process does.
const (
	serveEcho      = "echo"      // gives every message back
	serveIdle      = "idle"      // the same, set for little memory rather than for speed
	serveBroadcast = "broadcast" // gives what comes on /pub to all who are on /sub
	serveHub       = "hub"       // the same, by what the library has for topics
	runClient      = "client"    // is the client of another process's raw echo server
	holdIdle       = "hold"      // not measured: holds idle connections to another process's server
)

// role is what a measured process is told to be.
type role struct {
	Library  string
	Work     string
	TLS      bool
	Deflate  bool
	Takeover bool
	Stream   bool       // messages are echoed in pieces, while they arrive
	Loop     string     // the path of a way to write an echo that only wsd has, "" for the usual one
	Window   int        // the bits of the client's window with Takeover, 0 for 15
	Client   clientWork // of the work runClient
	Hold     holdWork   // of the work holdIdle
	Topics   int        // how many topics a broadcast has, 0 for one
	Groups   int        // how many groups its subscribers are in, each with its own topics; 0 for one that gets them all
	Latest   bool       // of each topic only the newest message waits, where the library can do that
	Pace     int        // ReceiveRate in messages a second, 0 for none
	Pinned   bool       // shares one processor with whoever starts it, see pin
	Profile  string     // the file for a CPU profile of all its life, "" for none
}

// profiles is the directory for the CPU profiles of the measured processes, "" for none.
var profiles string

// profilePath names a profile by the library and a number, for a library is measured many times.
func profilePath(library string) string {
	if profiles == "" {
		return ""
	}
	for i := 1; ; i++ {
		path := filepath.Join(profiles, fmt.Sprintf("%s-%03d.pprof", library, i))
		if _, err := os.Stat(path); err != nil {
			return path
		}
	}
}

// maxMessage is the message size in bytes that every library is told to allow, more than the largest that is sent.
const maxMessage = 32 << 20

// process is a measured process, from outside.
type process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	port int // of a server

	profiled bool
}

// start runs a measured process. A server listens when start returns.
func start(r role) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("bench: the program's own path: %w", err)
	}
	if r.Library != rawEchoLibrary.name && r.Work != holdIdle {
		r.Profile = profilePath(r.Library)
	}
	argument, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("bench: a role: %w", err)
	}
	cmd := exec.Command(self, roleArgument, string(argument))
	cmd.Stderr = os.Stderr
	// Should this process be killed, its children go as well.
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("bench: a pipe: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("bench: a pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench: starting %s: %w", r.Library, err)
	}
	p := &process{cmd: cmd, in: in, out: bufio.NewReader(out), profiled: r.Profile != ""}
	if r.Work == runClient || r.Work == holdIdle {
		return p, nil
	}
	line, err := p.out.ReadString('\n')
	if err == nil {
		p.port, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("bench: expected a port from the server of %s, got %q: %w", r.Library, line, err)
	}
	return p, nil
}

// stop ends the process and waits for its end.
func (p *process) stop() {
	p.in.Close()
	if p.profiled {
		// It ends by itself when it has written its profile.
		defer time.AfterFunc(5*time.Second, func() { p.cmd.Process.Kill() }).Stop()
	} else {
		p.cmd.Process.Kill()
	}
	p.cmd.Wait()
}

// cpu is the user and system time that the process has taken, by its CPU clock: the kernel's count in nanoseconds,
// where /proc/PID/stat has ticks of 10 ms.
func (p *process) cpu() time.Duration {
	const schedClock = 2 // CPUCLOCK_SCHED of a whole process: <linux/posix-timers.h>
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid)<<3|schedClock, &ts); err != nil {
		panic(fmt.Sprintf("bench: the CPU clock of process %d: %v", p.cmd.Process.Pid, err)) // it is our child, alive
	}
	return time.Duration(ts.Nano())
}

// memory is the process's resident set in bytes after a garbage collection that gives free memory back.
func (p *process) memory() (float64, error) {
	if _, err := io.WriteString(p.in, "collect\n"); err != nil {
		return 0, fmt.Errorf("bench: asking for a collection: %w", err)
	}
	if _, err := p.out.ReadString('\n'); err != nil {
		return 0, fmt.Errorf("bench: waiting for a collection: %w", err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("bench: a resident set: %w", err)
	}
	fields := strings.Fields(string(stat))
	if len(fields) < 2 {
		return 0, fmt.Errorf("bench: expected the fields of statm, got %q", stat)
	}
	pages, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0, fmt.Errorf("bench: expected a number of pages, got %q", fields[1])
	}
	return float64(pages * os.Getpagesize()), nil
}

// pin keeps the calling goroutine, and the processes that it starts, to one processor until unpin is called.
//
// Where a single connection has a single message under way, client and server are never busy at once. Whether the kernel
// puts them on one processor or on two, which then have to wake each other, is worth more than all that is between the
// libraries, and it may change from one round to the next. The Go runtime counts the processors that it may use, so that
// a process which is kept to one has GOMAXPROCS=1.
func pin() (unpin func(), err error) {
	runtime.LockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, fmt.Errorf("bench: the processors to run on: %w", err)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return nil, fmt.Errorf("bench: keeping to one processor: %w", err)
	}
	return func() {
		if err := unix.SchedSetaffinity(0, &all); err != nil {
			panic(fmt.Sprintf("bench: going back to all processors: %v", err)) // they were allowed before
		}
		runtime.UnlockOSThread()
	}, nil
}

// serveRole is what a measured process runs. It returns when its standard input ends.
func serveRole(argument string) error {
	var r role
	if err := json.Unmarshal([]byte(argument), &r); err != nil {
		return fmt.Errorf("bench: expected a role, got %q: %w", argument, err)
	}
	lib, err := libraryNamed(r.Library)
	if err != nil {
		return err
	}
	if r.Profile != "" {
		f, err := os.Create(r.Profile)
		if err != nil {
			return fmt.Errorf("bench: a profile: %w", err)
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return fmt.Errorf("bench: a profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	if r.Work == runClient {
		result, err := r.Client.run(lib)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(result)
	}
	if r.Work == holdIdle {
		return r.Hold.run(r)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("bench: listening: %w", err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if r.TLS {
		certificate, err := selfSigned()
		if err != nil {
			return err
		}
		listener = tls.NewListener(listener, &tls.Config{
			Certificates: []tls.Certificate{certificate},
			NextProtos:   []string{"http/1.1"},
		})
	}
	failed := make(chan error, 1)
	go func() { failed <- lib.serve(listener, r) }()
	fmt.Println(port)

	commands := make(chan struct{})
	go func() {
		defer close(commands)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			commands <- struct{}{}
		}
	}()
	for {
		select {
		case err := <-failed:
			return fmt.Errorf("bench: the server of %s ended: %w", r.Library, err)
		case _, more := <-commands:
			if !more {
				return nil
			}
			// What a sync.Pool holds goes with the second collection.
			runtime.GC()
			debug.FreeOSMemory()
			fmt.Println("collected")
		}
	}
}

// selfSigned is a certificate for one run.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("bench: a key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("bench: a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// raiseFileLimit raises the limit of open files as far as it goes and gives the result. The processes started later
// have it as well.
func raiseFileLimit() (uint64, error) {
	const enough = 200_000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("bench: the limit of open files: %w", err)
	}
	// Only a privileged process may raise the hard limit; the others raise the soft one up to it.
	wanted := unix.Rlimit{Cur: max(limit.Max, enough), Max: max(limit.Max, enough)}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &wanted); err == nil {
		return wanted.Cur, nil
	}
	wanted = unix.Rlimit{Cur: limit.Max, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &wanted); err != nil && !errors.Is(err, unix.EPERM) {
		return 0, fmt.Errorf("bench: raising the limit of open files: %w", err)
	}
	return wanted.Cur, nil
}
