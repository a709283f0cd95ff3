package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

// Ways to reach a registry.
const (
	plainHTTP = "http"
	overHTTP1 = "https over HTTP/1.1"
	overHTTP2 = "https over HTTP/2"
)

// site is a peer that can be reached.
type site struct {
	host   string
	via    string
	tokens *tokenServer // nil unless there are bearer tokens
	roots  *x509.CertPool

	mu     sync.Mutex
	protos map[string]bool // of HTTP, by which it was reached
}

// openSite opens a peer, and what gives tokens for it, until the test ends.
func openSite(t testing.TB, p peer, scheme authScheme, via string) *site {
	s := &site{via: via, protos: make(map[string]bool)}
	a := access{scheme: scheme}
	if scheme == bearer {
		s.tokens = newTokenServer(t)
		s.tokens.url = s.listen(t, s.tokens)
		a.tokens = s.tokens
	}
	registry := p.open(t, a)
	url := s.listen(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.mu.Lock()
		s.protos[req.Proto] = true
		s.mu.Unlock()
		registry.ServeHTTP(w, req)
	}))
	_, s.host, _ = strings.Cut(url, "://")
	return s
}

// listen serves a handler, and returns the URL.
func (s *site) listen(t testing.TB, h http.Handler) string {
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // distribution writes the status twice
	t.Cleanup(srv.Close)
	if s.via == plainHTTP {
		srv.Start()
		return srv.URL
	}
	authority, err := theAuthority()
	if err != nil {
		t.Fatal(err)
	}
	s.roots = authority.roots
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{authority.server}}
	srv.EnableHTTP2 = s.via == overHTTP2
	srv.StartTLS()
	return srv.URL
}

// client returns a client that has connections of its own, and the password.
func (s *site) client(t testing.TB, opts ociclient.Options) ociregistry.Interface {
	return s.clientAs(t, user, password, opts)
}

func (s *site) clientAs(t testing.TB, user, password string, opts ociclient.Options) ociregistry.Interface {
	t.Helper()
	connections := http.DefaultTransport.(*http.Transport).Clone()
	connections.TLSClientConfig = &tls.Config{RootCAs: s.roots}
	t.Cleanup(connections.CloseIdleConnections)
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	config, err := ociauth.LoadWithEnv(nil, []string{fmt.Sprintf(`DOCKER_AUTH_CONFIG={"auths":{%q:{"auth":%q}}}`, s.host, auth)})
	if err != nil {
		t.Fatal(err)
	}
	opts.Transport = ociauth.NewStdTransport(ociauth.StdTransportParams{Config: config, Transport: connections})
	opts.Insecure = s.via == plainHTTP
	reg, err := ociclient.New(s.host, &opts)
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

// authority is a certificate authority, and a server's certificate that it made.
type authority struct {
	roots  *x509.CertPool
	server tls.Certificate
}

var theAuthority = sync.OnceValues(newAuthority)

func newAuthority() (*authority, error) {
	root := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "the tests' own authority"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		NotBefore:    root.NotBefore,
		NotAfter:     root.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		return nil, err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, leafKey.Public(), rootKey)
	if err != nil {
		return nil, err
	}
	rootCert, err := x509.ParseCertificate(rootDER)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(rootCert)
	return &authority{roots, tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: leafKey}}, nil
}
