package serve

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/locked"
	"github.com/seed-40b21970/oci/internal/pipes"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociserver"
)

// writeCertificate writes a new certificate for localhost and its key, and returns a pool
// with it.
func writeCertificate(t *testing.T, certFile, keyFile string) *x509.CertPool {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	qt.Assert(t, qt.IsNil(err))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	qt.Assert(t, qt.IsNil(err))
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	qt.Assert(t, qt.IsNil(err))
	for _, file := range []struct {
		name, kind string
		der        []byte
	}{{certFile, "CERTIFICATE", der}, {keyFile, "PRIVATE KEY", keyDER}} {
		text := pem.EncodeToMemory(&pem.Block{Type: file.kind, Bytes: file.der})
		tmp := file.name + ".new"
		qt.Assert(t, qt.IsNil(os.WriteFile(tmp, text, 0o600)))
		qt.Assert(t, qt.IsNil(os.Rename(tmp, file.name)))
	}
	cert, err := x509.ParseCertificate(der)
	qt.Assert(t, qt.IsNil(err))
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

// get returns the status and the protocol of an answer.
func get(t *testing.T, transport *http.Transport, url string) (status, proto int) {
	t.Helper()
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(url)
	qt.Assert(t, qt.IsNil(err))
	resp.Body.Close()
	return resp.StatusCode, resp.ProtoMajor
}

func TestServesWithTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pool := writeCertificate(t, cert, key)
	url, log, stop := start(t, "-tls-cert", cert, "-tls-key", key)
	qt.Assert(t, qt.IsTrue(strings.HasPrefix(url, "https://127.0.0.1:")))
	for _, http2 := range []bool{false, true} {
		status, proto := get(t, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: http2}, url+"/")
		qt.Check(t, qt.Equals(status, 200))
		qt.Check(t, qt.Equals(proto == 2, http2))
	}
	qt.Check(t, qt.Equals(stop(), 0), qt.Commentf("%s", log))
}

func TestServesHTTP2WithoutTLS(t *testing.T) {
	t.Parallel()
	url, _, _ := start(t)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	status, proto := get(t, &http.Transport{Protocols: &protocols}, url+"/")
	qt.Check(t, qt.Equals(status, 200))
	qt.Check(t, qt.Equals(proto, 2))
}

func TestCertificate_IsReadAgainWhenItChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, certFile, keyFile)
	var log bytes.Buffer
	c, err := newCertificate(certFile, keyFile, slog.New(slog.NewTextHandler(&log, nil)))
	qt.Assert(t, qt.IsNil(err))
	now := time.Now()
	c.now = func() time.Time { return now }
	current := func() []byte {
		pair, err := c.get(nil)
		qt.Assert(t, qt.IsNil(err))
		return pair.Certificate[0]
	}
	first := current()
	writeCertificate(t, certFile, keyFile)
	qt.Check(t, qt.DeepEquals(current(), first), qt.Commentf("it is not looked at for each connection"))
	now = now.Add(certificateAge)
	second := current()
	qt.Check(t, qt.Not(qt.DeepEquals(second, first)))

	other := filepath.Join(dir, "other.pem")
	writeCertificate(t, certFile, other) // its key is not there yet
	now = now.Add(certificateAge)
	qt.Check(t, qt.DeepEquals(current(), second))
	qt.Check(t, qt.StringContains(log.String(), "the certificate was not replaced"))
	qt.Assert(t, qt.IsNil(os.Rename(other, keyFile)))
	now = now.Add(certificateAge)
	third := current()
	qt.Check(t, qt.Not(qt.DeepEquals(third, second)))
	qt.Assert(t, qt.IsNil(os.Remove(certFile)))
	now = now.Add(certificateAge)
	qt.Check(t, qt.DeepEquals(current(), third))
}

func TestHealth_IsAnsweredAndNotLogged(t *testing.T) {
	t.Parallel()
	url, log, stop := start(t)
	base := strings.TrimSuffix(url, "/v2")
	for method, want := range map[string]int{"GET": 200, "HEAD": 200} {
		req, err := http.NewRequest(method, base+"/healthz", nil)
		qt.Assert(t, qt.IsNil(err))
		resp, err := http.DefaultClient.Do(req)
		qt.Assert(t, qt.IsNil(err))
		resp.Body.Close()
		qt.Check(t, qt.Equals(resp.StatusCode, want), qt.Commentf(method))
	}
	qt.Check(t, qt.Equals(stop(), 0))
	qt.Check(t, qt.Not(qt.StringContains(log.String(), "path=/healthz")))
}

func TestUploadMax_RefusesLargerBlobs(t *testing.T) {
	t.Parallel()
	url, _, _ := start(t, "-upload-max", "3")
	for body, want := range map[string]int{"foo": 201, "four": 413} {
		digest := map[string]string{
			"foo":  "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
			"four": "sha256:04efaf080f5a3e74e1c29d1ca6a48569382cbbcd324e8d59d2b83ef21c039f00",
		}[body]
		resp, err := http.Post(url+"/foo/blobs/uploads/?digest="+digest, "", strings.NewReader(body))
		qt.Assert(t, qt.IsNil(err))
		resp.Body.Close()
		qt.Check(t, qt.Equals(resp.StatusCode, want), qt.Commentf(body))
	}
}

func TestTimeout_EndsRequestsOfClientsThatSendNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg, err := Program{}.parseFlags([]string{"-mem", "-timeout", "7s"}, io.Discard)
		qt.Assert(t, qt.IsNil(err))
		problems, requests := cfg.site.loggers(io.Discard)
		srv := cfg.site.server(ociserver.New(ocimem.New(), cfg.site.options(problems)), problems, requests)
		n := pipes.New()
		go srv.Serve(n)
		defer srv.Close()
		conn, err := n.Dial(t.Context(), "", "")
		qt.Assert(t, qt.IsNil(err))
		defer conn.Close()
		start := time.Now()
		io.WriteString(conn, "POST /v2/foo/blobs/uploads/?digest=sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nfo")
		line, err := bufio.NewReader(conn).ReadString('\n')
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.StringContains(line, " 408 "))
		qt.Check(t, qt.Equals(time.Since(start), 7*time.Second)) // of the bubble's clock
	})
}

func TestLogFormat_JSON(t *testing.T) {
	t.Parallel()
	url, log, stop := start(t, "-log-format", "json")
	resp, err := http.Get(url + "/")
	qt.Assert(t, qt.IsNil(err))
	resp.Body.Close()
	qt.Check(t, qt.Equals(stop(), 0))
	paths := map[any]bool{}
	for line := range strings.Lines(log.String()) {
		var record map[string]any
		qt.Assert(t, qt.IsNil(json.Unmarshal([]byte(line), &record)))
		paths[record["path"]] = true
	}
	qt.Check(t, qt.IsTrue(paths["/v2/"]))
}

func TestSite_RefusesNonsense(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	garbled := filepath.Join(dir, "garbled.pem")
	qt.Assert(t, qt.IsNil(os.WriteFile(garbled, []byte("no certificate"), 0o600)))
	for _, test := range []struct {
		args   string
		status int
		want   string
	}{
		{"-tls-cert a", 2, "-tls-cert and -tls-key need each other"},
		{"-tls-key a", 2, "-tls-cert and -tls-key need each other"},
		{"-upload-max -1", 2, "-upload-max cannot be negative"},
		{"-timeout 0", 2, "-timeout cannot be 0"},
		{"-log-format xml", 2, `-log-format "xml" is neither text nor json`},
		{"-addr 5000", 2, `-addr "5000" is not of the form host:port`},
		{"-tls-cert " + filepath.Join(dir, "absent") + " -tls-key " + garbled, 1, "absent"},
		{"-tls-cert " + garbled + " -tls-key " + garbled, 1, "failed to find"},
	} {
		status, out, errs := runProgram(t, strings.Fields(test.args)...)
		qt.Check(t, qt.Equals(status, test.status), qt.Commentf(test.args))
		qt.Check(t, qt.StringContains(errs, test.want))
		qt.Check(t, qt.Equals(out, ""))
	}
}

func TestGreeting_FitsTheTransport(t *testing.T) {
	t.Parallel()
	bound := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1234}
	for _, test := range []struct {
		cert      string
		has, lack string
	}{
		{"", "oras push --plain-http localhost:1234/alpine:notes", "https://"},
		{"cert.pem", "  regctl image copy alpine:latest localhost:1234/", "tls-verify=false"},
	} {
		var out locked.Buffer
		greet(&out, config{site: site{addr: ":0", cert: test.cert}}, bound, false)
		qt.Check(t, qt.StringContains(out.String(), test.has))
		qt.Check(t, qt.Not(qt.StringContains(out.String(), test.lack)))
	}
}
