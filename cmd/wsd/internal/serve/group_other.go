//go:build !unix

// group_other.go ends a program where there are no process groups. Its children end by themselves, or not.

package serve

import "os/exec"

func group(*exec.Cmd) {}

func terminate(*exec.Cmd) {}

func kill(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
