// tls_test.go joins nodes by TLS with certificates on both sides, without a secret.

package natsbroker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pool        *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	require.NoError(t, err)
	a.certificate, err = x509.ParseCertificate(signed)
	require.NoError(t, err)
	a.pool.AddCert(a.certificate)
	return a
}

// config is what a node with a certificate of this authority has.
func (a *authority) config(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	require.NoError(t, err)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{signed}, PrivateKey: key}},
		RootCAs:      a.pool, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
}

func TestNodesNeedACertificate(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	first := start(t, Options{Listen: "127.0.0.1:0", TLS: ours.config(t)})
	join := func(config *tls.Config) *Broker {
		return start(t, Options{Listen: "127.0.0.1:0", TLS: config, Routes: []string{first.Addr()}, Timeout: 2 * time.Second})
	}
	stranger := theirs.config(t)
	stranger.RootCAs = ours.pool // it trusts, and is not trusted
	require.Zero(t, join(stranger).Stats().Routes)
	require.Zero(t, join(nil).Stats().Routes)
	member := join(ours.config(t))
	require.Eventually(t, func() bool { return member.Stats().Routes == 1 }, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, 1, first.Stats().Routes)
}
