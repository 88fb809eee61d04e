// server.go answers requests: WebSockets by the mode that was asked for, files, counters.

package serve

import (
	"context"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/seed62836080/wsd"
)

// server is the verb at work.
type server struct {
	*options
	log   *slog.Logger
	ws    *wsd.Server
	files http.Handler // nil without -dir
	serve func(http.ResponseWriter, *http.Request)
}

// what says what is served.
func (s *server) what() string {
	what := "echoing"
	switch {
	case s.broadcast:
		what = "broadcasting by path" + s.nodes.what()
	case s.exec != "":
		what = "running " + s.exec
	case s.tcp != "":
		what = "bridging to " + s.tcp
	}
	if s.dir != "" {
		what += ", files of " + s.dir
	}
	return what
}

// mode returns what is done with a request for a WebSocket.
func (s *server) mode() (func(http.ResponseWriter, *http.Request), error) {
	switch {
	case s.broadcast:
		return s.broadcasting, nil
	case s.exec != "":
		return s.executing()
	case s.tcp != "":
		return s.bridging, nil
	}
	return s.echoing, nil
}

// ServeHTTP answers one request.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case wsd.IsUpgrade(r):
		s.serve(w, r)
	case r.URL.Path == "/debug/vars":
		s.variables(w)
	case r.URL.Path == "/metrics":
		s.metrics(w)
	case s.files != nil:
		s.files.ServeHTTP(w, r)
	default:
		s.serve(w, r) // which answers that a WebSocket is expected
	}
}

// openDir returns a handler for files below a directory, and for no others, whatever links there are.
func openDir(dir string) (http.Handler, error) {
	if dir == "" {
		return nil, nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return http.FileServerFS(visible{root.FS()}), nil
}

// visible leaves out files whose names begin with a dot: repositories, settings.
type visible struct{ fs.FS }

// Open opens a file unless it is hidden.
func (v visible) Open(name string) (fs.File, error) {
	if name != "." && hidden(name) {
		return nil, fs.ErrNotExist
	}
	f, err := v.FS.Open(name)
	if dir, ok := f.(fs.ReadDirFile); ok && err == nil {
		return listing{dir}, nil
	}
	return f, err
}

// listing is a directory, or a file, without the names that are hidden.
type listing struct{ fs.ReadDirFile }

// ReadDir lists what is not hidden.
func (l listing) ReadDir(n int) ([]fs.DirEntry, error) {
	entries, err := l.ReadDirFile.ReadDir(n)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return hidden(e.Name()) }), err
}

// Seek is for parts of files.
func (l listing) Seek(offset int64, whence int) (int64, error) {
	if seeker, ok := l.ReadDirFile.(io.Seeker); ok {
		return seeker.Seek(offset, whence)
	}
	return 0, errors.ErrUnsupported
}

func hidden(name string) bool {
	for i := range len(name) {
		if name[i] == '.' && (i == 0 || name[i-1] == '/') {
			return true
		}
	}
	return false
}

// accept serves a connection with a handler, and logs it when it has ended. It reports whether handler is called at all.
func (s *server) accept(w http.ResponseWriter, r *http.Request, handler func(*wsd.Conn)) bool {
	began := time.Now()
	remote, path := r.RemoteAddr, r.URL.Path
	err := s.ws.Serve(w, r, nil, func(conn *wsd.Conn) {
		defer s.logEnd(conn, remote, path, began)
		handler(conn)
		_ = conn.Close(wsd.StatusNormalClosure, "")
	})
	if err != nil {
		s.logRefusal(remote, path, err)
	}
	return err == nil
}

func (s *server) logEnd(conn *wsd.Conn, remote, path string, began time.Time) {
	<-conn.Closed()
	stats := conn.Stats()
	s.log.LogAttrs(context.Background(), slog.LevelInfo, "connection",
		slog.String("remote", remote), slog.String("path", path), slog.Duration("took", time.Since(began).Round(time.Microsecond)),
		slog.Uint64("received", stats.MessagesReceived), slog.Uint64("received_bytes", stats.BytesReceived),
		slog.Uint64("sent", stats.MessagesSent), slog.Uint64("sent_bytes", stats.BytesSent), slog.Any("end", conn.CloseEvent()))
}

func (s *server) logRefusal(remote, path string, err error) {
	status := 0
	var handshake *wsd.HandshakeError
	if errors.As(err, &handshake) {
		status = handshake.StatusCode
	}
	s.log.LogAttrs(context.Background(), slog.LevelInfo, "refused",
		slog.String("remote", remote), slog.String("path", path), slog.Int("status", status), slog.String("error", err.Error()))
}

// echoing sends every message back.
func (s *server) echoing(w http.ResponseWriter, r *http.Request) {
	s.accept(w, r, func(conn *wsd.Conn) {
		for m := range conn.Messages() {
			if conn.Send(conn.Context(), m) != nil {
				return
			}
			m.Release()
		}
	})
}

// variables answers with the counters, as expvar does.
func (s *server) variables(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	stats, err := json.Marshal(s.ws.Stats())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, "{\n\"wsd\": %s", stats)
	if s.nodes.broker != nil {
		nodes, _ := json.Marshal(s.nodes.broker.Stats()) // counters can be marshaled
		fmt.Fprintf(w, ",\n\"nodes\": %s", nodes)
	}
	expvar.Do(func(v expvar.KeyValue) {
		if v.Key != "cmdline" { // which may hold secrets
			fmt.Fprintf(w, ",\n%q: %s", v.Key, v.Value)
		}
	})
	fmt.Fprint(w, "\n}\n")
}

// metric is a line for Prometheus.
type metric struct {
	name, kind, help string
	value            uint64
}

// metrics answers with the counters in Prometheus' text format.
func (s *server) metrics(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	stats := s.ws.Stats()
	all := []metric{
		{"connections", "gauge", "Connections that are open or being closed.", uint64(stats.Connections)},
		{"accepted_total", "counter", "Connections in all.", stats.Accepted},
		{"refused_total", "counter", "Handshakes that were refused.", stats.Refused},
		{"limited_total", "counter", "Handshakes that were refused because of a limit.", stats.Limited},
		{"messages_received_total", "counter", "Messages received.", stats.MessagesReceived},
		{"bytes_received_total", "counter", "Bytes of messages received.", stats.BytesReceived},
		{"messages_sent_total", "counter", "Messages sent.", stats.MessagesSent},
		{"bytes_sent_total", "counter", "Bytes of messages sent.", stats.BytesSent},
		{"messages_dropped_total", "counter", "Messages that were discarded.", stats.MessagesDropped},
		{"writes_total", "counter", "Writes to the network.", stats.Writes},
		{"queued_bytes", "gauge", "Bytes that wait to be written.", uint64(stats.QueuedBytes)},
	}
	for _, m := range append(all, s.nodes.metrics()...) {
		fmt.Fprintf(w, "# HELP wsd_%[1]s %[3]s\n# TYPE wsd_%[1]s %[2]s\nwsd_%[1]s %[4]d\n", m.name, m.kind, m.help, m.value)
	}
}
