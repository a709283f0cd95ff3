package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

// TestStore_CountsWhatPassesThroughTheProxy has a server that answers each request
// with its host.
func TestStore_CountsWhatPassesThroughTheProxy(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	qt.Assert(t, qt.IsNil(err))
	behind := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		io.Copy(io.Discard, req.Body)
		io.WriteString(w, req.Host)
	})}
	go behind.Serve(l)
	defer behind.Close()
	s := &store{}
	proxy := httptest.NewServer(s.handler(socket))
	defer proxy.Close()
	host := strings.TrimPrefix(proxy.URL, "http://")

	requests := []struct{ method, target, source, kind string }{
		{"GET", "/b/key?x-id=GetObject", "", "GET"},
		{"HEAD", "/b/key", "", "HEAD"},
		{"GET", "/b?list-type=2&prefix=a", "", "LIST"},
		{"GET", "/b/key?uploadId=1", "", "LIST"},
		{"GET", "/b?uploads", "", "LIST"},
		{"PUT", "/b/key", "", "PUT"},
		{"PUT", "/b/key?partNumber=1&uploadId=1", "", "PUT"},
		{"PUT", "/b/key", "b/other", "COPY"},
		{"POST", "/b?delete", "", "POST"},
	}
	want := make(map[string]int)
	var bytes int64
	for _, r := range requests {
		var body io.Reader
		if r.method == "PUT" || r.method == "POST" {
			body, bytes = strings.NewReader("12345"), bytes+5
		}
		req, err := http.NewRequestWithContext(t.Context(), r.method, proxy.URL+r.target, body)
		qt.Assert(t, qt.IsNil(err))
		if r.source != "" {
			req.Header.Set("X-Amz-Copy-Source", r.source)
		}
		resp, err := proxy.Client().Do(req)
		qt.Assert(t, qt.IsNil(err))
		answer, err := io.ReadAll(resp.Body)
		qt.Assert(t, qt.IsNil(err))
		resp.Body.Close()
		if r.method != "HEAD" {
			qt.Check(t, qt.Equals(string(answer), host))
			bytes += int64(len(answer))
		}
		want[r.kind]++
	}
	counted := s.reset(0)
	qt.Check(t, qt.DeepEquals(counted.requests, want))
	qt.Check(t, qt.Equals(counted.bytes, bytes))
	qt.Check(t, qt.Equals(s.reset(0).bytes, 0))
}

// TestStore_IsMissedClearly runs without any program.
func TestStore_IsMissedClearly(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	const missing = "versitygw is not in PATH: internal/servers/install.sh installs it"
	err := run(t.Context(), []string{"-short", "-rows", "^Bucket"}, io.Discard)
	qt.Check(t, qt.ErrorMatches(err, missing))
	var out strings.Builder
	err = run(t.Context(), []string{"-short", patience, "-rows", "^(Bucket|ManifestGet/clients=16)", "-servers", "^(ocimem|ocibucket)$"}, &out)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.StringContains(out.String(), "\n- nothing over object storage: "+missing))
	qt.Check(t, qt.StringContains(out.String(), "| ManifestGet/clients=16 |"))
	qt.Check(t, qt.Not(qt.StringContains(out.String(), "| Bucket")))
}
