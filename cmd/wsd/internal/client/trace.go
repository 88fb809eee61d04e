// trace.go shows a handshake as it was sent and answered, as curl -v does.

package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"sync"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
)

// Trace has a Dial with the returned context and options tell on w what is sent and what is answered, but for the last
// answer, which ShowAnswer does.
func Trace(ctx context.Context, w io.Writer, rawURL string, opts *wsd.DialOptions) context.Context {
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(w, cli.Line(fmt.Sprintf(format, args...)))
	}
	target, _ := url.Parse(rawURL)
	first := true
	http1 := *opts.HTTPClient
	follow := http1.CheckRedirect
	http1.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		ShowAnswer(w, req.Response)
		target = req.URL
		if follow != nil {
			return follow(req, via)
		}
		if len(via) >= 10 {
			return fmt.Errorf("stopped after 10 redirects")
		}
		return nil
	}
	opts.HTTPClient = &http1
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			if err == nil && len(state.PeerCertificates) > 0 {
				leaf := state.PeerCertificates[0]
				say("* %s, %s, certificate of %s until %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite),
					leaf.Subject, leaf.NotAfter.Format("2006-01-02"))
			}
		},
		GotConn: func(info httptrace.GotConnInfo) {
			if info.Conn != nil {
				say("* connected to %v", info.Conn.RemoteAddr())
			}
			first = true
		},
		WroteHeaderField: func(name string, values []string) {
			if first {
				say("> GET %s HTTP/1.1", target.RequestURI())
				first = false
			}
			for _, value := range values {
				say("> %s: %s", name, value)
			}
		},
	})
}

// ShowAnswer tells an answer's head.
func ShowAnswer(w io.Writer, response *http.Response) {
	if response == nil {
		return
	}
	fmt.Fprintln(w, cli.Line(fmt.Sprintf("< %s %s", response.Proto, response.Status)))
	for _, name := range slices.Sorted(maps.Keys(response.Header)) {
		for _, value := range response.Header[name] {
			fmt.Fprintln(w, cli.Line(fmt.Sprintf("< %s: %s", name, value)))
		}
	}
}
