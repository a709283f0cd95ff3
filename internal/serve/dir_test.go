package serve

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
)

// TestDirSurvivesRestart checks that a directory has everything when the program
// has ended, and that the next one goes on with it, upload sessions included.
func TestDirSurvivesRestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "root")
	url, log, stop := start(t, "-dir", dir)
	d := docker{strings.TrimSuffix(url, "/v2")}
	layer, config := bytes.Repeat([]byte("a layer "), 10_000), []byte("{}")
	manifest := d.pushImage(t, "a/b", "v1", config, layer)
	resp, _ := d.do(t, http.MethodPost, "/v2/a/b/blobs/uploads/", nil, nil)
	location := d.checkSession(t, resp, "a/b")
	resp, _ = d.do(t, http.MethodPatch, location, strings.NewReader("first, "), nil)
	location = d.checkSession(t, resp, "a/b")
	qt.Assert(t, qt.Equals(stop(), 0), qt.Commentf("log: %s", log))

	index, err := os.ReadFile(filepath.Join(dir, "a", "b", "index.json"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.StringContains(string(index), `"org.opencontainers.image.ref.name":"v1"`))
	for _, data := range [][]byte{manifest, config, layer} {
		dg := digest.FromBytes(data)
		got, err := os.ReadFile(filepath.Join(dir, "a", "b", "blobs", "sha256", dg.Encoded()))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(bytes.Equal(got, data)))
	}

	oldBase := d.base
	url, log, stop = start(t, "-dir", dir, "-no-sync")
	d.base = strings.TrimSuffix(url, "/v2")
	d.pullImage(t, "a/b", "v1", manifest, config, layer)
	location = d.base + strings.TrimPrefix(location, oldBase)
	resp, _ = d.do(t, http.MethodGet, location, nil, nil)
	qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusNoContent))
	qt.Check(t, qt.Equals(resp.Header.Get("Range"), "0-6"))
	resp, _ = d.do(t, http.MethodPatch, location, strings.NewReader("last"), nil)
	location = d.checkSession(t, resp, "a/b")
	blob := []byte("first, last")
	resp, _ = d.do(t, http.MethodPut, withDigest(t, location, digest.FromBytes(blob).String()), nil, nil)
	d.checkCreated(t, resp, "a/b", digest.FromBytes(blob).String())
	d.pullBlob(t, "a/b", blob)
	qt.Assert(t, qt.Equals(stop(), 0), qt.Commentf("log: %s", log))
}

// TestVerifyReads_ServesNothingDamaged checks that a blob which was damaged has no
// clean end, and is unknown from then on.
func TestVerifyReads_ServesNothingDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url, _, stop := start(t, "-dir", dir, "-verify-reads")
	defer stop()
	d := docker{strings.TrimSuffix(url, "/v2")}
	layer := bytes.Repeat([]byte("a layer"), 100_000)
	d.pushImage(t, "app", "v1", []byte("{}"), layer)
	dg := digest.FromBytes(layer)
	layer[0] ^= 1
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "app", "blobs", "sha256", dg.Encoded()), layer, 0o666)))
	for _, complete := range []bool{false, true} {
		resp, err := http.Get(d.base + "/v2/app/blobs/" + dg.String())
		qt.Assert(t, qt.IsNil(err))
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if qt.Check(t, qt.Equals(err == nil, complete)); complete {
			qt.Check(t, qt.Equals(resp.StatusCode, http.StatusNotFound))
		}
	}
}

// TestLayout_IsServedAsOneRepository checks that a layout is served under its own
// name or a given one, and that there is nothing else beside it.
func TestLayout_IsServedAsOneRepository(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "app")
	url, _, stop := start(t, "-layout", dir)
	d := docker{strings.TrimSuffix(url, "/v2")}
	manifest := d.pushImage(t, "app", "v1", []byte("{}"), []byte("a layer"))
	resp, body := d.do(t, http.MethodPost, "/v2/other/blobs/uploads/", nil, nil)
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusForbidden), qt.Commentf("%s", body))
	qt.Assert(t, qt.Equals(stop(), 0))
	index, err := os.ReadFile(filepath.Join(dir, "index.json"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.StringContains(string(index), digest.FromBytes(manifest).String()))

	url, _, stop = start(t, "-layout", dir, "-repo", "team/app")
	d = docker{strings.TrimSuffix(url, "/v2")}
	d.pullImage(t, "team/app", "v1", manifest, []byte("{}"), []byte("a layer"))
	resp, body = d.do(t, http.MethodGet, "/v2/_catalog", nil, nil)
	qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusOK))
	qt.Check(t, qt.JSONEquals(body, map[string]any{"repositories": []string{"team/app"}}))
	qt.Assert(t, qt.Equals(stop(), 0))
}

// TestFlagsReachDirectory checks that the flags that memory has hold for
// directories as well.
func TestFlagsReachDirectory(t *testing.T) {
	t.Parallel()
	config, layer := []byte("{}"), []byte("a layer")
	other := dockerManifest(t, []byte("absent"), layer)
	header := http.Header{"Content-Type": {dockerManifestType}}
	tests := []struct {
		flags  []string
		status int // of moving a tag to a manifest whose config is absent
	}{
		{nil, http.StatusNotFound},
		{[]string{"-sparse"}, http.StatusCreated},
		{[]string{"-sparse", "-immutable"}, http.StatusForbidden},
		{[]string{"-sparse", "-max-bytes=1000"}, http.StatusForbidden},
	}
	for _, test := range tests {
		url, _, stop := start(t, append(test.flags, "-dir", t.TempDir())...)
		d := docker{strings.TrimSuffix(url, "/v2")}
		d.pushImage(t, "app", "v1", config, layer)
		resp, body := d.do(t, http.MethodPut, "/v2/app/manifests/v1", bytes.NewReader(other), header)
		qt.Check(t, qt.Equals(resp.StatusCode, test.status), qt.Commentf("%q: %s", test.flags, body))
		qt.Check(t, qt.Equals(stop(), 0))
	}
}

// TestReadOnlyWritesNothing checks that a directory is as it was after all kinds
// of requests.
func TestReadOnlyWritesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url, _, stop := start(t, "-dir", dir)
	d := docker{strings.TrimSuffix(url, "/v2")}
	config, layer := []byte("{}"), []byte("a layer")
	manifest := d.pushImage(t, "app", "v1", config, layer)
	resp, _ := d.do(t, http.MethodPost, "/v2/app/blobs/uploads/", nil, nil)
	session := strings.TrimPrefix(d.checkSession(t, resp, "app"), d.base)
	qt.Assert(t, qt.Equals(stop(), 0))
	before := treeOf(t, dir)

	for _, args := range [][]string{{"-dir", dir}, {"-layout", filepath.Join(dir, "app")}} {
		url, _, stop = start(t, append(args, "-read-only")...)
		d = docker{strings.TrimSuffix(url, "/v2")}
		d.pullImage(t, "app", "v1", manifest, config, layer)
		layerPath := "/v2/app/blobs/" + digest.FromBytes(layer).String()
		manifestPath := "/v2/app/manifests/" + digest.FromBytes(manifest).String()
		for _, request := range []struct{ method, path string }{
			{"POST", "/v2/app/blobs/uploads/"},
			{"POST", "/v2/new/blobs/uploads/"},
			{"POST", "/v2/app/blobs/uploads/?digest=" + digest.FromString("new").String()},
			{"POST", "/v2/app/blobs/uploads/?from=app&mount=" + digest.FromBytes(layer).String()},
			{"PATCH", session},
			{"PUT", "/v2/app/manifests/v2"},
			{"DELETE", "/v2/app/manifests/v1"},
			{"DELETE", manifestPath},
			{"DELETE", layerPath},
		} {
			body := "new"
			if request.method == "PUT" {
				body = string(manifest)
			}
			resp, answer := d.do(t, request.method, request.path, strings.NewReader(body), http.Header{"Content-Type": {dockerManifestType}})
			qt.Check(t, qt.Equals(resp.StatusCode, http.StatusForbidden), qt.Commentf("%s %s: %s", request.method, request.path, answer))
			qt.Check(t, qt.StringContains(string(answer), "DENIED"))
		}
		qt.Assert(t, qt.Equals(stop(), 0))
		qt.Check(t, qt.DeepEquals(treeOf(t, dir), before))
	}
}

// TestCloseThatFails_IsReported checks that a layout that cannot be brought up to
// date is an error of the program.
func TestCloseThatFails_IsReported(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url, log, stop := start(t, "-dir", dir)
	d := docker{strings.TrimSuffix(url, "/v2")}
	config, layer := []byte("{}"), []byte("a layer")
	d.pushConfig(t, "app", config)
	// Something that cannot be replaced is where the manifest is to be.
	manifest := dockerManifest(t, config, layer)
	obstacle := filepath.Join(dir, "app", "blobs", "sha256", digest.FromBytes(manifest).Encoded(), "obstacle")
	qt.Assert(t, qt.IsNil(os.MkdirAll(obstacle, 0o777)))
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, ".ocifs", "damaged"), nil, 0o666))) // nor set aside
	d.pushImage(t, "app", "v1", config, layer)
	qt.Check(t, qt.Equals(stop(), 1))
	qt.Check(t, qt.StringContains(log.String(), "\nociserve: closing the registry: "))
	qt.Check(t, qt.StringContains(log.String(), filepath.Dir(obstacle)))
}

func TestBadPaths_AreReported(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, absent := filepath.Join(dir, "file"), filepath.Join(dir, "absent")
	qt.Assert(t, qt.IsNil(os.WriteFile(file, nil, 0o666)))
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"-dir", file}, "not a directory"},
		{[]string{"-dir", filepath.Join(file, "below")}, "not a directory"},
		{[]string{"-dir", file, "-read-only"}, "not a directory"},
		{[]string{"-dir", absent, "-read-only"}, "no such file or directory"},
		{[]string{"-layout", file}, "not a directory"},
		{[]string{"-layout", absent, "-read-only"}, "no such file or directory"},
	}
	for _, test := range tests {
		var stdout, stderr bytes.Buffer
		args := append([]string{"-addr", "127.0.0.1:0"}, test.args...)
		qt.Check(t, qt.Equals(Program{}.Run(t.Context(), args, &stdout, &stderr), 1), qt.Commentf("%q", test.args))
		qt.Check(t, qt.StringContains(stderr.String(), test.args[1]))
		qt.Check(t, qt.StringContains(stderr.String(), test.want))
		qt.Check(t, qt.Equals(stdout.String(), ""))
	}
	entries, err := os.ReadDir(dir)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(entries, 1))
}

// pushImage pushes a manifest and its blobs, and returns the manifest.
func (d docker) pushImage(t *testing.T, repo, tag string, config, layer []byte) []byte {
	t.Helper()
	manifest := dockerManifest(t, config, layer)
	d.pushConfig(t, repo, config)
	d.pushLayer(t, repo, layer)
	resp, body := d.do(t, http.MethodPut, "/v2/"+repo+"/manifests/"+tag, bytes.NewReader(manifest), http.Header{"Content-Type": {dockerManifestType}})
	qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusCreated), qt.Commentf("%s", body))
	return manifest
}

// pullImage checks what is there under a tag.
func (d docker) pullImage(t *testing.T, repo, tag string, manifest, config, layer []byte) {
	t.Helper()
	resp, body := d.do(t, http.MethodGet, "/v2/"+repo+"/manifests/"+tag, nil, dockerAccept)
	qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusOK), qt.Commentf("%s", body))
	checkManifestHeader(t, resp, manifest)
	qt.Check(t, qt.Equals(string(body), string(manifest)))
	d.pullBlob(t, repo, config)
	d.pullBlob(t, repo, layer)
}

// treeOf returns what there is to see of a directory and all below it.
func treeOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	tree := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		tree[path] = fmt.Sprintf("%v %v", info.Mode(), info.ModTime())
		if !entry.Type().IsRegular() {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		sum := sha256.New()
		_, err = io.Copy(sum, f)
		tree[path] += fmt.Sprintf(" %x", sum.Sum(nil))
		return err
	})
	qt.Assert(t, qt.IsNil(err))
	return tree
}
