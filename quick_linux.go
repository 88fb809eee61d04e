//go:build linux && !386 && !s390x && !race && !msan && !asan

// quick_linux.go reads and writes sockets without telling the scheduler.

package wsd

import (
	"syscall"
	"unsafe"
)

// quickBytes is how many bytes are read or written at the most in a call that the scheduler is not told of: copying them
// takes some ten microseconds, for which a processor may well be held.
const quickBytes = 64 << 10

// readNow reads what there is, or returns EAGAIN. syscall.Read tells the scheduler that the call may wait, which costs
// more than the call itself once threads begin to take each other's processors for it; this one cannot wait, even
// where somebody has put the descriptor into blocking mode.
func readNow(fd int, p []byte) (int, error) {
	if len(p) > quickBytes || len(p) == 0 {
		return syscall.Read(fd, p)
	}
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
		syscall.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// writeNow writes what there is room for, or returns EAGAIN.
func writeNow(fd int, p []byte) (int, error) {
	if len(p) > quickBytes || len(p) == 0 {
		return syscall.Write(fd, p)
	}
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
