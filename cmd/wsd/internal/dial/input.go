// input.go turns what is typed or read into messages.

package dial

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/seed62836080/wsd"
)

// item is one thing to do: a message to send, a command of the terminal, or the error that ends the input.
type item struct {
	message wsd.Message
	whole   io.Reader // in place of the message: one of any size
	command string
	err     error
}

var errNotText = errors.New("expected text in UTF-8")

func validText(s string) bool { return utf8.ValidString(s) }

// unhex reads hexadecimal digits, between which there may be spaces and colons.
func unhex(s string) ([]byte, error) {
	digits := strings.NewReplacer(" ", "", ":", "", "\t", "", "\n", "", "\r", "").Replace(s)
	data, err := hex.DecodeString(digits)
	var bad hex.InvalidByteError
	switch {
	case errors.As(err, &bad):
		return nil, fmt.Errorf("expected hexadecimal digits, got %q", rune(bad))
	case err != nil:
		return nil, fmt.Errorf("expected two hexadecimal digits for each byte, got %d digits", len(digits))
	}
	return data, nil
}

// texts are the messages of -x.
func texts(o *options) <-chan item {
	items := make(chan item, len(o.texts))
	for _, text := range o.texts {
		m, err := o.message(text)
		items <- item{message: m, err: err}
	}
	close(items)
	return items
}

// readInput reads messages from a pipe or a file, until its end or ctx is done. The goroutine may stay behind in a read of
// the standard input, which ends with the process.
func readInput(ctx context.Context, o *options, r io.Reader) <-chan item {
	items := make(chan item, 64)
	put := func(i item) bool {
		select {
		case items <- i:
			return i.err == nil
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(items)
		if o.whole {
			put(item{whole: r})
			return
		}
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxLine)
		if o.nul {
			lines.Split(splitAtZero)
		}
		number := 0
		for lines.Scan() {
			number++
			m, err := o.message(lines.Text())
			if err != nil {
				err = fmt.Errorf("standard input, line %d: %w", number, err)
			}
			if !put(item{message: m, err: err}) {
				return
			}
		}
		if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
			put(item{err: fmt.Errorf("standard input, line %d: longer than %d MiB (-whole sends the input as one message)", number+1, maxLine>>20)})
		} else if err != nil {
			put(item{err: fmt.Errorf("standard input: %w", err)})
		}
	}()
	return items
}

// maxLine bounds a line that is read, in bytes: as much as wsd receives by default.
const maxLine = 64 << 20

// splitAtZero is bufio.ScanLines for zero bytes.
func splitAtZero(data []byte, atEnd bool) (advance int, token []byte, err error) {
	if at := bytes.IndexByte(data, 0); at >= 0 {
		return at + 1, data[:at], nil
	}
	if atEnd && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}
