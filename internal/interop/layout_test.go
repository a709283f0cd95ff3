package interop

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// refName is the annotation by which a layout names what it holds.
const refName = "org.opencontainers.image.ref.name"

// layoutIndex is the index.json of an OCI image layout.
type layoutIndex struct {
	SchemaVersion int          `json:"schemaVersion"`
	Manifests     []descriptor `json:"manifests"`
}

// writeLayout writes c as the only content of a new OCI image layout, under a
// tag, and returns its directory.
func writeLayout(t testing.TB, c content, tag string) string {
	dir := t.TempDir()
	root := c.root
	root.Annotations = map[string]string{refName: tag}
	index := layoutIndex{SchemaVersion: 2, Manifests: []descriptor{root}}
	files := map[string][]byte{
		"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`),
		"index.json": marshal(t, index),
	}
	for digest, data := range c.blobs {
		files[blobPath(digest)] = data
	}
	writeFiles(t, dir, files)
	return dir
}

// checkLayout checks that the layout in dir lists the root of c, and holds the
// blobs of c and no others.
func checkLayout(t testing.TB, dir string, c content) {
	t.Helper()
	index := readIndex(t, dir)
	listed := slices.ContainsFunc(index.Manifests, func(desc descriptor) bool {
		return desc.Digest == c.root.Digest && desc.Size == c.root.Size && desc.MediaType == c.root.MediaType
	})
	if !listed {
		t.Errorf("%s: index.json lists %+v, and not %+v", dir, index.Manifests, c.root)
	}
	var got []string
	err := filepath.WalkDir(filepath.Join(dir, "blobs"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			algorithm := filepath.Base(filepath.Dir(path))
			got = append(got, algorithm+":"+entry.Name())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if want := slices.Sorted(maps.Keys(c.blobs)); !slices.Equal(got, want) {
		t.Fatalf("%s holds the blobs\n%s\nwant\n%s", dir, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for digest, want := range c.blobs {
		checkBytes(t, dir+": "+digest, readFile(t, filepath.Join(dir, blobPath(digest))), want)
	}
}

// readIndex reads the index.json of a layout.
func readIndex(t testing.TB, dir string) layoutIndex {
	t.Helper()
	var index layoutIndex
	if err := json.Unmarshal(readFile(t, filepath.Join(dir, "index.json")), &index); err != nil {
		t.Fatalf("%s: index.json: %v", dir, err)
	}
	return index
}

// blobPath returns where a layout has a blob.
func blobPath(digest string) string {
	return filepath.Join("blobs", strings.Replace(digest, ":", "/", 1))
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// checkBytes compares without printing megabytes.
func checkBytes(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got %d bytes of digest %s, want %d of digest %s", what, len(got), sha256Digest(got), len(want), sha256Digest(want))
	}
}
