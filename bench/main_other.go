//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: epoll, CPU clocks of other processes and /proc are needed, thus Linux")
	os.Exit(1)
}
