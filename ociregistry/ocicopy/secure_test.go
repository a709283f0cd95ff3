package ocicopy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
	"github.com/seed-40b21970/oci/ociserver"
)

// secured is a registry over TLS that requires a client certificate and credentials, and
// counts the requests that reach it.
type secured struct {
	*httptest.Server
	client   tls.Certificate
	requests atomic.Int64
}

func newSecured(t *testing.T, r ociregistry.Interface, scheme string) *secured {
	s := &secured{client: selfSigned(t)}
	registry := ociserver.New(r, nil)
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.requests.Add(1)
		user, password, basic := req.BasicAuth()
		good := basic && user == "me" && password == "secret"
		switch {
		case req.URL.Path == "/token" && good:
			io.WriteString(w, `{"token": "transient"}`)
		case req.URL.Path == "/token":
			w.WriteHeader(http.StatusUnauthorized)
		case scheme == "Basic" && good, scheme == "Bearer" && req.Header.Get("Authorization") == "Bearer transient":
			registry.ServeHTTP(w, req)
		default:
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`%s realm="%s/token"`, scheme, s.URL))
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	roots := x509.NewCertPool()
	roots.AddCert(s.client.Leaf)
	s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// selfSigned returns a certificate that is its own authority.
func selfSigned(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	qt.Assert(t, qt.IsNil(err))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	qt.Assert(t, qt.IsNil(err))
	leaf, err := x509.ParseCertificate(der)
	qt.Assert(t, qt.IsNil(err))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// credentials are those of one host.
type credentials struct {
	host  string
	entry ociauth.ConfigEntry
}

func (c credentials) EntryForRegistry(host string) (ociauth.ConfigEntry, error) {
	if host == c.host {
		return c.entry, nil
	}
	return ociauth.ConfigEntry{}, nil
}

// dial returns a client of s.
func (s *secured) dial(t *testing.T, config *tls.Config, user, password string) ociregistry.Interface {
	host := strings.TrimPrefix(s.URL, "https://")
	connections := &http.Transport{TLSClientConfig: config}
	t.Cleanup(connections.CloseIdleConnections)
	c, err := ociclient.New(host, &ociclient.Options{
		Transport: ociauth.NewStdTransport(ociauth.StdTransportParams{
			Config:    credentials{host, ociauth.ConfigEntry{Username: user, Password: password}},
			Transport: connections,
		}),
		Retry: ociclient.RetryPolicy{Attempts: 1},
	})
	qt.Assert(t, qt.IsNil(err))
	return c
}

// hungUp reports whether a pass failed because the server hung up on the client. In TLS 1.3, a
// server checks the certificate of a client that may write already, and that may notice that it
// cannot before it reads why.
func hungUp(s Summary) bool {
	if len(s.Failures) != 1 {
		return false
	}
	err, op := s.Failures[0].Err, (*net.OpError)(nil)
	return errors.Is(err, net.ErrClosed) || errors.As(err, &op) && op.Op == "write"
}

// The error says what is wrong with certificates or credentials, and contains no secret.
// Nothing is written to the destination. With a wrong certificate, no request reaches the
// source.
func TestCopy_SaysWhatIsWrongWithCertificatesAndCredentials(t *testing.T) {
	t.Parallel()
	src := newMem(t)
	mustPush(t, src, "a", image(1), "v1")
	for _, scheme := range []string{"Basic", "Bearer"} {
		s := newSecured(t, src, scheme)
		own := x509.NewCertPool()
		own.AddCert(s.Certificate())
		certificates := []tls.Certificate{s.client}
		tests := []struct {
			name           string
			config         *tls.Config
			user, password string
			want           string // of the error; empty if there is none
			reached        bool
		}{
			{"right", &tls.Config{RootCAs: own, Certificates: certificates}, "me", "secret", "", true},
			{"unknown authority", &tls.Config{Certificates: certificates}, "me", "secret", "certificate signed by unknown authority", false},
			{"no client certificate", &tls.Config{RootCAs: own}, "me", "secret", "certificate required", false},
			{"another client certificate", &tls.Config{RootCAs: own, Certificates: []tls.Certificate{selfSigned(t)}}, "me", "secret", "certificate", false},
			{"wrong password", &tls.Config{RootCAs: own, Certificates: certificates}, "me", "guessed", "401|unauthorized|authentication required", true},
			{"no credentials", &tls.Config{RootCAs: own, Certificates: certificates}, "", "", "401|unauthorized|authentication required", true},
		}
		for _, test := range tests {
			t.Run(scheme+"/"+test.name, func(t *testing.T) {
				s.requests.Store(0)
				dst := newMem(t)
				source := s.dial(t, test.config, test.user, test.password)
				m := mustMirror(t, dst, &MirrorOptions{Attempts: -1}, hub(source, Rule{Repositories: "a"}))
				summary := mustPass(t, m)
				for !test.reached && hungUp(summary) {
					summary = mustPass(t, m)
				}
				qt.Check(t, qt.Equals(s.requests.Load() > 0, test.reached))
				if test.want == "" {
					qt.Check(t, qt.DeepEquals(summary, Summary{Updated: 1}))
					qt.Check(t, qt.IsNil(image(1).Verify(t.Context(), dst, "a")))
					return
				}
				qt.Assert(t, qt.HasLen(summary.Failures, 1))
				err := summary.Failures[0].Err
				qt.Check(t, qt.ErrorMatches(err, "(?i).*("+test.want+").*"))
				qt.Check(t, qt.Not(qt.StringContains(err.Error(), "guessed")))
				if test.reached {
					qt.Check(t, qt.ErrorIs(err, ociregistry.ErrUnauthorized))
				}
				repos, err := ociregistry.All(dst.Repositories(t.Context(), ""))
				qt.Check(t, qt.IsNil(err))
				qt.Check(t, qt.HasLen(repos, 0))
			})
		}
	}
}
