// certificate.go has the certificate of wss: from files, or made at the start.

package serve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"net"
	"time"

	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
)

// Security is how to speak TLS, if at all.
type Security struct {
	Config      *tls.Config // nil: do not
	Fingerprint string      // what the certificate is recognized by
}

// tls returns what the flags ask for. A certificate made now is for the address, and for this machine's own names.
func (o *options) tls(address string) (Security, error) {
	if o.certFile == "" && !o.selfSigned {
		return Security{}, nil
	}
	return Certificate("", o.certFile, o.keyFile, address)
}

// Certificate returns the certificate of a file, or one made now for an address if there is no file. Prefix stands before the
// names of the flags, cert and key.
func Certificate(prefix, certFile, keyFile, address string) (Security, error) {
	var pair tls.Certificate
	var err error
	what := "made now, SHA-256 "
	if certFile != "" {
		if keyFile == "" {
			keyFile = certFile
		}
		if pair, err = tls.LoadX509KeyPair(certFile, keyFile); err != nil {
			return Security{}, cli.Usagef("-%[1]scert %[2]s, -%[1]skey %[3]s: %[4]v", prefix, certFile, keyFile, err)
		}
		what = "of " + certFile + ", SHA-256 "
	} else if pair, err = makeCertificate(address); err != nil {
		return Security{}, err
	}
	sum := sha256.Sum256(pair.Certificate[0])
	return Security{&tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}, what + hex.EncodeToString(sum[:])}, nil
}

func makeCertificate(address string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "wsd serve"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(365 * 24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if host, _, err := net.SplitHostPort(address); err == nil {
		if ip := net.ParseIP(host); ip == nil {
			template.DNSNames = append(template.DNSNames, host)
		} else if !ip.IsUnspecified() && !ip.IsLoopback() {
			template.IPAddresses = append(template.IPAddresses, ip)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
