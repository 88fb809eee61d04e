//go:build unix

// size_unix.go learns of a terminal's new size.

package dial

import (
	"os"
	"os/signal"
	"syscall"
)

// watchSize calls f now and whenever the size has changed, until the returned function is called.
func watchSize(f func()) (stop func()) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	done, over := make(chan struct{}), make(chan struct{})
	f()
	go func() {
		defer close(over)
		for {
			select {
			case <-changed:
				f()
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(changed)
		close(done)
		<-over
	}
}
