// broadcast.go sends what comes to a path to all who are there.

package serve

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
)

// broadcasting is the mode of -broadcast.
func (s *server) broadcasting(w http.ResponseWriter, r *http.Request) {
	topic := topicOf(r.URL.Path)
	s.accept(w, r, func(conn *wsd.Conn) {
		member, err := s.nodes.hub.Join(conn, "")
		if err == nil {
			err = member.Subscribe(topic)
		}
		if err != nil {
			s.log.Warn("broadcast", "remote", conn.RemoteAddr().String(), "error", err)
			_ = conn.Close(wsd.StatusTryAgainLater, "")
			return
		}
		for m := range conn.Messages() {
			if err := s.nodes.hub.Publish(conn.Context(), topic, m); err != nil {
				s.refuse(conn, err)
				return
			}
			m.Release()
		}
	})
}

// refuse closes a connection whose message cannot be published: it is longer than NATS takes, if neither side is ending.
func (s *server) refuse(conn *wsd.Conn, err error) {
	if conn.Context().Err() != nil || errors.Is(err, hub.ErrClosed) {
		return
	}
	s.log.Warn("broadcast", "remote", conn.RemoteAddr().String(), "error", err)
	_ = conn.Close(wsd.StatusMessageTooBig, "a message is longer than the nodes of this broadcast take")
}

// longest is how many bytes a topic has at most: there are limits to what NATS takes.
const longest = 512

// topicOf returns the topic that a path stands for: a token for each of its parts, literally, so that nobody can subscribe to
// a pattern by a path such as /*.
func topicOf(path string) string {
	var b strings.Builder
	b.WriteString("path")
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		b.WriteByte('.')
		for i := range len(part) {
			switch c := part[i]; {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
				b.WriteByte(c)
			default:
				fmt.Fprintf(&b, "=%02X", c)
			}
		}
		b.WriteByte('=') // a part may be empty, a token may not
	}
	if b.Len() > longest {
		return fmt.Sprintf("long.%x", sha256.Sum256([]byte(b.String())))
	}
	return b.String()
}
