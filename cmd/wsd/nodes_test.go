// nodes_test.go has several processes of wsd serve broadcast together.

package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// node starts a process that broadcasts, and returns its URL, and the address on which it waits for others.
func node(t *testing.T, args ...string) (url, cluster string) {
	t.Helper()
	p := start(t, append([]string{"serve", "127.0.0.1:0", "-broadcast", "-cluster", "127.0.0.1:0"}, args...)...)
	said := p.stderr.wait(t, `listening on (ws://[^,\s]+), broadcasting by path with all who -join (\S+)`)
	return said[1], said[2]
}

// arrives waits until what is published on one connection comes to another. Nodes may find each other a moment later.
func arrives(t *testing.T, from, to *wsd.Conn) {
	t.Helper()
	require.Eventually(t, func() bool {
		sendText(t, from, "news")
		select {
		case m, ok := <-to.Messages():
			return assert.True(t, ok) && assert.Equal(t, "news", m.String())
		case <-time.After(100 * time.Millisecond):
			return false
		}
	}, patience, time.Millisecond)
}

func TestServeBroadcastsByManyNodes(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("swordfish\n"), 0o600))
	first, seed := node(t, "-secret", secret)
	second, _ := node(t, "-secret", secret, "-join", seed)
	third, _ := node(t, "-secret", secret, "-join", seed)
	for _, path := range []string{"news", strings.Repeat("long/", 400), "*", ">", "a.b/./%20/é"} {
		from, to, other := connect(t, first+path, nil), connect(t, second+path, nil), connect(t, third+path, nil)
		arrives(t, from, to)
		arrives(t, to, other)
	}
	alone := connect(t, second+"elsewhere", nil)
	arrives(t, connect(t, first+"there", nil), connect(t, second+"there", nil))
	sendText(t, alone, "own")
	assert.Equal(t, "own", receive(t, alone), "nothing of other paths")
	require.Eventually(t, func() bool { // the first may hear of the third last of all
		_, body := get(t, first+"metrics")
		return strings.Contains(body, "wsd_nodes 3\n")
	}, patience, 20*time.Millisecond)
	_, body := get(t, first+"debug/vars")
	assert.Contains(t, body, `"Routes":`)
}

func TestServeKeepsStrangersOutOfItsNodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	authority, stranger := newAuthority(t, dir, "ours"), newAuthority(t, dir, "theirs")
	certified := func(a *testAuthority, name string) []string {
		return []string{"-node-cacert", authority.file, "-node-cert", a.sign(t, name)}
	}
	first, seed := node(t, certified(authority, "first")...)
	second, _ := node(t, append(certified(authority, "second"), "-join", seed)...)
	outside, _ := node(t, append(certified(stranger, "outside"), "-join", seed)...)
	from, out := connect(t, first, nil), connect(t, outside, nil)
	arrives(t, from, connect(t, second, nil))
	sendText(t, out, "own")
	assert.Equal(t, "own", receive(t, out), "nothing of a cluster that it is not let in")
}

func TestServeBroadcastsByServersOfNATS(t *testing.T) {
	t.Parallel()
	server, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true, Username: "me", Password: "swordfish", MaxPayload: 1000,
	})
	require.NoError(t, err)
	server.Start()
	t.Cleanup(server.Shutdown)
	require.True(t, server.ReadyForConnections(patience))
	address := strings.TrimPrefix(server.ClientURL(), "nats://")
	url := "nats://me:swordfish@" + address
	var conns []*wsd.Conn
	for range 2 {
		where, p := serveProcess(t, "-broadcast", "-nats", url)
		assert.NotContains(t, p.stderr.String(), "swordfish")
		conns = append(conns, connect(t, where+"room", nil))
	}
	arrives(t, conns[0], conns[1])

	require.NoError(t, conns[0].Send(bounded(t), wsd.Binary(make([]byte, 2000))))
	<-conns[0].Closed()
	assert.Equal(t, wsd.StatusMessageTooBig, conns[0].CloseEvent().Code)

	for wrong, want := range map[string]string{
		"nats://me:wrong@" + address:                    "Authorization Violation",
		fmt.Sprintf("nats://127.0.0.1:%d", freePort(t)): "no servers available",
	} {
		r := run(t, "", "serve", "127.0.0.1:0", "-broadcast", "-nats", wrong)
		assert.Equal(t, 1, r.status)
		assert.Regexp(t, "^wsd serve: .*(?i:"+want+")", r.stderr)
	}
}

func TestServeSaysWhatANodeLacks(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-cluster", "6222"}, "-cluster and -nats: expected -broadcast, too"},
		{[]string{"-broadcast", "-cluster", "6222", "-nats", "nats://127.0.0.1"}, "expected one of them"},
		{[]string{"-broadcast", "-cluster", "0.0.0.0:6222"}, "expected -secret, or -node-cert and -node-cacert"},
		{[]string{"-broadcast", "-cluster", "unix:x"}, "expected an address such as 6222"},
		{[]string{"-broadcast", "-cluster", "6222", "-join", "nonsense:port"}, "-join: expected an address such as 6222"},
		{[]string{"-broadcast", "-join", "6222"}, "-join: expected -cluster"},
		{[]string{"-broadcast", "-secret", empty}, "-secret: expected -cluster"},
		{[]string{"-broadcast", "-cluster", "6222", "-secret", empty}, "-secret: expected something in "},
		{[]string{"-broadcast", "-cluster", "6222", "-secret", empty + "x"}, "-secret: "},
		{[]string{"-broadcast", "-cluster", "6222", "-node-cert", empty}, "expected both"},
		{[]string{"-broadcast", "-cluster", "6222", "-node-cert", empty, "-node-cacert", empty}, "-node-cacert: "},
		{[]string{"-broadcast", "-nats-creds", empty}, "-nats-creds: expected -nats"},
		{[]string{"-broadcast", "-node-key", empty}, "expected -cluster or -nats"},
	} {
		r := run(t, "", append([]string{"serve", "127.0.0.1:0"}, c.args...)...)
		assert.Equal(t, 2, r.status, "%v: %s", c.args, r.stderr)
		assert.Contains(t, strings.SplitN(r.stderr, "\n", 2)[0], c.want)
	}
}

// testAuthority signs certificates of servers and of clients, and keeps them in files.
type testAuthority struct {
	dir, file   string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir, name string) *testAuthority {
	t.Helper()
	a := &testAuthority{dir: dir, file: filepath.Join(dir, name+".pem")}
	a.certificate = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = writePair(t, a.file, a.certificate, a.certificate, nil)
	return a
}

// sign returns a file with a certificate for 127.0.0.1 and its key.
func (a *testAuthority) sign(t *testing.T, name string) string {
	t.Helper()
	file := filepath.Join(a.dir, name+".pem")
	writePair(t, file, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.certificate, a.key)
	return file
}

// writePair makes a key, and writes it and its certificate, signed by a parent or by itself, into a file.
func writePair(t *testing.T, file string, template, parent *x509.Certificate, by *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	if by == nil {
		by = key
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	content := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})
	content = append(content, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	require.NoError(t, os.WriteFile(file, content, 0o600))
	return key
}
