package interop

import (
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// zotRepo is a repository in a directory of zot's.
type zotRepo struct {
	held
	extras map[string][]byte // further files

	// unlisted are manifests that only an index names. Zot lists the others,
	// tagged or not.
	unlisted []content
}

// TestServesDirectoryOfZot serves a directory as zot leaves it when it has
// deduplicated blobs, and pushes to it.
func TestServesDirectoryOfZot(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	image, arm, index := newImage(t, formatOCI, "amd64"), newImage(t, formatOCI, "arm64"), newIndex(t)
	docker, other := newImage(t, formatDocker, "amd64"), newArtifact(t, nil, "other\n")
	sbom := newArtifact(t, &image, "gcc\n")
	signature := newArtifact(t, &sbom, "us\n")
	cosignTag := strings.Replace(image.root.Digest, ":", "-", 1) + ".sig"
	repos := map[string]zotRepo{
		"app": {
			held: held{
				tags:      map[string]content{"1.0": image, "1.1": image, "both": index, cosignTag: other},
				untagged:  []content{image, arm, sbom, signature},
				referrers: map[string][]string{image.root.Digest: {typeSBOM}, sbom.root.Digest: {typeSBOM}, index.root.Digest: nil},
			},
			extras: map[string][]byte{
				".uploads/1f9a5a4e-9d29-4a43-8d8c-5d7a3c8f5b0e": []byte("the begin of a blob"),
				".sync/8c1e2f9b/app/oci-layout":                 []byte(`{"imageLayoutVersion":"1.0.0"}`),
				".sync/8c1e2f9b/app/index.json":                 []byte(`{"schemaVersion":2,"manifests":[]}`),
			},
		},
		"app/nested/deep":  {held: held{tags: map[string]content{"v1": index}, untagged: []content{image, arm}}, unlisted: []content{image, arm}},
		"a/b/c":            {held: held{tags: map[string]content{"docker": docker}}},
		"a/b-c/untagged":   {held: held{untagged: []content{other}}},
		"library/emptied":  {extras: map[string][]byte{".uploads/x": nil}},
		"library/sha512.x": {held: held{tags: map[string]content{"v1": newImage(t, formatSHA512, "amd64")}}},
	}
	originals := make(map[string]string) // paths by digest
	for name, repo := range repos {
		repo.write(t, root, name, originals)
	}
	rootExtras := map[string][]byte{
		"cache.db":                               []byte("bolt"),
		"meta.db":                                []byte("bolt"),
		"_restore_complete":                      []byte("1"),
		"_trivy/db/trivy.db":                     []byte("bolt"),
		"_blobstore/oci-layout":                  []byte(`{"imageLayoutVersion":"1.0.0"}`),
		"_blobstore/index.json":                  []byte(`{"schemaVersion":2,"manifests":[]}`),
		"_blobstore/" + blobPath(missing):        []byte("a blob of which zot has the original here"),
		".sync/_stream/tmp":                      nil,
		"library/no-layout/blobs/sha256/ignored": nil,
	}
	writeFiles(t, root, rootExtras)
	checkAll := func(s *server) {
		t.Helper()
		checkList(t, s.catalog(t), []string{"a/b-c/untagged", "a/b/c", "app", "app/nested/deep", "library/sha512.x"})
		for name, repo := range repos {
			if name != "library/emptied" {
				s.checkHeld(t, name, repo.held)
			}
		}
	}

	before := readFile(t, filepath.Join(root, "app", "index.json"))
	s := startServing(t, []string{"-dir", root, "-read-only"})
	checkAll(s)
	s.stop()
	checkBytes(t, "index.json", readFile(t, filepath.Join(root, "app", "index.json")), before)

	s = startServing(t, []string{"-dir", root}, http.StatusMethodNotAllowed)
	checkAll(s)
	s.push(t, "app", "2.0", arm)
	s.putTag(t, "app", "1.1", arm)
	s.push(t, "library/pushed", "v1", image)
	repos["app"].tags["2.0"], repos["app"].tags["1.1"] = arm, arm
	// An index that is not listed with its children holds on to them all the same.
	s.send(t, http.MethodDelete, "app/nested/deep/manifests/"+arm.root.Digest, http.StatusMethodNotAllowed)
	// Blobs are mounted as links.
	layer := image.layers(t)[0]
	s.send(t, http.MethodPost, "library/mounted/blobs/uploads/?from=app&mount="+layer, http.StatusCreated)
	checkLinked(t, root, layer, "app", "app/nested/deep", "library/mounted")
	s.stop()

	again := startServing(t, []string{"-dir", root, "-read-only"})
	again.checkHeld(t, "library/pushed", held{tags: map[string]content{"v1": image}})
	for name, repo := range repos {
		if name != "library/emptied" {
			again.checkHeld(t, name, repo.held)
		}
		awaitLayout(t, filepath.Join(root, name), held{tags: repo.tags})
		checkExtras(t, filepath.Join(root, name), repo.extras)
	}
	checkExtras(t, root, rootExtras)
}

// write writes the repository as zot does: blobs of which there is an original
// in another are links to that.
func (repo zotRepo) write(t *testing.T, root, name string, originals map[string]string) {
	t.Helper()
	dir := filepath.Join(root, name)
	index := layoutIndex{SchemaVersion: 2, Manifests: []descriptor{}}
	blobs := make(map[string][]byte)
	listed := make(map[string]bool)
	add := func(c content, tag string) {
		desc := descriptor{MediaType: c.root.MediaType, Digest: c.root.Digest, Size: c.root.Size}
		if tag != "" {
			desc.Annotations = map[string]string{refName: tag}
		}
		index.Manifests = append(index.Manifests, desc)
		maps.Copy(blobs, c.blobs)
		listed[c.root.Digest] = true
	}
	for tag, c := range repo.tags {
		add(c, tag)
	}
	for _, c := range repo.unlisted {
		listed[c.root.Digest] = true
	}
	for _, c := range repo.untagged {
		if !listed[c.root.Digest] {
			add(c, "")
		}
	}
	files := map[string][]byte{
		"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`),
		"index.json": marshal(t, index),
	}
	maps.Copy(files, repo.extras)
	writeFiles(t, dir, files)
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o700); err != nil {
		t.Fatal(err)
	}
	for digest, data := range blobs {
		if first, ok := originals[digest]; ok {
			path := filepath.Join(dir, blobPath(digest))
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.Link(first, path)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		writeFiles(t, dir, map[string][]byte{blobPath(digest): data})
		originals[digest] = filepath.Join(dir, blobPath(digest))
	}
}

// checkExtras checks that files are as they were.
func checkExtras(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		checkBytes(t, name, readFile(t, filepath.Join(dir, name)), data)
	}
}

// checkLinked checks that some repositories have one file for a blob.
func checkLinked(t testing.TB, root, digest string, repos ...string) {
	t.Helper()
	var infos []fs.FileInfo
	for _, repo := range repos {
		info, err := os.Stat(filepath.Join(root, repo, blobPath(digest)))
		if err != nil {
			t.Fatal(err)
		}
		infos = append(infos, info)
	}
	for i, info := range infos {
		if !os.SameFile(info, infos[0]) {
			t.Errorf("%s has another file for %s than %s", repos[i], digest, repos[0])
		}
	}
}
