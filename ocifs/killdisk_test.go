package ocifs_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

// What is on disk when no process has the root open, as doc.go tells it.

// checkDisk checks that there is no file which nothing needs.
func (k *killRun) checkDisk() {
	k.checkStaging(0)
	k.checkIndexes("after Close", k.readIndexes())
	held := map[string]bool{".ocifs/uploads.key": true} // the paths of what there is
	for _, repo := range killRepos {
		for _, name := range []string{"oci-layout", "index.json", ".ocifs/journal", ".ocifs/snapshot"} {
			held[path.Join(repo, name)] = true
		}
	}
	for key, value := range k.known {
		if key.kind != 't' && value != "" {
			blob := path.Join("blobs", strings.Replace(value, ":", "/", 1))
			held[path.Join(".ocifs", blob)] = true
			held[path.Join(key.repo, blob)] = true
		}
	}
	nameless := make(map[string]bool)
	err := fs.WalkDir(os.DirFS(k.root), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || held[name] || strings.HasPrefix(name, ".ocifs/ended/") {
			return err
		}
		if isKillGarbage(name) {
			return nil
		}
		id, isUpload := strings.CutPrefix(name, ".ocifs/uploads/")
		id, _, _ = strings.Cut(id, ".")
		switch {
		case !isUpload:
			k.Errorf("%s: %s is left on disk", k.round, name)
		case k.sessions[id].ID == "":
			nameless[id] = true
		}
		return nil
	})
	if err != nil || len(nameless) > k.nameless {
		k.Errorf("%s: error %v; on disk are the upload sessions %v, which nobody has begun", k.round, err, nameless)
	}
}

// checkStaging checks that at most so many processes have a staging directory.
func (k *killRun) checkStaging(most int) {
	entries, err := os.ReadDir(filepath.Join(k.root, ".ocifs", "staging"))
	owners := make(map[string]bool)
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), ".")
		owners[name] = true
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) || len(owners) > most {
		k.Errorf("%s: the staging directories are %v (%v), want at most %d", k.round, entries, err, most)
	}
}

// diskIndex is what an index.json has.
type diskIndex struct {
	tags    map[string]string
	digests map[string]bool // of manifests, also of those in nested indexes
}

// readIndexes reads the index.json of each repository that has one, and checks
// that what it names is on disk.
func (k *killRun) readIndexes() map[string]diskIndex {
	indexes := make(map[string]diskIndex)
	for _, repo := range killRepos {
		dir := filepath.Join(k.root, filepath.FromSlash(repo))
		index, err := readDiskIndex(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			k.Errorf("%s: the index of %s: %v", k.round, repo, err)
		default:
			indexes[repo] = index
		}
	}
	return indexes
}

func readDiskIndex(dir string) (diskIndex, error) {
	d := diskIndex{make(map[string]string), make(map[string]bool)}
	var index ocispec.Index
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	for _, m := range index.Manifests {
		if tag := m.Annotations[ocispec.AnnotationRefName]; tag != "" {
			if d.tags[tag] != "" {
				return d, fmt.Errorf("the tag %s is there twice", tag)
			}
			d.tags[tag] = string(m.Digest)
		}
		if err == nil {
			err = d.follow(dir, m)
		}
	}
	return d, err
}

// follow reads a manifest, and what it names.
func (d diskIndex) follow(dir string, desc ociregistry.Descriptor) error {
	data, err := readDiskBlob(dir, desc)
	if err != nil || d.digests[string(desc.Digest)] {
		return err
	}
	d.digests[string(desc.Digest)] = true
	var m struct {
		Config            *ociregistry.Descriptor
		Layers, Manifests []ociregistry.Descriptor
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	if m.Config != nil {
		m.Layers = append(m.Layers, *m.Config)
	}
	for _, desc := range m.Layers {
		if _, err := readDiskBlob(dir, desc); err != nil {
			return err
		}
	}
	for _, desc := range m.Manifests {
		if err := d.follow(dir, desc); err != nil {
			return err
		}
	}
	return nil
}

func readDiskBlob(dir string, desc ociregistry.Descriptor) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(dir, "blobs", desc.Digest.Algorithm().String(), desc.Digest.Encoded()))
	if err == nil && fmt.Sprintf("%x", sha256.Sum256(data)) != desc.Digest.Encoded() {
		err = fmt.Errorf("the file of %s has other content, of %d bytes", desc.Digest, len(data))
	}
	return data, err
}

// checkIndexes checks that indexes have everything that is there.
func (k *killRun) checkIndexes(when string, indexes map[string]diskIndex) {
	for _, repo := range killRepos {
		want := diskIndex{make(map[string]string), make(map[string]bool)}
		exists := false
		for key, value := range k.known {
			if key.repo != repo || value == "" {
				continue
			}
			exists = true
			switch key.kind {
			case 't':
				want.tags[key.name] = value
			case 'm':
				want.digests[value] = true
			}
		}
		// A layout that holds nothing may be left of a first push that did not come
		// to its end.
		got, ok := indexes[repo]
		if exists && !ok || !maps.Equal(got.tags, want.tags) || !maps.Equal(got.digests, want.digests) {
			k.Errorf("%s: %s, index.json of %s has (%v)\n\t%v, want\n\t%v", k.round, when, repo, ok, got, want)
		}
	}
}
