//go:build linux && !386 && !s390x && !race && !msan && !asan

// calls_linux.go reads and writes sockets without waiting and, if that is quick, without telling the scheduler.
//
// The syscall package announces every read and write to the scheduler, since it might wait. Other threads then take over
// the processor and have to give it back, which with many connections costs more than some of the calls themselves.

package netio

import (
	"syscall"
	"unsafe"
)

// quickBytes is how many bytes an unannounced call may copy: a piece of a large message and its header. That takes some
// twenty microseconds, not too long to hold a processor.
const quickBytes = PieceSize + 1<<10

// readNow reads some of what there is, or returns EAGAIN, even if somebody has put the descriptor into blocking mode. p
// is not empty.
func readNow(fd int, p []byte) (int, error) {
	p = p[:min(len(p), quickBytes)]
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
		syscall.MSG_DONTWAIT, 0, 0)
	return result(n, errno)
}

// writeNow writes as much of head and then body as there is room for, or returns EAGAIN. At least one of them is not
// empty. With announce, the scheduler is told even if there is only a short head.
func writeNow(fd int, head, body []byte, announce bool) (int, error) {
	if len(body) > 0 {
		return writeBoth(fd, head, body)
	}
	if announce || len(head) > quickBytes {
		n, _, errno := syscall.Syscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&head[0])), uintptr(len(head)),
			writeFlags, 0, 0)
		return result(n, errno)
	}
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&head[0])), uintptr(len(head)),
		writeFlags, 0, 0)
	return result(n, errno)
}

const writeFlags = syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL

// writeBoth is writeNow for two slices. It is a separate function because of its stack frame, which the senders of small
// messages, waiting by the thousand, do not need.
//
//go:noinline
func writeBoth(fd int, head, body []byte) (int, error) {
	var pieces [2]syscall.Iovec
	var message syscall.Msghdr
	message.Iov = &pieces[0]
	for _, b := range [2][]byte{head, body} {
		if len(b) > 0 {
			piece := &pieces[message.Iovlen]
			piece.Base = &b[0]
			piece.SetLen(len(b))
			message.Iovlen++
		}
	}
	if len(head)+len(body) > quickBytes {
		n, _, errno := syscall.Syscall(syscall.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&message)), writeFlags)
		return result(n, errno)
	}
	n, _, errno := syscall.RawSyscall(syscall.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&message)), writeFlags)
	return result(n, errno)
}

func result(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
