// Golang runs each of the Go libraries as a peer: "golang gorilla server", "golang coder client" and so on. peer.mjs
// describes how peers are told what to do, and how they report what happened.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/seed62836080/wsd"
)

// maxMessage is the largest message that the peers take, in bytes, where that can be said.
const maxMessage = 128 << 20

// subprotocols are what the servers speak.
var subprotocols = []string{"wsd.v1", "wsd.v2"}

// library is one of the libraries.
type library struct {
	module  string
	cannot  map[string]string // which of the tests' cases it cannot take part in, and why
	serve   http.HandlerFunc  // returns when the connection has ended, and has told of it
	connect func(order) error // returns when the connection has ended, and has told of it, or could not be made
	http2   bool              // its servers know HTTP/2 in clear text, too
}

var libraries = map[string]library{
	"gorilla": gorilla,
	"coder":   coder,
	"gws":     gwsLibrary,
	"gobwas":  gobwas,
	"wsd":     wsdLibrary,
}

// order is what a client is told.
type order struct {
	URL          string   `json:"url"`
	Subprotocols []string `json:"subprotocols"`
	Compress     bool     `json:"compress"`
}

func (o order) id() string {
	target, err := url.Parse(o.URL)
	check(err)
	return target.Path
}

// session is a connection as obey needs it. Its methods are called from the goroutine that reads.
type session interface {
	send(data []byte, text bool) error
	ping(data string) error
	close(code int, reason string) error // code 0: none
	abort()
	fragments(parts []string) error
}

// obey does what a text message that begins with "!" asks for, and sends every other message back.
func obey(s session, data []byte, text bool) error {
	if !text || len(data) == 0 || data[0] != '!' {
		return s.send(data, text)
	}
	var o struct {
		Do           string
		Code, Size   int
		Parts        int
		Reason, Data string
	}
	if err := json.Unmarshal(data[1:], &o); err != nil {
		return err
	}
	switch o.Do {
	case "close":
		return s.close(o.Code, o.Reason)
	case "abort":
		s.abort()
		return nil
	case "ping":
		return s.ping(o.Data)
	case "say":
		return s.send([]byte(strings.Repeat("s", o.Size)), true)
	case "fragments":
		parts := make([]string, o.Parts)
		for i := range parts {
			parts[i] = strings.Repeat(string(rune('a'+i)), o.Size)
		}
		return s.fragments(parts)
	}
	return fmt.Errorf("unknown order %s", data)
}

// event is what the tests are told.
type event struct {
	Event       string            `json:"event"`
	ID          string            `json:"id,omitempty"`
	Version     string            `json:"version,omitempty"`
	WS          int               `json:"ws,omitempty"`
	WSS         int               `json:"wss,omitempty"`
	Cannot      map[string]string `json:"cannot,omitempty"`
	Subprotocol string            `json:"subprotocol"`
	Extensions  string            `json:"extensions"`
	Code        int               `json:"code,omitempty"`
	Reason      string            `json:"reason"`
	Data        string            `json:"data,omitempty"`
	Error       string            `json:"error,omitempty"`
}

var output sync.Mutex

func tell(e event) {
	line, err := json.Marshal(e)
	check(err)
	output.Lock()
	defer output.Unlock()
	_, _ = os.Stdout.Write(append(line, '\n'))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	lib, ok := libraries[os.Args[1]]
	if !ok {
		check(fmt.Errorf("unknown library %q", os.Args[1]))
	}
	ready := event{Event: "ready", Version: version(lib.module), Cannot: lib.cannot}
	if os.Args[2] == "server" {
		ready.WS = lib.listen(nil)
		cert, err := tls.LoadX509KeyPair(os.Getenv("WSD_CERT"), os.Getenv("WSD_KEY"))
		check(err)
		// HTTP/2 is left out, which has another handshake.
		ready.WSS = lib.listen(&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	}
	tell(ready)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var o order
		check(json.Unmarshal(lines.Bytes(), &o))
		go func() {
			if err := lib.connect(o); err != nil {
				tell(event{Event: "failed", ID: o.id(), Error: err.Error()})
			}
		}()
	}
}

// listen serves on a free port of this machine and returns it.
func (l library) listen(config *tls.Config) int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	port := listener.Addr().(*net.TCPAddr).Port
	if config != nil {
		listener = tls.NewListener(listener, config)
	}
	server := &http.Server{Handler: l.serve, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	if l.http2 {
		server.Protocols.SetUnencryptedHTTP2(true)
		wsd.ConfigureHTTP2(server)
	}
	go func() { check(server.Serve(listener)) }()
	return port
}

// trust is the TLS configuration of clients.
func trust() *tls.Config {
	pem, err := os.ReadFile(os.Getenv("WSD_CA"))
	check(err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		check(fmt.Errorf("no certificate in WSD_CA"))
	}
	return &tls.Config{RootCAs: pool}
}

// version returns the version of a module that this program is built with.
func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, dep := range info.Deps {
		if dep.Path == module {
			if r := dep.Replace; r != nil && r.Version != "" {
				return r.Version
			}
			if dep.Replace != nil || dep.Version == "(devel)" || strings.HasSuffix(dep.Version, "v0.0.0") {
				return "this tree"
			}
			return dep.Version
		}
	}
	return "this tree"
}
