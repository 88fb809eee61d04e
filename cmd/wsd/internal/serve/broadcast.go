// broadcast.go sends what comes to a path to all who are there.

package serve

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
)

// broadcasting returns the mode of -broadcast.
func (s *server) broadcasting() func(http.ResponseWriter, *http.Request) {
	h := hub.New(&hub.Options{Slow: hub.Close, MaxLength: -1, MaxTokens: -1})
	return func(w http.ResponseWriter, r *http.Request) {
		topic := topicOf(r.URL.Path)
		s.accept(w, r, func(conn *wsd.Conn) {
			member, err := h.Join(conn, "")
			if err == nil {
				err = member.Subscribe(topic)
			}
			if err != nil {
				_ = conn.Close(wsd.StatusInternalError, err.Error())
				return
			}
			for m := range conn.Messages() {
				if h.Publish(conn.Context(), topic, m) != nil {
					return
				}
				m.Release()
			}
		})
	}
}

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
	return b.String()
}
