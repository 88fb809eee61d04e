//go:build unix && (!linux || 386 || s390x || race || msan || asan)

// calls_unix.go reads and writes sockets like files: on other systems, and in builds whose detectors must see the calls.

package netio

import "syscall"

func readNow(fd int, p []byte) (int, error) { return syscall.Read(fd, p) }

func writeNow(fd int, head, body []byte, _ bool) (int, error) {
	n := 0
	for _, b := range [2][]byte{head, body} {
		if len(b) == 0 {
			continue
		}
		m, err := syscall.Write(fd, b)
		if err != nil {
			if n > 0 {
				err = nil // the next call returns the error again
			}
			return n, err
		}
		n += m
		if m < len(b) {
			break
		}
	}
	return n, nil
}
