//go:build !linux

package main

// This file says on other systems that the benchmark needs Linux.

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: epoll, CPU clocks of other processes and /proc are needed, thus Linux")
	os.Exit(1)
}
