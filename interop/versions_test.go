// versions_test.go has browsers open WebSockets over the HTTP/2 or HTTP/3 by which they have got their page. They choose
// that by themselves.

package interop

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/h3"
)

// site serves a page, and the WebSockets that it opens, and records how both began and ended.
type site struct {
	result chan siteResult // what the page tells

	mu       sync.Mutex
	requests []string // for WebSockets
	from     map[string]bool
	ends     map[string][]wsd.CloseEvent // by path
}

// siteResult is what the page tells.
type siteResult struct {
	Error    string
	Protocol string // of the page
	Sockets  []socketResult
}

// socketResult is what the page tells of one WebSocket.
type socketResult struct {
	Path                                  string
	Opened, Clean, Binary                 bool
	Subprotocol, Extensions, Text, Reason string
	Code                                  wsd.StatusCode
}

func newSite() *site {
	return &site{result: make(chan siteResult, 1), from: make(map[string]bool), ends: make(map[string][]wsd.CloseEvent)}
}

// handler is to be wrapped by ConfigureHTTP2 or h3.Handler.
func (s *site) handler() http.Handler {
	mux := http.NewServeMux()
	for path, end := range map[string]func(*wsd.Conn){
		"/echo":   answerAll,
		"/closes": func(conn *wsd.Conn) { _ = conn.Close(4001, "enough") },
		"/cuts":   func(conn *wsd.Conn) { conn.CloseNow() },
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			conn, err := wsd.Accept(w, r, &wsd.AcceptOptions{
				Subprotocols: []string{"echo"}, Config: wsd.Config{Compression: &wsd.Compression{}},
			})
			if err != nil {
				return
			}
			go func() {
				if path != "/echo" {
					_, _ = conn.Receive(conn.Context())
				}
				end(conn)
				<-conn.Closed()
				s.mu.Lock()
				defer s.mu.Unlock()
				s.ends[path] = append(s.ends[path], conn.CloseEvent())
			}()
		})
	}
	mux.HandleFunc("/refuses", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "who are you", http.StatusUnauthorized)
	})
	mux.HandleFunc("POST /result", func(_ http.ResponseWriter, r *http.Request) {
		var result siteResult
		if err := json.NewDecoder(r.Body).Decode(&result); err != nil {
			result.Error = err.Error()
		}
		s.result <- result
	})
	mux.HandleFunc("GET /{$}", file("testdata/versions.html"))
	mux.HandleFunc("GET /versions.js", file("testdata/versions.js"))
	return mux
}

// noting notes the requests for WebSockets, as they come from net/http or quic-go.
func (s *site) noting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect || r.Header.Get("Upgrade") != "" {
			protocol := r.Proto // where quic-go has it
			switch r.ProtoMajor {
			case 1:
				protocol = r.Header.Get("Upgrade")
			case 2:
				protocol = r.Header[":protocol"][0]
			}
			s.mu.Lock()
			s.requests = append(s.requests, fmt.Sprintf("%s %s over HTTP/%d", r.Method, protocol, r.ProtoMajor))
			s.from[r.RemoteAddr] = true
			s.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}

// serve serves the site over TLS, with HTTP/2 and HTTP/1.1, and returns the URL of its page.
func (s *site) serve(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: s.handler(), TLSConfig: serverTLS(t)}
	server.TLSConfig.NextProtos = []string{"h2", "http/1.1"}
	wsd.ConfigureHTTP2(server)
	server.Handler = s.noting(server.Handler)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.ServeTLS(listener, "", "")
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return fmt.Sprintf("https://%s/", listener.Addr())
}

// serve3 serves it over HTTP/3 alone.
func (s *site) serve3(t *testing.T) string {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http3.Server{Handler: s.noting(h3.Handler(s.handler())), TLSConfig: http3.ConfigureTLSConfig(serverTLS(t))}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(packets)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
		_ = packets.Close()
	})
	return fmt.Sprintf("https://%s/", packets.LocalAddr())
}

// expect waits for what the page tells, and compares it with what the server has seen.
func (s *site) expect(t *testing.T, protocol string, major int) {
	t.Helper()
	var told siteResult
	select {
	case told = <-s.result:
	case <-bounded(t).Done():
		require.FailNow(t, "the page has told nothing")
	}
	require.Empty(t, told.Error)
	require.Equal(t, protocol, told.Protocol)
	require.Len(t, told.Sockets, 23)
	for _, socket := range told.Sockets {
		want := socketResult{Path: socket.Path, Opened: true, Subprotocol: "echo", Extensions: socket.Extensions}
		switch socket.Path {
		case "closes":
			want.Clean, want.Code, want.Reason = true, 4001, "enough"
		case "cuts":
			want.Code = wsd.StatusAbnormalClosure
		case "refuses":
			want = socketResult{Path: socket.Path, Code: wsd.StatusAbnormalClosure}
		default:
			want.Clean, want.Code = true, 4000 // whose answer has no reason
			want.Text, want.Binary = "Gr\u00fc\u00dfe", true
		}
		require.Equal(t, want, socket)
		require.Equal(t, want.Opened, strings.Contains(socket.Extensions, "permessage-deflate"))
	}
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.ends["/echo"]) == 20 && len(s.ends["/closes"]) == 1 && len(s.ends["/cuts"]) == 1
	}, patience, 10*time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, end := range s.ends["/echo"] {
		require.Equal(t, wsd.CloseEvent{Code: 4000, Reason: "done", SentCode: 4000, Clean: true, Err: end.Err}, end)
	}
	require.True(t, s.ends["/closes"][0].Clean)
	require.Len(t, s.requests, 23)
	for _, request := range s.requests {
		if major == 1 { // as a proxy asks
			require.Equal(t, "GET websocket over HTTP/1", request)
		} else {
			require.Equal(t, fmt.Sprintf("CONNECT websocket over HTTP/%d", major), request)
		}
	}
	if major > 1 {
		require.LessOrEqual(t, len(s.from), 3, "they share connections") // Firefox may make another in between
	}
}

const whatBrowsersDo = "a page and its WebSockets over %s: 20 at a time, 1 MiB, compression, and ends of either side"

func TestChromiumOverHTTP2(t *testing.T) {
	s := newSite()
	tab := tab{t, browser(t)}
	results.addExtra(t, "chromium", fmt.Sprintf(whatBrowsersDo, "HTTP/2"), "wss")
	tab.do(chromedp.Navigate(s.serve(t)))
	s.expect(t, "h2", 2)
}

// TestChromiumOverHTTP3 sets the flags by which Chromium does what it does not do by itself today.
func TestChromiumOverHTTP3(t *testing.T) {
	version := versionOf(t, program(t, "chromium"), "--version", "--no-sandbox")
	if major, _ := strconv.Atoi(version[:strings.IndexByte(version, '.')]); major < 156 {
		missing(t, "chromium 156 (148's network service crashes at the end of a WebSocket over HTTP/3)")
	}
	s := newSite()
	page := s.serve3(t)
	address := strings.TrimSuffix(strings.TrimPrefix(page, "https://"), "/")
	tab := tab{t, browser(t,
		chromedp.Flag("disable-quic", false),
		chromedp.Flag("enable-features", "EnableWebsocketsOverHttp3"),
		chromedp.Flag("origin-to-force-quic-on", address),
		chromedp.Flag("ignore-certificate-errors-spki-list", keyHash(t)),
	)}
	results.addExtra(t, "chromium", fmt.Sprintf(whatBrowsersDo, "HTTP/3"), "wss")
	tab.do(chromedp.Navigate(page))
	s.expect(t, "h3", 3)
}

// keyHash is the hash of the server's public key, as Chromium wants it.
func keyHash(t *testing.T) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(certificateFile(), keyFile())
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(pair.Certificate[0])
	require.NoError(t, err)
	hash := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(hash[:])
}

func TestFirefoxOverHTTP2(t *testing.T) {
	s := newSite()
	page := s.serve(t)
	results.addExtra(t, "firefox", fmt.Sprintf(whatBrowsersDo, "HTTP/2"), "wss")
	startFirefox(t, page)
	s.expect(t, "h2", 2)
}

// startFirefox shows a page in Firefox, without a window, until the test ends.
func startFirefox(t *testing.T, page string, more ...string) {
	t.Helper()
	firefox := program(t, "firefox-esr")
	results.version("firefox", versionOf(t, firefox, "--version"))
	profile := t.TempDir()
	prefs := []string{
		`user_pref("browser.shell.checkDefaultBrowser", false);`,
		`user_pref("browser.aboutwelcome.enabled", false);`,
		`user_pref("datareporting.policy.dataSubmissionEnabled", false);`,
		`user_pref("app.update.enabled", false);`,
		`user_pref("network.proxy.type", 0);`,
	}
	require.NoError(t, os.WriteFile(filepath.Join(profile, "user.js"), []byte(strings.Join(append(prefs, more...), "\n")), 0o600))
	database := "sql:" + profile
	run(t, program(t, "certutil"), "-N", "-d", database, "--empty-password")
	run(t, program(t, "certutil"), "-A", "-d", database, "-n", "authority", "-t", "C,,", "-i", authorityFile())
	cmd := exec.Command(firefox, "--headless", "--no-remote", "--profile", profile, page)
	cmd.Env = append(os.Environ(), "HOME="+profile)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}
