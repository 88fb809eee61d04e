//go:build unix && (!linux || 386 || s390x || race || msan || asan)

// quick_unix.go stands in where sockets are read and written as files are: other systems, and builds whose detectors have
// to see each read and write.

package wsd

import "syscall"

func readNow(fd int, p []byte) (int, error)  { return syscall.Read(fd, p) }
func writeNow(fd int, p []byte) (int, error) { return syscall.Write(fd, p) }
