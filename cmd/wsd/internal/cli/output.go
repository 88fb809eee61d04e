// output.go finds out ahead of a run whether its results can be written.

package cli

import (
	"errors"
	"io/fs"
	"os"
)

// Writable returns an error if a file cannot be written, whether or not it is there. It leaves it as it is.
func Writable(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err == nil {
		return errors.Join(f.Close(), os.Remove(path))
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return nil // who reads a pipe would take this for all of it
	}
	if f, err = os.OpenFile(path, os.O_WRONLY, 0); err != nil {
		return err
	}
	return f.Close()
}
