// certificates.go has the certificates of TLS: whom to trust, and what to show.

package client

import (
	"crypto/tls"
	"crypto/x509"
	"os"

	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
)

// Certificates are files in PEM. Prefix stands before the names of their flags: cacert, cert and key.
type Certificates struct{ Prefix, Roots, Cert, Key string }

// Given reports whether there is any.
func (c *Certificates) Given() bool { return c.Roots+c.Cert+c.Key != "" }

// Config returns what they mean for TLS.
func (c *Certificates) Config() (*tls.Config, error) {
	config := new(tls.Config)
	if c.Roots != "" {
		pem, err := os.ReadFile(c.Roots)
		if err != nil {
			return nil, cli.Usagef("-%scacert: %v", c.Prefix, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, cli.Usagef("-%scacert: %s: expected certificates in PEM", c.Prefix, c.Roots)
		}
	}
	switch key := c.Key; {
	case c.Cert != "":
		if key == "" {
			key = c.Cert
		}
		pair, err := tls.LoadX509KeyPair(c.Cert, key)
		if err != nil {
			return nil, cli.Usagef("-%[1]scert %[2]s, -%[1]skey %[3]s: %[4]v", c.Prefix, c.Cert, key, err)
		}
		config.Certificates = []tls.Certificate{pair}
	case key != "":
		return nil, cli.Usagef("-%[1]skey: expected -%[1]scert, too", c.Prefix)
	}
	return config, nil
}
