//go:build unix && !linux

// writev_unix.go stands in where the standard library has no way to write two slices with one system call.

package wsd

import "syscall"

// writeBoth writes head, or body where head is empty, to fd, as much as there is room for. body is not empty.
func writeBoth(fd int, head, body []byte) (int, error) {
	if len(head) == 0 {
		head = body
	}
	return syscall.Write(fd, head)
}
