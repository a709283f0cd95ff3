package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/patient"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociserver"
)

const (
	dockerManifestType = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfigType   = "application/vnd.docker.container.image.v1+json"
	dockerLayerType    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// TestDocker_PushesAndPulls makes the requests that the Docker engine makes for a
// docker push and a docker pull.
func TestDocker_PushesAndPulls(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(ociserver.New(ocimem.New(), nil))
	defer server.Close()
	d := docker{server.URL}

	resp, _ := d.do(t, http.MethodGet, "/v2/", nil, nil)
	qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusOK))
	qt.Assert(t, qt.Equals(resp.Header.Get("Docker-Distribution-Api-Version"), "registry/2.0"))

	layer := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)
	manifest := dockerManifest(t, config, layer)
	manifestDigest := digest.FromBytes(manifest).String()

	d.pushLayer(t, "library/app", layer)
	d.pushConfig(t, "library/app", config)
	resp, _ = d.do(t, http.MethodPut, "/v2/library/app/manifests/latest", bytes.NewReader(manifest), http.Header{"Content-Type": {dockerManifestType}})
	qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusCreated))
	qt.Check(t, qt.Equals(resp.Header.Get("Docker-Content-Digest"), manifestDigest))
	location, err := resp.Location()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(location.Path, "/v2/library/app/manifests/"+manifestDigest))

	for _, ref := range []string{"latest", manifestDigest} {
		path := "/v2/library/app/manifests/" + ref
		resp, _ = d.do(t, http.MethodHead, path, nil, dockerAccept)
		qt.Check(t, qt.Equals(resp.StatusCode, http.StatusOK))
		checkManifestHeader(t, resp, manifest)
		resp, body := d.do(t, http.MethodGet, path, nil, dockerAccept)
		qt.Check(t, qt.Equals(resp.StatusCode, http.StatusOK))
		checkManifestHeader(t, resp, manifest)
		qt.Check(t, qt.Equals(string(body), string(manifest)))
	}
	d.pullBlob(t, "library/app", config)
	d.pullBlob(t, "library/app", layer)

	resp, body := d.do(t, http.MethodGet, "/v2/library/app/tags/list", nil, nil)
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusOK))
	qt.Check(t, qt.Equals(resp.Header.Get("Content-Type"), "application/json"))
	qt.Check(t, qt.JSONEquals(body, map[string]any{"name": "library/app", "tags": []string{"latest"}}))
}

// TestDocker_Mounts makes the requests of a push of layers that the engine has
// pushed to another repository before.
func TestDocker_Mounts(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(ociserver.New(ocimem.New(), nil))
	defer server.Close()
	d := docker{server.URL}
	layer := []byte("a layer")
	d.pushLayer(t, "base", layer)
	dg := digest.FromBytes(layer).String()

	resp, _ := d.do(t, http.MethodPost, "/v2/app/blobs/uploads/?from=base&mount="+url.QueryEscape(dg), nil, nil)
	qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusCreated))
	qt.Check(t, qt.Equals(resp.Header.Get("Docker-Content-Digest"), dg))
	d.pullBlob(t, "app", layer)

	// The engine's memory is at fault: it gets a session for an upload.
	resp, _ = d.do(t, http.MethodPost, "/v2/app/blobs/uploads/?from=gone&mount="+url.QueryEscape(digest.FromString("other").String()), nil, nil)
	d.checkSession(t, resp, "app")
}

// TestDocker_GetsTheErrorsThatItKnows makes requests that fail, of which the
// engine shows the user the message.
func TestDocker_GetsTheErrorsThatItKnows(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(ociserver.New(ocimem.New(), nil))
	defer server.Close()
	d := docker{server.URL}
	d.pushLayer(t, "app", []byte("a layer"))
	tests := []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"GET", "/v2/app/manifests/missing", "", http.StatusNotFound, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/missing/manifests/latest", "", http.StatusNotFound, "NAME_UNKNOWN"},
		{"GET", "/v2/app/blobs/" + digest.FromString("missing").String(), "", http.StatusNotFound, "BLOB_UNKNOWN"},
		{"PUT", "/v2/app/manifests/latest", string(dockerManifest(t, []byte("missing"), []byte("a layer"))), http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN"},
		{"PUT", "/v2/app/manifests/latest", `{"schemaVersion":`, http.StatusBadRequest, "MANIFEST_INVALID"},
	}
	for _, test := range tests {
		header := http.Header{"Accept": dockerAccept["Accept"], "Content-Type": {dockerManifestType}}
		resp, body := d.do(t, test.method, test.path, strings.NewReader(test.body), header)
		qt.Check(t, qt.Equals(resp.StatusCode, test.status), qt.Commentf("%s %s: %s", test.method, test.path, body))
		var answer struct {
			Errors []struct{ Code, Message string }
		}
		qt.Assert(t, qt.IsNil(json.Unmarshal(body, &answer)), qt.Commentf("%s", body))
		qt.Assert(t, qt.HasLen(answer.Errors, 1))
		qt.Check(t, qt.Equals(answer.Errors[0].Code, test.code))
		qt.Check(t, qt.Not(qt.Equals(answer.Errors[0].Message, "")))
	}
}

// dockerAccept is what the engine accepts for a manifest, in one header line
// for each type.
var dockerAccept = http.Header{"Accept": {
	"application/json",
	"application/vnd.oci.image.manifest.v1+json",
	"application/vnd.oci.image.index.v1+json",
	"application/vnd.docker.distribution.manifest.v1+prettyjws",
	"application/vnd.docker.distribution.manifest.list.v2+json",
	dockerManifestType,
}}

// docker speaks like the Docker engine to the registry at a URL.
type docker struct{ base string }

// dockerClient gets the answers to requests that the server refuses to read.
var dockerClient = &http.Client{Transport: &http.Transport{DialContext: patient.Dial}}

// do makes a request and returns the answer and its body. The target is a path,
// or a whole URL.
func (d docker) do(t *testing.T, method, target string, body io.Reader, header http.Header) (*http.Response, []byte) {
	t.Helper()
	if strings.HasPrefix(target, "/") {
		target = d.base + target
	}
	req, err := http.NewRequestWithContext(t.Context(), method, target, body)
	qt.Assert(t, qt.IsNil(err))
	for key, values := range header {
		req.Header[key] = values
	}
	req.Header.Set("User-Agent", `docker/27.3.1 go/go1.22.7 git-commit/41ca978 kernel/6.1.0 os/linux arch/amd64 UpstreamClient(Docker-Client/27.3.1 \(linux\))`)
	if method == http.MethodGet {
		req.Header.Set("Accept-Encoding", "identity")
	}
	resp, err := dockerClient.Do(req)
	qt.Assert(t, qt.IsNil(err))
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	qt.Assert(t, qt.IsNil(err))
	return resp, data
}

// pushLayer pushes a blob that is not there: the engine asks for it, opens a
// session, streams the blob in one chunk of unknown length, and commits with no
// more than the digest.
func (d docker) pushLayer(t *testing.T, repo string, layer []byte) {
	t.Helper()
	dg := digest.FromBytes(layer).String()
	resp, _ := d.do(t, http.MethodHead, "/v2/"+repo+"/blobs/"+dg, nil, nil)
	qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusNotFound))
	resp, _ = d.do(t, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil, nil)
	location := d.checkSession(t, resp, repo)
	// The reader hides its length, which makes the encoding chunked.
	stream := io.MultiReader(bytes.NewReader(layer))
	resp, _ = d.do(t, http.MethodPatch, location, stream, http.Header{"Content-Type": {"application/octet-stream"}})
	location = d.checkSession(t, resp, repo)
	qt.Check(t, qt.Equals(resp.Header.Get("Range"), fmt.Sprintf("0-%d", len(layer)-1)))
	resp, _ = d.do(t, http.MethodPut, withDigest(t, location, dg), nil, nil)
	d.checkCreated(t, resp, repo, dg)
}

// pushConfig pushes a blob in the request that commits it.
func (d docker) pushConfig(t *testing.T, repo string, config []byte) {
	t.Helper()
	dg := digest.FromBytes(config).String()
	resp, _ := d.do(t, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil, nil)
	location := d.checkSession(t, resp, repo)
	resp, _ = d.do(t, http.MethodPut, withDigest(t, location, dg), bytes.NewReader(config), http.Header{"Content-Type": {"application/octet-stream"}})
	d.checkCreated(t, resp, repo, dg)
}

// checkSession checks the answer that a session is open, and returns where.
func (d docker) checkSession(t *testing.T, resp *http.Response, repo string) string {
	t.Helper()
	qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusAccepted))
	qt.Check(t, qt.Not(qt.Equals(resp.Header.Get("Docker-Upload-Uuid"), "")))
	location, err := resp.Location()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.StringContains(location.String(), d.base+"/v2/"+repo+"/blobs/uploads/"))
	return location.String()
}

func (d docker) checkCreated(t *testing.T, resp *http.Response, repo, dg string) {
	t.Helper()
	qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusCreated))
	qt.Check(t, qt.Equals(resp.Header.Get("Docker-Content-Digest"), dg))
	location, err := resp.Location()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(location.String(), d.base+"/v2/"+repo+"/blobs/"+dg))
}

// pullBlob gets a blob whole, and then its second half, which is how the engine
// goes on after a broken connection.
func (d docker) pullBlob(t *testing.T, repo string, want []byte) {
	t.Helper()
	dg := digest.FromBytes(want).String()
	path := "/v2/" + repo + "/blobs/" + dg
	resp, _ := d.do(t, http.MethodHead, path, nil, nil)
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusOK))
	qt.Check(t, qt.Equals(resp.ContentLength, int64(len(want))))
	resp, got := d.do(t, http.MethodGet, path, nil, nil)
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusOK))
	qt.Check(t, qt.Equals(resp.ContentLength, int64(len(want))))
	qt.Check(t, qt.Equals(resp.Header.Get("Docker-Content-Digest"), dg))
	qt.Check(t, qt.IsTrue(bytes.Equal(got, want)))

	half := len(want) / 2
	resp, got = d.do(t, http.MethodGet, path, nil, http.Header{"Range": {fmt.Sprintf("bytes=%d-", half)}})
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusPartialContent))
	qt.Check(t, qt.Equals(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", half, len(want)-1, len(want))))
	qt.Check(t, qt.IsTrue(bytes.Equal(got, want[half:])))
}

func checkManifestHeader(t *testing.T, resp *http.Response, manifest []byte) {
	t.Helper()
	qt.Check(t, qt.Equals(resp.Header.Get("Content-Type"), dockerManifestType))
	qt.Check(t, qt.Equals(resp.Header.Get("Content-Length"), strconv.Itoa(len(manifest))))
	qt.Check(t, qt.Equals(resp.Header.Get("Docker-Content-Digest"), digest.FromBytes(manifest).String()))
}

// withDigest adds a digest to what query the location of a session has.
func withDigest(t *testing.T, location, dg string) string {
	t.Helper()
	u, err := url.Parse(location)
	qt.Assert(t, qt.IsNil(err))
	query := u.Query()
	query.Set("digest", dg)
	u.RawQuery = query.Encode()
	return u.String()
}

func dockerManifest(t *testing.T, config, layer []byte) []byte {
	t.Helper()
	descriptor := func(mediaType string, data []byte) map[string]any {
		return map[string]any{"mediaType": mediaType, "size": len(data), "digest": digest.FromBytes(data)}
	}
	// The engine indents by three spaces.
	manifest, err := json.MarshalIndent(map[string]any{
		"schemaVersion": 2,
		"mediaType":     dockerManifestType,
		"config":        descriptor(dockerConfigType, config),
		"layers":        []any{descriptor(dockerLayerType, layer)},
	}, "", "   ")
	qt.Assert(t, qt.IsNil(err))
	return manifest
}
