// handshake.go reads the heads of HTTP messages as they are, and directs a request to the target.

package tap

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// maxHead bounds the head of a request or an answer, in bytes.
const maxHead = 64 << 10

var errHead = errors.New("a head longer than 64 KiB")

// head is the head of an HTTP message: its lines, as they came.
type head struct {
	lines []string // with their ends, the empty one included
}

// readHead reads a head.
func readHead(r *bufio.Reader) (*head, error) {
	h := new(head)
	for size := 0; ; {
		line, err := r.ReadSlice('\n')
		if size += len(line); size > maxHead || errors.Is(err, bufio.ErrBufferFull) {
			return nil, errHead
		}
		if err != nil {
			if err == io.EOF && size > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		h.lines = append(h.lines, string(line))
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			if len(h.lines) == 1 { // an empty line ahead of a request
				h.lines = nil
				continue
			}
			return h, nil
		}
	}
}

func (h *head) String() string { return strings.Join(h.lines, "") }

func (h *head) first() string { return strings.TrimRight(h.lines[0], "\r\n") }

// header returns the fields.
func (h *head) header() http.Header {
	fields, _ := textproto.NewReader(bufio.NewReader(strings.NewReader(strings.Join(h.lines[1:], "")))).ReadMIMEHeader()
	return http.Header(fields)
}

// set replaces a field's value with what f makes of it, spelled as it was.
func (h *head) set(name string, f func(string) string) (found bool) {
	for i, line := range h.lines[1:] {
		field, value, ok := strings.Cut(line, ":")
		if ok && strings.EqualFold(field, name) {
			end := value[len(strings.TrimRight(value, "\r\n")):]
			h.lines[i+1] = field + ": " + f(strings.TrimSpace(value)) + end
			found = true
		}
	}
	return found
}

// upgrades reports whether a request asks for a WebSocket.
func (h *head) upgrades() bool {
	return strings.EqualFold(strings.TrimSpace(h.header().Get("Upgrade")), "websocket")
}

// status returns the status of an answer, 0 if it has none.
func (h *head) status() int {
	_, rest, _ := strings.Cut(h.first(), " ")
	code, _, _ := strings.Cut(rest, " ")
	status, _ := strconv.Atoi(code)
	return status
}

// close asks for the end of the connection behind the answer.
func (h *head) close() {
	if !h.set("Connection", func(string) string { return "close" }) {
		last := len(h.lines) - 1
		h.lines = append(h.lines[:last], "Connection: close\r\n", h.lines[last])
	}
}

// direct directs a request to the target: its path is put ahead, and unless host is to be kept, Host is the target's, and so is
// an Origin that was this proxy's own.
func (h *head) direct(target *url.URL, keepHost bool) error {
	method, rest, ok := strings.Cut(h.first(), " ")
	path, version, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 || !strings.HasPrefix(version, "HTTP/1.") {
		return fmt.Errorf("expected an HTTP/1.1 request, got %q", h.first())
	}
	base := strings.TrimSuffix(target.EscapedPath(), "/")
	switch {
	case base != "" && path == "/":
		path = base
	case base != "" && strings.HasPrefix(path, "/?"):
		path = base + path[1:]
	case base != "":
		path = base + path
	}
	if target.RawQuery != "" {
		separator := "?"
		if strings.Contains(path, "?") {
			separator = "&"
		}
		path += separator + target.RawQuery
	}
	h.lines[0] = method + " " + path + " " + version + "\r\n"
	if keepHost {
		return nil
	}
	own := h.header().Get("Host")
	h.set("Host", func(string) string { return target.Host })
	h.set("Origin", func(origin string) string {
		u, err := url.Parse(origin)
		if err != nil || !strings.EqualFold(u.Host, own) {
			return origin
		}
		scheme := map[string]string{"ws": "http", "wss": "https"}[target.Scheme]
		if scheme == "" {
			scheme = target.Scheme
		}
		return scheme + "://" + target.Host
	})
	return nil
}
