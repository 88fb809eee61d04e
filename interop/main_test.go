// main_test.go prepares what all tests share, certificates above all, and writes the table at the end.

package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var writeTable = flag.Bool("write-table", false, "write docs/interop.md from what has been run")

// patience bounds whatever waits for a peer. It decides when a test has failed, never whether one succeeds.
const patience = 30 * time.Second

// shared is a directory with certificates and built peers, for the time of the run.
var shared string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		var err error
		if shared, err = os.MkdirTemp("", "wsd-interop-"); err == nil {
			defer os.RemoveAll(shared)
			err = writeCertificates()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		code := m.Run()
		if *writeTable {
			if err := results.write(filepath.Join("..", "docs", "interop.md")); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return code
	}())
}

// missing ends a test whose peer is not installed.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("WSD_INTEROP") == "required" {
		t.Fatalf("%s is not installed, run interop/setup.sh", what)
	}
	t.Skipf("%s is not installed", what)
}

// program returns the path of a program, which Debian may keep where only root looks.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, candidate := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	missing(t, name)
	return ""
}

// The files in shared: an authority that the clients trust, and a certificate by it for 127.0.0.1 and localhost. bundle is
// that with its key, as haproxy wants it.
func authorityFile() string   { return filepath.Join(shared, "authority.pem") }
func certificateFile() string { return filepath.Join(shared, "certificate.pem") }
func keyFile() string         { return filepath.Join(shared, "key.pem") }
func bundleFile() string      { return filepath.Join(shared, "bundle.pem") }

func writeCertificates() error {
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	authority := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "wsd interop authority"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "localhost"},
		NotBefore:    authority.NotBefore,
		NotAfter:     authority.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), authorityKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	authorityPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authorityDER})
	leafPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	for path, content := range map[string][]byte{
		authorityFile():   authorityPEM,
		certificateFile(): leafPEM,
		keyFile():         keyPEM,
		bundleFile():      append(append([]byte{}, leafPEM...), keyPEM...),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// serverTLS is the configuration of wsd's server.
func serverTLS(t *testing.T) *tls.Config {
	t.Helper()
	certificate, err := tls.LoadX509KeyPair(certificateFile(), keyFile())
	require.NoError(t, err)
	return &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}}
}

// clientTLS is the configuration of wsd's client.
func clientTLS(t *testing.T) *tls.Config {
	t.Helper()
	authority, err := os.ReadFile(authorityFile())
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(authority))
	return &tls.Config{RootCAs: pool}
}

// builds are programs of this repository, each built once a run.
var builds = struct {
	sync.Mutex
	done map[string]func() (string, error)
}{done: map[string]func() (string, error){}}

// build builds the program in dir, a path from here, and returns its path.
func build(t *testing.T, dir string) string {
	t.Helper()
	builds.Lock()
	once, ok := builds.done[dir]
	if !ok {
		once = sync.OnceValues(func() (string, error) {
			path := filepath.Join(shared, filepath.Base(dir))
			out, err := exec.Command("go", "build", "-C", dir, "-o", path, ".").CombinedOutput()
			if err != nil {
				err = fmt.Errorf("go build in %s: %w\n%s", dir, err, out)
			}
			return path, err
		})
		builds.done[dir] = once
	}
	builds.Unlock()
	path, err := once()
	require.NoError(t, err)
	return path
}
