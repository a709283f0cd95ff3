package serve

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociserver"
)

// TestMain keeps the credentials of whoever runs the tests out of them. It lets the test be
// the program, for a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("OCI_TEST_AS_PROGRAM") != "" {
		Program{}.Main()
	}
	for _, name := range []string{"DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE"} {
		os.Unsetenv(name)
	}
	for _, name := range []string{"HOME", "DOCKER_CONFIG", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"} {
		os.Setenv(name, filepath.Join(os.TempDir(), "ociserve-no-such-directory"))
	}
	os.Exit(m.Run())
}

// origin is a registry with a proxy in front of it. It remembers what it is asked.
type origin struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string
}

func startOrigin(t *testing.T, h http.Handler) *origin {
	o := new(origin)
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		o.mu.Lock()
		o.requests = append(o.requests, req.Method+" "+req.URL.Path)
		o.mu.Unlock()
		h.ServeHTTP(w, req)
	}))
	t.Cleanup(o.Close)
	return o
}

// asked returns the requests since the last call.
func (o *origin) asked() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	requests := o.requests
	o.requests = nil
	return requests
}

// proxy starts a proxy in front of o.
func (o *origin) proxy(t *testing.T, args ...string) (d docker, stop func() int) {
	url, _, stop := start(t, append([]string{"-quiet", "-proxy", o.URL}, args...)...)
	return docker{strings.TrimSuffix(url, "/v2")}, stop
}

// TestProxy_PushesAndPullsThroughTwoProxies pushes an image to a proxy of a proxy,
// and pulls it from each.
func TestProxy_PushesAndPullsThroughTwoProxies(t *testing.T) {
	t.Parallel()
	o := startOrigin(t, ociserver.New(ocimem.New(), nil))
	near, _ := o.proxy(t)
	url, _, _ := start(t, "-quiet", "-proxy", near.base)
	far := docker{strings.TrimSuffix(url, "/v2")}
	config, layer := []byte("{}"), bytes.Repeat([]byte("0123456789abcdef"), 600_000) // more than a chunk
	manifest := far.pushImage(t, "a/b", "v1", config, layer)
	for _, d := range []docker{far, near, {o.URL}} {
		d.pullImage(t, "a/b", "v1", manifest, config, layer)
	}
}

// TestProxy_KeepsNoSession goes on with an upload at another process each time.
func TestProxy_KeepsNoSession(t *testing.T) {
	t.Parallel()
	o := startOrigin(t, ociserver.New(ocimem.New(), nil))
	var location string
	// next moves to another proxy. The one before has ended.
	next := func(use func(d docker) *http.Response) {
		d, stop := o.proxy(t)
		_, after, _ := strings.Cut(location, "/v2/")
		location = d.base + "/v2/" + after
		resp := use(d)
		if resp.StatusCode != http.StatusNoContent {
			location = d.checkSession(t, resp, "foo")
		}
		qt.Assert(t, qt.Equals(stop(), 0))
	}
	next(func(d docker) *http.Response {
		resp, _ := d.do(t, "POST", "/v2/foo/blobs/uploads/", nil, nil)
		qt.Check(t, qt.Equals(resp.Header.Get("OCI-Chunk-Min-Length"), "8192")) // as at the origin
		return resp
	})
	next(func(d docker) *http.Response {
		resp, _ := d.do(t, "PATCH", location, strings.NewReader("first, "), http.Header{"Content-Range": {"0-6"}})
		return resp
	})
	next(func(d docker) *http.Response {
		resp, _ := d.do(t, "GET", location, nil, nil)
		qt.Check(t, qt.Equals(resp.StatusCode, http.StatusNoContent))
		qt.Check(t, qt.Equals(resp.Header.Get("Range"), "0-6"))
		return resp
	})
	next(func(d docker) *http.Response {
		resp, _ := d.do(t, "PATCH", location, io.MultiReader(strings.NewReader("second, ")), nil)
		return resp
	})
	d, _ := o.proxy(t)
	_, after, _ := strings.Cut(location, "/v2/")
	content := []byte("first, second, last")
	dg := digest.FromBytes(content).String()
	resp, body := d.do(t, "PUT", withDigest(t, d.base+"/v2/"+after, dg), strings.NewReader("last"), nil)
	qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusCreated), qt.Commentf("%s", body))
	d.checkCreated(t, resp, "foo", dg)
	docker{o.URL}.pullBlob(t, "foo", content)
}

// TestProxy_SessionsStayAtTheOrigin checks that no id of a session leads the proxy to
// anything else on the origin.
func TestProxy_SessionsStayAtTheOrigin(t *testing.T) {
	t.Parallel()
	o := startOrigin(t, ociserver.New(ocimem.New(), nil))
	d, _ := o.proxy(t)
	for _, id := range []string{"..", "../../manifests/v1", "/v2/bar/blobs/uploads/x", "http://example.com/x", "x/../../../y", "x#", "x?a b"} {
		for _, method := range []string{"GET", "PATCH", "DELETE"} {
			resp, _ := d.do(t, method, "/v2/foo/blobs/uploads/"+wire.EncodeUploadID(id), nil, nil)
			qt.Check(t, qt.Equals(resp.StatusCode, http.StatusNotFound), qt.Commentf("%s %q", method, id))
		}
	}
	qt.Check(t, qt.HasLen(o.asked(), 0))
}

// TestProxy_MakesNoFurtherRequests counts what requests cost the origin.
func TestProxy_MakesNoFurtherRequests(t *testing.T) {
	t.Parallel()
	o := startOrigin(t, ociserver.New(ocimem.New(), nil))
	d, _ := o.proxy(t)
	config, layer := []byte("{}"), []byte("a layer")
	manifest := d.pushImage(t, "foo", "v1", config, layer)
	o.asked()
	blob := "/v2/foo/blobs/" + digest.FromBytes(layer).String()
	byDigest := "/v2/foo/manifests/" + digest.FromBytes(manifest).String()
	put := http.Header{"Content-Type": {dockerManifestType}}
	tests := []struct {
		method, path string
		header       http.Header
		body         []byte
		status       int
		want         string
	}{
		{"GET", "/v2/", nil, nil, 200, ""},
		{"HEAD", blob, nil, nil, 200, "HEAD " + blob},
		{"GET", blob, nil, nil, 200, "GET " + blob},
		{"GET", blob, http.Header{"Range": {"bytes=2-3"}}, nil, 206, "GET " + blob},
		{"HEAD", byDigest, nil, nil, 200, "HEAD " + byDigest},
		{"GET", byDigest, nil, nil, 200, "GET " + byDigest},
		{"HEAD", "/v2/foo/manifests/v1", nil, nil, 200, "HEAD /v2/foo/manifests/v1"},
		{"GET", "/v2/foo/manifests/v1", nil, nil, 200, "GET /v2/foo/manifests/v1"},
		{"GET", byDigest, http.Header{"If-None-Match": {`"` + digest.FromBytes(manifest).String() + `"`}}, nil, 304, "HEAD " + byDigest},
		{"HEAD", "/v2/foo/manifests/v2", nil, nil, 404, "HEAD /v2/foo/manifests/v2"},
		{"GET", "/v2/foo/tags/list?n=1", nil, nil, 200, "GET /v2/foo/tags/list"},
		{"GET", "/v2/_catalog", nil, nil, 200, "GET /v2/_catalog"},
		{"GET", "/v2/foo/referrers/" + digest.FromBytes(manifest).String(), nil, nil, 200, "GET /v2/foo/referrers/" + digest.FromBytes(manifest).String()},
		{"PUT", "/v2/foo/manifests/v2?tag=v3&tag=v4", put, manifest, 201, "PUT /v2/foo/manifests/v2"},
		{"PUT", byDigest, put, manifest, 201, "PUT " + byDigest},
		{"POST", "/v2/bar/blobs/uploads/?from=foo&mount=" + digest.FromBytes(layer).String(), nil, nil, 201, "POST /v2/bar/blobs/uploads/"},
		{"DELETE", "/v2/foo/manifests/v2", nil, nil, 202, "DELETE /v2/foo/manifests/v2"},
		{"DELETE", byDigest, nil, nil, 202, "DELETE " + byDigest},
		{"DELETE", blob, nil, nil, 202, "DELETE " + blob},
	}
	for _, test := range tests {
		resp, body := d.do(t, test.method, test.path, bytes.NewReader(test.body), test.header)
		qt.Check(t, qt.Equals(resp.StatusCode, test.status), qt.Commentf("%s %s: %s", test.method, test.path, body))
		qt.Check(t, qt.Equals(strings.Join(o.asked(), ", "), test.want), qt.Commentf("%s %s %v", test.method, test.path, test.header))
	}
}

// TestProxy_PassesErrorsOn checks that errors come through as they are.
func TestProxy_PassesErrorsOn(t *testing.T) {
	t.Parallel()
	tests := []struct {
		method, path string
		status       int
		body         string
		want         string // if it is another body
	}{
		{"GET", "manifests/v1", 403, `{"errors":[{"code":"DENIED","message":"not for you","detail":{"why":1}}]}`, ""},
		{"GET", "manifests/v1", 404, `{"errors":[{"code":"NAME_UNKNOWN","message":"no such name"}]}`, ""},
		{"GET", "manifests/v1", 404, ``, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown to registry"}]}`},
		{"GET", "manifests/v1", 400, `{"errors":[{"code":"UNSUPPORTED","message":"the operation is unsupported"}]}`, ""},
		{"GET", "manifests/v1", 401, `{"errors":[{"code":"UNAUTHORIZED","message":"log in"}]}`, ""},
		{"GET", "manifests/v1", 429, `{"errors":[{"code":"TOOMANYREQUESTS","message":"later"}]}`, ""},
		{"GET", "manifests/v1", 503, `{"errors":[{"code":"UNKNOWN","message":"down"}]}`, ""},
		{"GET", "manifests/v1", 451, `{"errors":[{"code":"LAWYERS","message":"gone"}]}`, ""},
		{"DELETE", "blobs/" + digest.FromString("x").String(), 405, `{"errors":[{"code":"DENIED","message":"in use"}]}`, ""},
		{"POST", "blobs/uploads/", 403, `{"errors":[{"code":"DENIED","message":"no space left"}]}`, ""},
		{"PUT", "manifests/v1", 413, `{"errors":[{"code":"MANIFEST_INVALID","message":"too large"}]}`, ""},
		{"PUT", "manifests/v1", 404, `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"one","detail":"a"},{"code":"MANIFEST_BLOB_UNKNOWN","message":"two","detail":"b"}]}`, ""},
		{"GET", "tags/list", 404, `{"errors":[{"code":"NAME_UNKNOWN","message":"no such name"}]}`, ""},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%s/%d", test.method, test.status), func(t *testing.T) {
			t.Parallel()
			o := startOrigin(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(test.status)
				io.WriteString(w, test.body)
			}))
			d, _ := o.proxy(t)
			header := http.Header{"Content-Type": {dockerManifestType}}
			resp, body := d.do(t, test.method, "/v2/foo/"+test.path, strings.NewReader(`{"mediaType":"`+dockerManifestType+`"}`), header)
			qt.Check(t, qt.Equals(resp.StatusCode, test.status), qt.Commentf("%s", body))
			if test.want == "" {
				test.want = test.body
			}
			var want any
			qt.Assert(t, qt.IsNil(json.Unmarshal([]byte(test.want), &want)))
			qt.Check(t, qt.JSONEquals(body, want))
			if test.status == 429 || test.status == 503 {
				qt.Check(t, qt.Equals(resp.Header.Get("Retry-After"), "0"))
			}
		})
	}
}

// TestProxy_OfNothingIsABadGateway checks what becomes of requests when there is
// no origin.
func TestProxy_OfNothingIsABadGateway(t *testing.T) {
	t.Parallel()
	o := &origin{Server: &httptest.Server{URL: "http://127.0.0.1:1"}} // where nothing listens
	d, _ := o.proxy(t)
	resp, body := d.do(t, "GET", "/v2/foo/manifests/v1", nil, nil)
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusBadGateway), qt.Commentf("%s", body))
	resp, _ = d.do(t, "GET", "/v2/", nil, nil)
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusOK))
}

// TestProxy_Streams checks that bytes come through before the last one is there.
func TestProxy_Streams(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	half := len(content) / 2
	arrived := make(chan struct{})
	o := startOrigin(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Write(content[:half])
		http.NewResponseController(w).Flush()
		select {
		case <-arrived:
		case <-req.Context().Done():
		}
		w.Write(content[half:])
	}))
	d, _ := o.proxy(t)
	resp, err := http.Get(d.base + "/v2/foo/blobs/" + digest.FromBytes(content).String())
	qt.Assert(t, qt.IsNil(err))
	defer resp.Body.Close()
	got := make([]byte, half-64<<10) // what is on its way may fill a buffer or two
	_, err = io.ReadFull(resp.Body, got)
	qt.Assert(t, qt.IsNil(err))
	close(arrived)
	rest, err := io.ReadAll(resp.Body)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(bytes.Equal(append(got, rest...), content)))
}

// TestProxy_ReadOnlyAsksTheOriginForNoChange checks that nothing reaches the
// origin that could change it.
func TestProxy_ReadOnlyAsksTheOriginForNoChange(t *testing.T) {
	t.Parallel()
	o := startOrigin(t, ociserver.New(ocimem.New(), nil))
	config, layer := []byte("{}"), []byte("a layer")
	manifest := docker{o.URL}.pushImage(t, "foo", "v1", config, layer)
	o.asked()
	d, _ := o.proxy(t, "-read-only")
	dg := digest.FromBytes(layer).String()
	for _, request := range []string{
		"POST /v2/foo/blobs/uploads/", "POST /v2/foo/blobs/uploads/?digest=" + dg, "POST /v2/bar/blobs/uploads/?from=foo&mount=" + dg,
		"PUT /v2/foo/manifests/v2", "DELETE /v2/foo/manifests/v1", "DELETE /v2/foo/blobs/" + dg, "PATCH /v2/foo/blobs/uploads/" + wire.EncodeUploadID("x"),
	} {
		method, path, _ := strings.Cut(request, " ")
		resp, body := d.do(t, method, path, strings.NewReader("a layer"), http.Header{"Content-Type": {dockerManifestType}})
		qt.Check(t, qt.Equals(resp.StatusCode, http.StatusBadRequest), qt.Commentf("%s: %s", request, body))
	}
	qt.Check(t, qt.HasLen(o.asked(), 0))
	d.pullImage(t, "foo", "v1", manifest, config, layer)
}

// TestProxy_UsesTheCredentialsOfDocker checks that the origin gets the proxy's
// credentials, and never those of the proxy's client.
func TestProxy_UsesTheCredentialsOfDocker(t *testing.T) {
	want := base64.StdEncoding.EncodeToString([]byte("us:secret"))
	var got []string
	registry := ociserver.New(ocimem.New(), &ociserver.Options{
		Authorize: func(req *http.Request, _ []ociserver.Access) (func(ociserver.Access) bool, error) {
			got = append(got, req.Header.Get("Authorization"))
			if req.Header.Get("Authorization") != "Basic "+want {
				return nil, ociserver.Unauthorized(`Basic realm="origin"`)
			}
			return nil, nil
		},
	})
	o := startOrigin(t, registry)
	dir := t.TempDir()
	config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, strings.TrimPrefix(o.URL, "http://"), want)
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600)))
	clients := http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("them:other"))}}

	without, _ := o.proxy(t)
	resp, _ := without.do(t, "GET", "/v2/foo/tags/list", nil, clients)
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusUnauthorized))
	qt.Check(t, qt.Not(qt.StringContains(resp.Header.Get("WWW-Authenticate"), "origin"))) // that would ask the client for the origin's
	qt.Check(t, qt.DeepEquals(got, []string{""}))

	got = nil
	t.Setenv("DOCKER_CONFIG", dir)
	with, _ := o.proxy(t)
	resp, _ = with.do(t, "GET", "/v2/foo/tags/list", nil, clients)
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusNotFound))
	qt.Check(t, qt.DeepEquals(got, []string{"", "Basic " + want}))
	with.pushImage(t, "foo", "v1", []byte("{}"), []byte("a layer"))

	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"auths":`), 0o600)))
	var stderr bytes.Buffer
	qt.Check(t, qt.Equals(Program{}.Run(t.Context(), []string{"-addr", "127.0.0.1:0", "-proxy", o.URL}, io.Discard, &stderr), 1))
	qt.Check(t, qt.StringContains(stderr.String(), "config.json"))
}

// TestProxy_AllocatesByContent checks that nothing that either side claims makes
// the proxy allocate memory.
func TestProxy_AllocatesByContent(t *testing.T) {
	const huge int64 = 1 << 50
	registry := ociserver.New(ocimem.New(), nil)
	o := startOrigin(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case strings.HasPrefix(req.URL.Path, "/v2/liar/blobs/uploads/"):
			w = claimChunks{w}
		case strings.HasPrefix(req.URL.Path, "/v2/liar/"):
			w.Header().Set("Content-Type", dockerManifestType)
			w.Header().Set("Content-Length", fmt.Sprint(huge))
			io.WriteString(w, "short")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		registry.ServeHTTP(w, req)
	}))
	d, stop := o.proxy(t)
	layer := []byte("a layer")
	d.pushImage(t, "foo", "v1", []byte("{}"), layer)
	session := func(repo string) string {
		resp, _ := d.do(t, "POST", "/v2/"+repo+"/blobs/uploads/", nil, nil)
		return strings.TrimPrefix(d.checkSession(t, resp, repo), d.base)
	}
	dg := digest.FromBytes(layer).String()
	tests := []struct{ request, header, answer string }{
		{"POST /v2/foo/blobs/uploads/?digest=" + dg, "Content-Length: 1125899906842624", "HTTP/1.1 400 "},
		{"PATCH " + session("foo"), "Content-Length: 1125899906842624", "HTTP/1.1 400 "},
		{"PATCH " + session("foo"), "Content-Range: 0-1125899906842623\r\nContent-Length: 1125899906842624", "HTTP/1.1 400 "},
		{"PATCH " + session("foo"), "Content-Range: 1125899906842624-1125899906842628\r\nContent-Length: 5", "HTTP/1.1 416 "},
		{"PUT " + withDigest(t, session("foo"), dg), "Content-Length: 1125899906842624", "HTTP/1.1 400 "},
		{"PATCH " + session("liar"), "Content-Length: 5", "HTTP/1.1 202 "},
		{"POST /v2/liar/blobs/uploads/?digest=" + dg, "Content-Length: 1125899906842624", "HTTP/1.1 400 "},
		{"PUT /v2/foo/manifests/v1", "Content-Length: 1125899906842624", "HTTP/1.1 413 "},
		{"PUT /v2/foo/manifests/v1", "Content-Length: 4194304", "HTTP/1.1 400 "},
		{"GET /v2/foo/tags/list?n=1000000000", "", "HTTP/1.1 200 "},
		{"GET /v2/foo/tags/list?n=1125899906842624", "", "HTTP/1.1 400 "},
		{"GET /v2/_catalog?n=1125899906842624", "", "HTTP/1.1 400 "},
		{"GET /v2/foo/blobs/" + dg, "Range: bytes=0-1125899906842623", "HTTP/1.1 206 "},
		{"GET /v2/liar/manifests/v1", "", "HTTP/1.1 502 "},
		{"GET /v2/liar/tags/list", "", "HTTP/1.1 502 "},
		{"GET /v2/liar/blobs/" + dg, "", "$"}, // broken off before anything was sent,
	}
	for _, test := range tests {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		answer := exchangeRaw(t, d, test.request, test.header, "short")
		runtime.ReadMemStats(&after)
		qt.Check(t, qt.Matches(answer, "(?s)"+test.answer+".*"), qt.Commentf("%s, %s", test.request, test.header))
		qt.Check(t, qt.IsTrue(after.TotalAlloc-before.TotalAlloc < 2<<20), qt.Commentf("%s: %d bytes", test.request, after.TotalAlloc-before.TotalAlloc))
	}
	qt.Check(t, qt.Equals(stop(), 0))
}

// claimChunks announces that chunks must be huge.
type claimChunks struct{ http.ResponseWriter }

func (w claimChunks) WriteHeader(status int) {
	w.Header().Set("OCI-Chunk-Min-Length", "1125899906842624")
	w.ResponseWriter.WriteHeader(status)
}

// exchangeRaw sends a request that ends after body, whatever its header says, and
// returns the answer.
func exchangeRaw(t *testing.T, d docker, request, header, body string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(d.base, "http://"))
	qt.Assert(t, qt.IsNil(err))
	defer conn.Close()
	if header != "" {
		header += "\r\n"
	}
	fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n", request, header)
	if strings.Contains(header, "Content-Length") {
		io.WriteString(conn, body)
		conn.(*net.TCPConn).CloseWrite() // fails if the server has answered and gone
	}
	answer, _ := io.ReadAll(conn) // the connection is reset if the request was not read
	return string(answer)
}
