//go:build !unix

// size_other.go is for systems that do not tell of a terminal's new size.

package dial

// watchSize calls f once.
func watchSize(f func()) (stop func()) {
	f()
	return func() {}
}
