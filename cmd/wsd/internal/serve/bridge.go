// bridge.go is the mode of -tcp: binary messages are the bytes of a TCP connection.

package serve

import (
	"net"
	"net/http"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/stream"
)

// bridging connects to the TCP server before it answers, so that a server that is not there is 502, not a connection that ends
// at once.
func (s *server) bridging(w http.ResponseWriter, r *http.Request) {
	if !wsd.IsUpgrade(r) {
		s.accept(w, r, func(*wsd.Conn) {})
		return
	}
	raw, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(r.Context(), "tcp", s.tcp)
	if err != nil {
		s.logRefusal(r.RemoteAddr, r.URL.Path, err)
		http.Error(w, "the server behind this bridge cannot be reached", http.StatusBadGateway)
		return
	}
	served := s.accept(w, r, func(conn *wsd.Conn) {
		if err := stream.Couple(conn, raw); err != nil {
			s.log.Debug("bridge", "remote", conn.RemoteAddr().String(), "error", err)
		}
	})
	if !served {
		raw.Close()
	}
}
