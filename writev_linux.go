// writev_linux.go writes two slices with one system call.

package wsd

import (
	"syscall"
	"unsafe"
)

// writeBoth writes head and body to fd, as much as there is room for. body is not empty.
func writeBoth(fd int, head, body []byte) (int, error) {
	if len(head) == 0 {
		return syscall.Write(fd, body)
	}
	pieces := [2]syscall.Iovec{{Base: &head[0]}, {Base: &body[0]}}
	pieces[0].SetLen(len(head))
	pieces[1].SetLen(len(body))
	n, _, errno := syscall.Syscall(syscall.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&pieces)), uintptr(len(pieces)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
