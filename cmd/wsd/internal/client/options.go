// Package client is what all verbs that connect to a server have in common: the flags of a connection, and the handshake as
// it was sent and answered.
package client

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
)

// Options are the flags of a connection.
type Options struct {
	headers      []string
	subprotocols []string
	origin, auth string
	jarFile      string
	certificates Certificates
	insecure     bool
	proxy        string
	unix         string
	resolve      []string

	Compress     bool
	MaxSize      int64
	PingInterval time.Duration
	Timeout      time.Duration

	jar *Jar
}

// Declare declares the flags that say who asks, and how the server is reached.
func (o *Options) Declare(f *cli.Flags) {
	o.Timeout = 10 * time.Second
	f.Group("Handshake")
	f.Strings(&o.headers, "H", "'NAME: VALUE'", "add a header field, repeatable").Common()
	f.Set("subprotocol", "NAME", "ask for a subprotocol, repeatable or with commas", func(s string) error {
		for name := range strings.SplitSeq(s, ",") {
			o.subprotocols = append(o.subprotocols, strings.TrimSpace(name))
		}
		return nil
	}).Common()
	f.String(&o.origin, "origin", "ORIGIN", "the web page that the connection claims to come from")
	f.String(&o.auth, "auth", "USER:PASSWORD", "basic authentication").Common()
	f.String(&o.jarFile, "cookie-jar", "FILE", "take cookies from a file in curl's format, and keep new ones there").File()
	f.Duration(&o.Timeout, "timeout", "how long the handshake may take")
	f.Group("Network")
	o.DeclareTLS(f)
	f.String(&o.proxy, "proxy", "URL", "go through a proxy: http, https or socks5; none means no proxy (HTTP_PROXY and its like)")
	f.String(&o.unix, "unix", "PATH", "connect to a unix socket, whatever the URL's host").File()
	f.Strings(&o.resolve, "resolve", "HOST:PORT:ADDRESS", "connect to this address instead of what a name stands for, repeatable")
}

// DeclareTLS declares the flags of certificates.
func (o *Options) DeclareTLS(f *cli.Flags) {
	f.Bool(&o.insecure, "insecure", "do not verify the server's certificate").Common()
	f.String(&o.certificates.Roots, "cacert", "FILE", "trust the authorities in a PEM file, and no others").File()
	f.String(&o.certificates.Cert, "cert", "FILE", "the client's certificate, PEM").File()
	f.String(&o.certificates.Key, "key", "FILE", "its key, PEM, where that is not in the same file").File()
}

// DeclareConfig declares the flags of the connection behind the handshake.
func (o *Options) DeclareConfig(f *cli.Flags) {
	f.Group("Connection")
	f.Bool(&o.Compress, "compress", "ask for permessage-deflate").Common()
	f.Size(&o.MaxSize, "max-size", "the longest message to take; 0 means 64 MiB - 1")
	f.Duration(&o.PingInterval, "ping-interval", "the time between pings; 0 means 30s")
}

// URL makes a URL of what was typed: without a scheme it is ws, and without a host it is this machine's.
func URL(typed string) (string, error) {
	whole := typed
	if !strings.Contains(typed, "://") {
		if strings.HasPrefix(typed, ":") {
			typed = "127.0.0.1" + typed
		}
		whole = "ws://" + typed
	}
	u, err := url.Parse(whole)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return "", cli.Usagef("the URL %q: %v", typed, err)
	}
	switch u.Scheme {
	case "ws", "wss", "http", "https":
	default:
		return "", cli.Usagef("the URL %q: expected ws:// or wss://, got %s://", typed, u.Scheme)
	}
	switch {
	case u.Hostname() == "":
		return "", cli.Usagef("the URL %q: expected a host, as in ws://127.0.0.1:8080/", typed)
	case u.Fragment != "" || strings.Contains(whole, "#"):
		return "", cli.Usagef("the URL %q: expected no fragment (a # in a path is written %%23)", typed)
	}
	return whole, nil
}

// Shown returns a URL as it may be shown: without a password.
func Shown(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return u.Redacted()
}

// TLS returns the settings that the flags ask for.
func (o *Options) TLS() (*tls.Config, error) {
	config, err := o.certificates.Config()
	if err != nil {
		return nil, err
	}
	config.InsecureSkipVerify = o.insecure
	return config, nil
}

// header returns the header fields that the flags ask for.
func (o *Options) header() (http.Header, error) {
	header := make(http.Header)
	for _, field := range o.headers {
		name, value, ok := strings.Cut(field, ":")
		value = strings.TrimSpace(value)
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, cli.Usagef("-H: expected 'NAME: VALUE', got %q", field)
		}
		header[name] = append(header[name], value)
	}
	if o.origin != "" {
		header.Set("Origin", o.origin)
	}
	if o.auth != "" {
		if !strings.Contains(o.auth, ":") {
			return nil, cli.Usagef("-auth: expected USER:PASSWORD, got no colon")
		}
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(o.auth)))
	}
	return header, nil
}

// DialOptions returns what the flags ask for, ready for Dial.
func (o *Options) DialOptions() (*wsd.DialOptions, error) {
	header, err := o.header()
	if err != nil {
		return nil, err
	}
	for _, name := range o.subprotocols {
		if !httpguts.ValidHeaderFieldName(name) {
			return nil, cli.Usagef("-subprotocol: expected a token, got %q", name)
		}
	}
	transport, err := o.transport()
	if err != nil {
		return nil, err
	}
	dial := &wsd.DialOptions{
		HTTPClient:       &http.Client{Transport: transport},
		Header:           header,
		Subprotocols:     o.subprotocols,
		HandshakeTimeout: o.Timeout,
		Config:           wsd.Config{MaxMessageSize: o.MaxSize, PingInterval: o.PingInterval},
	}
	if o.Compress {
		dial.Compression = &wsd.Compression{}
	}
	if o.jarFile != "" {
		if o.jar == nil {
			if o.jar, err = OpenJar(o.jarFile); err != nil {
				return nil, cli.Usagef("-cookie-jar: %v", err)
			}
		}
		dial.HTTPClient.Jar = o.jar
	}
	return dial, nil
}

// SaveCookies writes the cookie jar, if there is one.
func (o *Options) SaveCookies() error {
	if o.jar == nil {
		return nil
	}
	return o.jar.Save()
}

func (o *Options) transport() (*http.Transport, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	var err error
	if transport.TLSClientConfig, err = o.TLS(); err != nil {
		return nil, err
	}
	transport.TLSHandshakeTimeout = 0 // -timeout holds for the whole
	switch o.proxy {
	case "":
	case "none":
		transport.Proxy = nil
	default:
		proxy, err := url.Parse(o.proxy)
		if err != nil || proxy.Host == "" {
			return nil, cli.Usagef("-proxy: expected a URL such as http://127.0.0.1:3128 or none, got %q", o.proxy)
		}
		switch proxy.Scheme {
		case "http", "https", "socks5", "socks5h":
		default:
			return nil, cli.Usagef("-proxy: expected http, https or socks5, got %s", proxy.Scheme)
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	if transport.DialContext, err = o.dialFunc(); err != nil {
		return nil, err
	}
	if o.unix != "" {
		transport.Proxy = nil
	}
	return transport, nil
}

// splitResolve takes HOST:PORT:ADDRESS apart.
func splitResolve(s string) (from, to string, err error) {
	host, rest, ok := strings.Cut(s, ":")
	port, address, ok2 := strings.Cut(rest, ":")
	address = strings.Trim(address, "[]")
	if !ok || !ok2 || host == "" || port == "" || net.ParseIP(address) == nil {
		return "", "", cli.Usagef("-resolve: expected HOST:PORT:ADDRESS as in example.com:443:127.0.0.1, got %q", s)
	}
	return net.JoinHostPort(strings.ToLower(host), port), net.JoinHostPort(address, port), nil
}

// Describe says in a line why a handshake failed, without the prefix of errors.
func Describe(err error) string {
	text := err.Error()
	var handshake *wsd.HandshakeError
	if errors.As(err, &handshake) && handshake.StatusCode == 0 && handshake.Err != nil {
		var op *net.OpError
		var unknown x509.UnknownAuthorityError
		switch {
		case errors.As(err, &unknown):
			return "the server's certificate is signed by an unknown authority (-cacert FILE trusts one, -insecure does not ask)"
		case errors.As(err, &op) && op.Op == "dial" && op.Addr != nil:
			return fmt.Sprintf("cannot connect to %s: %v", op.Addr, op.Err)
		}
	}
	return strings.TrimPrefix(text, "wsd: ")
}
