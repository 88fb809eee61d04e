//go:build unix

// system_unix.go asks the system for what a run costs and may use.

package bench

import (
	"fmt"
	"syscall"
	"time"
)

// cpuTime returns the processor time that this process has taken.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// spareFiles is how many files this process opens besides connections.
const spareFiles = 32

// checkFiles returns an error if so many connections cannot be open.
func checkFiles(conns int) error {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return nil
	}
	if need := uint64(conns + spareFiles); need > uint64(limit.Cur) {
		return fmt.Errorf("%d connections need %d open files, and %d are allowed: ulimit -n %d raises that", conns, need, limit.Cur, need)
	}
	return nil
}
