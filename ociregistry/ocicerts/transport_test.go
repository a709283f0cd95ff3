package ocicerts

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

// pair is a certificate that is its own authority, and its key.
type pair struct {
	tls.Certificate
	cert, key []byte // in PEM
}

func newPair(t *testing.T) pair {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	qt.Assert(t, qt.IsNil(err))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	qt.Assert(t, qt.IsNil(err))
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	qt.Assert(t, qt.IsNil(err))
	p := pair{
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
	p.Certificate, err = tls.X509KeyPair(p.cert, p.key)
	qt.Assert(t, qt.IsNil(err))
	return p
}

// serve runs a server that answers with the number of certificates that the client has shown.
func serve(t *testing.T, p pair) (host string) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		io.WriteString(w, strings.Repeat("x", len(req.TLS.PeerCertificates)))
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{p.Certificate}, ClientAuth: tls.RequestClientCert}
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "https://")
}

func write(t *testing.T, dir string, files map[string][]byte) {
	qt.Assert(t, qt.IsNil(os.MkdirAll(dir, 0o777)))
	for name, text := range files {
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, name), text, 0o666)))
	}
}

// get returns how many certificates a host was shown.
func get(t *testing.T, tr *Transport, host string) (int, error) {
	t.Helper()
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("https://" + host + "/")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	qt.Assert(t, qt.IsNil(err))
	return len(body), nil
}

func TestTransport_ShowsCertificatesToTheRegistryAlone(t *testing.T) {
	t.Parallel()
	server, other, client := newPair(t), newPair(t), newPair(t)
	registry, storage, unknown := serve(t, server), serve(t, other), serve(t, newPair(t))
	dir := t.TempDir()
	write(t, filepath.Join(dir, registry), map[string][]byte{"ca.crt": server.cert, "a.cert": client.cert, "a.key": client.key, "README": nil})
	write(t, filepath.Join(dir, storage), map[string][]byte{"ca.crt": other.cert, "a.cert": client.cert, "a.key": client.key})
	tr, err := NewTransport(registry, &Options{Dirs: []string{filepath.Join(dir, "absent"), dir}})
	qt.Assert(t, qt.IsNil(err))
	n, err := get(t, tr, registry)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(n, 1))
	n, err = get(t, tr, storage)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(n, 0))
	_, err = get(t, tr, unknown)
	qt.Check(t, qt.ErrorMatches(err, ".*certificate signed by unknown authority.*"))
}

func TestTransport_ReadsFilesThatHaveChanged(t *testing.T) {
	t.Parallel()
	server, client := newPair(t), newPair(t)
	registry := serve(t, server)
	dir := t.TempDir()
	tr, err := NewTransport(registry, &Options{Dirs: []string{dir}})
	qt.Assert(t, qt.IsNil(err))
	now := time.Now()
	tr.now = func() time.Time { return now }
	_, err = get(t, tr, registry)
	qt.Check(t, qt.ErrorMatches(err, ".*certificate signed by unknown authority.*"))

	path := filepath.Join(dir, registry)
	write(t, path, map[string][]byte{"ca.crt": server.cert})
	_, err = get(t, tr, registry)
	qt.Check(t, qt.IsNotNil(err), qt.Commentf("it is not looked at for each request"))
	for _, step := range []struct {
		change func()
		want   int
		err    string
	}{
		{func() {}, 0, ""},
		{func() { write(t, path, map[string][]byte{"a.cert": client.cert}) }, 0, ".*a.cert and .*a.key: .*no such file.*"},
		{func() { write(t, path, map[string][]byte{"a.key": client.key}) }, 1, ""},
		{func() { os.Remove(filepath.Join(path, "a.cert")) }, 0, ".*a.key: the certificate of the key is missing"},
		{func() { os.Remove(filepath.Join(path, "a.key")) }, 0, ""},
		{func() { write(t, path, map[string][]byte{"b.crt": []byte("nonsense")}) }, 0, ".*b.crt: no certificates in it"},
		{func() { os.Remove(filepath.Join(path, "b.crt")) }, 0, ""},
		{func() { os.RemoveAll(path) }, 0, ".*certificate signed by unknown authority.*"},
	} {
		step.change()
		now = now.Add(maxAge)
		n, err := get(t, tr, registry)
		if step.err == "" {
			qt.Check(t, qt.IsNil(err))
		} else {
			qt.Check(t, qt.ErrorMatches(err, step.err))
		}
		qt.Check(t, qt.Equals(n, step.want))
	}
}

func TestTransport_KnowsBothSpellingsOfAHost(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		host string
		want []string
	}{
		{"registry.example", []string{"registry.example", "registry.example:443"}},
		{"registry.example:443", []string{"registry.example:443", "registry.example"}},
		{"registry.example:5000", []string{"registry.example:5000"}},
		{"[::1]", []string{"[::1]", "[::1]:443"}},
		{"[::1]:5000", []string{"[::1]:5000"}},
	} {
		qt.Check(t, qt.DeepEquals(spellings(test.host), test.want))
	}
}

// TestTransport_MakesNoPathsOfWhatIsNoHost has directories that names lead to which are none.
func TestTransport_MakesNoPathsOfWhatIsNoHost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string][]byte{"ca.crt": []byte("nonsense")})
	write(t, filepath.Join(dir, "certs"), nil)
	tr, err := NewTransport("registry.example", &Options{Dirs: []string{filepath.Join(dir, "certs")}})
	qt.Assert(t, qt.IsNil(err))
	for _, host := range []string{"..", ".", "", "../", "a/..", `..\`, "..:443", "a:b", "[::1%25..]"} {
		transport, err := tr.to(&url.URL{Scheme: "https", Host: host})
		qt.Check(t, qt.IsNil(err), qt.Commentf("%q", host))
		qt.Check(t, qt.Equals(transport, tr.base), qt.Commentf("%q", host))
		_, err = NewTransport(host, nil)
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%q", host))
	}
}

func TestTransport_ShowsNoCertificateToAProxy(t *testing.T) {
	t.Parallel()
	client := newPair(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "registry.example"), map[string][]byte{"a.cert": client.cert, "a.key": client.key})
	tr, err := NewTransport("registry.example", &Options{
		Dirs: []string{dir},
		Transport: &http.Transport{Proxy: func(*http.Request) (*url.URL, error) {
			return url.Parse("https://proxy.example")
		}},
	})
	qt.Assert(t, qt.IsNil(err))
	_, err = get(t, tr, "registry.example")
	qt.Check(t, qt.ErrorMatches(err, ".*a proxy with TLS would be offered the certificate of the client"))
}
