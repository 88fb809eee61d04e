// jsserver_test.go is the server of the tests of clients built for js/wasm: it ends connections in every way, and records
// how it saw them end.

package interop

import (
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// jsServer serves what a client asks for, and the page that runs one.
type jsServer struct {
	*httptest.Server
	binary string      // the program
	args   []string    // its arguments
	output output      // what it has printed
	result chan string // its status

	mu   sync.Mutex
	ends map[string]chan wsd.CloseEvent
}

func startJSServer(t *testing.T, binary string, args ...string) *jsServer {
	t.Helper()
	s := &jsServer{binary: binary, args: args, result: make(chan string, 1), ends: make(map[string]chan wsd.CloseEvent)}
	mux := http.NewServeMux()
	for path, handler := range map[string]func(*wsd.Conn, *http.Request){
		"/echo": jsEcho, "/close": jsClose, "/cut": jsCut, "/send": jsSend, "/deaf": jsDeaf, "/slow": jsSlow, "/recorded": s.tell,
		"/hex": jsHex, "/count": jsCount,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { s.accept(w, r, handler) })
	}
	mux.HandleFunc("/hang", s.hang)
	mux.HandleFunc("POST /output", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(&s.output, r.Body) })
	mux.HandleFunc("POST /result", func(_ http.ResponseWriter, r *http.Request) {
		if status, err := io.ReadAll(r.Body); err == nil {
			s.result <- string(status)
		}
	})
	mux.HandleFunc("GET /gotest.html", file("testdata/gotest.html"))
	mux.HandleFunc("GET /gotest.js", file("testdata/gotest.js"))
	mux.HandleFunc("GET /echo.js", file("testdata/echo.js"))
	mux.HandleFunc("GET /echo.html", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><script src="/echo.js?%s"></script>`, html.EscapeString(r.URL.RawQuery))
	})
	mux.HandleFunc("GET /wasm_exec.js", file(filepath.Join(goroot(t), "lib/wasm/wasm_exec.js")))
	mux.HandleFunc("GET /test.wasm", file(binary))
	s.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func file(path string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) }
}

// accept serves a connection, and records its end if it has a name.
func (s *jsServer) accept(w http.ResponseWriter, r *http.Request, handler func(*wsd.Conn, *http.Request)) {
	config := wsd.Config{CloseTimeout: 20 * time.Second}
	if r.FormValue("plain") == "" {
		config.Compression = &wsd.Compression{}
	}
	conn, err := wsd.Accept(w, r, &wsd.AcceptOptions{Config: config, Subprotocols: []string{"echo"}, Origins: []string{"*"}})
	if err != nil {
		return
	}
	handler(conn, r)
	<-conn.Closed()
	if name := r.FormValue("record"); name != "" {
		s.end(name) <- conn.CloseEvent()
	}
}

// end returns where the end of a connection is recorded.
func (s *jsServer) end(name string) chan wsd.CloseEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ends[name] == nil {
		s.ends[name] = make(chan wsd.CloseEvent, 1)
	}
	return s.ends[name]
}

// tell tells how a connection ended.
func (s *jsServer) tell(conn *wsd.Conn, r *http.Request) {
	select {
	case event := <-s.end(r.FormValue("name")):
		_ = conn.SendJSON(conn.Context(), struct {
			Code   wsd.StatusCode
			Reason string
			Clean  bool
		}{event.Code, event.Reason, event.Clean})
	case <-conn.Closed():
	}
}

func jsEcho(conn *wsd.Conn, _ *http.Request) {
	for msg := range conn.Messages() {
		if string(msg.Data) == "extensions" {
			msg.Data = []byte(conn.Extensions())
		}
		if conn.Send(conn.Context(), msg) != nil {
			return
		}
	}
}

func jsHex(conn *wsd.Conn, _ *http.Request) {
	for msg := range conn.Messages() {
		if conn.Send(conn.Context(), wsd.Text(hex.EncodeToString(msg.Data))) != nil {
			return
		}
	}
}

func jsClose(conn *wsd.Conn, r *http.Request) {
	if _, err := conn.Receive(conn.Context()); err == nil {
		code, _ := strconv.Atoi(r.FormValue("code"))
		_ = conn.StartClose(wsd.StatusCode(code), r.FormValue("reason"))
	}
}

func jsCut(conn *wsd.Conn, _ *http.Request) {
	if _, err := conn.Receive(conn.Context()); err == nil {
		conn.CloseNow()
	}
}

// jsSend sends n messages of a size, once it is asked to if it is to wait for that.
func jsSend(conn *wsd.Conn, r *http.Request) {
	n, _ := strconv.Atoi(r.FormValue("n"))
	size, _ := strconv.Atoi(r.FormValue("size"))
	msg := wsd.Text(strings.Repeat("x", size))
	if r.FormValue("kind") == "binary" {
		msg.Type = wsd.BinaryMessage
	}
	if r.FormValue("wait") != "" {
		if _, err := conn.Receive(conn.Context()); err != nil {
			return
		}
	}
	for range n {
		if conn.Send(conn.Context(), msg) != nil {
			return
		}
	}
	if r.FormValue("end") != "" {
		_ = conn.StartClose(wsd.StatusNormalClosure, "")
	}
}

// jsCount says so when n messages have come.
func jsCount(conn *wsd.Conn, r *http.Request) {
	n, _ := strconv.Atoi(r.FormValue("n"))
	for range n {
		if _, err := conn.Receive(conn.Context()); err != nil {
			return
		}
	}
	_ = conn.Send(conn.Context(), wsd.Text("counted"))
}

// jsDeaf receives nothing, so that soon nothing more is read.
func jsDeaf(*wsd.Conn, *http.Request) {}

// jsSlow receives a message of half a megabyte every 75 ms.
func jsSlow(conn *wsd.Conn, _ *http.Request) {
	tick := time.NewTicker(75 * time.Millisecond)
	defer tick.Stop()
	for range conn.Messages() {
		<-tick.C
	}
}

// hang never answers, and records when the client goes.
func (s *jsServer) hang(w http.ResponseWriter, r *http.Request) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	var one [1]byte
	_, err = buffered.Read(one[:])
	if name := r.FormValue("record"); name != "" && errors.Is(err, io.EOF) {
		s.end(name) <- wsd.CloseEvent{Code: wsd.StatusAbnormalClosure}
	}
}

func goroot(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(string(run(t, "go", "env", "GOROOT")))
}

// hostOf is the address of a server as a client's URL has it.
func (s *jsServer) hostOf(t *testing.T) string {
	t.Helper()
	addr, ok := s.Listener.Addr().(*net.TCPAddr)
	require.True(t, ok)
	return "ws://" + addr.String()
}
