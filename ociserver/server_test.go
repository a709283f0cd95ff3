package ociserver_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/patient"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// site is a registry that listens, and a client that follows no redirects.
type site struct {
	t       testing.TB
	url     string
	client  *http.Client
	backend ociregistry.Interface
	close   func() // ends the server, when it has answered
}

// serve serves a new registry in memory.
func serve(t testing.TB, opts *ociserver.Options) *site {
	return serveBackend(t, ocimem.New(), opts)
}

func serveBackend(t testing.TB, backend ociregistry.Interface, opts *ociserver.Options) *site {
	s := serveHandler(t, ociserver.New(backend, opts))
	s.backend = backend
	return s
}

func serveHandler(t testing.TB, h http.Handler) *site {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return newSite(t, srv)
}

func newSite(t testing.TB, srv *httptest.Server) *site {
	client := srv.Client()
	client.Transport.(*http.Transport).DialContext = patient.Dial
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &site{t: t, url: srv.URL, client: client, close: srv.Close}
}

// answer is a response with its body.
type answer struct {
	*http.Response
	body string
}

// do makes a request, whose body is sent with its length. The headers are alternating names
// and values.
func (s *site) do(method, path, body string, headers ...string) *answer {
	s.t.Helper()
	return s.doReader(method, path, strings.NewReader(body), headers...)
}

// doReader makes a request. The body is sent in chunked encoding, unless net/http knows the
// length of a reader of its type.
func (s *site) doReader(method, path string, body io.Reader, headers ...string) *answer {
	s.t.Helper()
	req, err := http.NewRequest(method, s.url+path, body)
	qt.Assert(s.t, qt.IsNil(err))
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := s.client.Do(req)
	qt.Assert(s.t, qt.IsNil(err), qt.Commentf("%s %s", method, path))
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	qt.Assert(s.t, qt.IsNil(err), qt.Commentf("%s %s", method, path))
	return &answer{resp, string(data)}
}

// raw sends requests unchanged on one connection, and returns the first n answers.
func (s *site) raw(n int, requests string) []*answer {
	s.t.Helper()
	conn := s.send(requests)
	defer conn.Close()
	return s.receive(n, conn)
}

// rawCutOff sends a request that breaks off, closes its half of the connection, and returns
// the answer. The server assumes that the client has gone away, and ends the request's
// context, so that a complete request could fail too.
func (s *site) rawCutOff(request string) *answer {
	s.t.Helper()
	conn := s.send(request)
	defer conn.Close()
	qt.Assert(s.t, qt.IsNil(conn.(*net.TCPConn).CloseWrite()))
	return s.receive(1, conn)[0]
}

func (s *site) send(requests string) net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	qt.Assert(s.t, qt.IsNil(err))
	_, err = io.WriteString(conn, requests)
	qt.Assert(s.t, qt.IsNil(err))
	return conn
}

// receive reads n answers, none of which is to a HEAD.
func (s *site) receive(n int, conn net.Conn) []*answer {
	s.t.Helper()
	r := bufio.NewReader(conn)
	var answers []*answer
	for range n {
		resp, err := http.ReadResponse(r, nil)
		qt.Assert(s.t, qt.IsNil(err))
		data, err := io.ReadAll(resp.Body)
		qt.Assert(s.t, qt.IsNil(err))
		answers = append(answers, &answer{resp, string(data)})
	}
	return answers
}

// want checks the status of an answer, and returns it.
func (a *answer) want(t testing.TB, status int) *answer {
	t.Helper()
	qt.Assert(t, qt.Equals(a.StatusCode, status), qt.Commentf("%s %s: %s", a.Request.Method, a.Request.URL, a.body))
	return a
}

// wantError checks the status of an answer, and the code and message in it.
func (a *answer) wantError(t testing.TB, status int, code, message string) *answer {
	t.Helper()
	want, err := json.Marshal(map[string]string{"code": code, "message": message})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(a.body, `{"errors":[`+string(want)+`]}`))
	qt.Assert(t, qt.Equals(a.StatusCode, status))
	qt.Assert(t, qt.Equals(a.Header.Get("Content-Type"), "application/json"))
	return a
}

// wantConcealed checks the status of an answer that contains only a reference, and returns
// the reference.
func (a *answer) wantConcealed(t testing.TB, status int) string {
	t.Helper()
	a.want(t, status)
	reference := a.Header.Get("Error-Reference")
	qt.Check(t, qt.Matches(reference, "[0-9a-f]{16}"))
	if a.Request.Method != http.MethodHead {
		a.wantError(t, status, "UNKNOWN", strings.ToLower(http.StatusText(status))+"; reference "+reference)
	}
	return reference
}

// wantHeaders checks headers, which are alternating names and values.
func (a *answer) wantHeaders(t testing.TB, headers ...string) *answer {
	t.Helper()
	for i := 0; i < len(headers); i += 2 {
		qt.Check(t, qt.Equals(a.Header.Get(headers[i]), headers[i+1]), qt.Commentf("header %s", headers[i]))
	}
	return a
}

func (s *site) pushBlob(repo, content string) ociregistry.Digest {
	s.t.Helper()
	d := digest.FromString(content)
	s.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+string(d), content).want(s.t, http.StatusCreated)
	return d
}

// pushManifest pushes a manifest of an unknown type, which names no content.
func (s *site) pushManifest(repo, ref, content string) ociregistry.Digest {
	s.t.Helper()
	s.do("PUT", "/v2/"+repo+"/manifests/"+ref, content, "Content-Type", "application/octet-stream").want(s.t, http.StatusCreated)
	return digest.FromString(content)
}

// imageManifest returns a manifest whose only blob is the given config.
func imageManifest(config, subject ociregistry.Digest, annotations map[string]string) string {
	m := ocispec.Manifest{
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: "application/vnd.example.thing",
		Config:       ociregistry.Descriptor{MediaType: "application/vnd.example.config", Digest: config, Size: 2},
		Layers:       []ociregistry.Descriptor{},
		Annotations:  annotations,
	}
	m.SchemaVersion = 2
	if subject != "" {
		m.Subject = &ociregistry.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: subject, Size: 2}
	}
	data, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// pushImage pushes a manifest of imageManifest and its config.
func (s *site) pushImage(repo, ref string, subject ociregistry.Digest, annotations map[string]string) ociregistry.Digest {
	s.t.Helper()
	m := imageManifest(s.pushBlob(repo, "{}"), subject, annotations)
	if ref == "" {
		ref = string(digest.FromString(m))
	}
	s.do("PUT", "/v2/"+repo+"/manifests/"+ref, m, "Content-Type", ocispec.MediaTypeImageManifest).want(s.t, http.StatusCreated)
	return digest.FromString(m)
}

// startUpload opens an upload session and returns the path of its location.
func (s *site) startUpload(repo string) string {
	s.t.Helper()
	return s.do("POST", "/v2/"+repo+"/blobs/uploads/", "").want(s.t, http.StatusAccepted).Header.Get("Location")
}

// repositories returns the names of all repositories.
func (s *site) repositories() []string {
	s.t.Helper()
	names, err := ociregistry.All(s.backend.Repositories(context.Background(), ""))
	qt.Assert(s.t, qt.IsNil(err))
	return names
}

var (
	absent     = digest.FromString("absent")
	helloWorld = "hello world"
)

// numbered returns n names in byte order.
func numbered(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s%06d", prefix, i)
	}
	return names
}
