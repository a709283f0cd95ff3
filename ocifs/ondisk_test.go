package ocifs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

// layout is what another program reads in a layout directory.
type layout struct {
	entries []entry
	blobs   map[ociregistry.Digest]int64 // sizes in bytes
}

// entry is an entry of index.json.
type entry struct {
	ocispec.Descriptor
	raw string
}

// readLayout reads a layout directory, and returns an error unless it is as the
// image specification's "OCI Image Layout Specification" has it.
func readLayout(dir string) (l layout, err error) {
	if err := readVersion(dir); err != nil {
		return l, err
	}
	if l.entries, err = readIndex(dir); err != nil {
		return l, err
	}
	l.blobs, err = readBlobs(dir)
	return l, err
}

func readVersion(dir string) error {
	var version struct {
		Version *string `json:"imageLayoutVersion"`
	}
	text, err := os.ReadFile(filepath.Join(dir, "oci-layout"))
	if err == nil {
		err = json.Unmarshal(text, &version)
	}
	if err != nil {
		return fmt.Errorf("oci-layout: %w", err)
	}
	if version.Version == nil || *version.Version != "1.0.0" {
		return fmt.Errorf("oci-layout has %q", text)
	}
	return nil
}

func readIndex(dir string) ([]entry, error) {
	text, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return nil, err
	}
	var index struct {
		SchemaVersion int                `json:"schemaVersion"`
		MediaType     *string            `json:"mediaType"`
		Manifests     *[]json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(text, &index); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	if index.SchemaVersion != 2 || index.Manifests == nil || index.MediaType != nil && *index.MediaType != ocispec.MediaTypeImageIndex {
		return nil, fmt.Errorf("index.json has %q", text)
	}
	var entries []entry
	for _, raw := range *index.Manifests {
		e := entry{raw: string(raw)}
		if err := json.Unmarshal(raw, &e.Descriptor); err != nil {
			return nil, fmt.Errorf("index.json: %s: %w", raw, err)
		}
		if e.MediaType == "" || e.Digest.Validate() != nil || e.Size < 0 {
			return nil, fmt.Errorf("index.json: %s", raw)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// readBlobs returns the blobs, whose bytes must be those that their names say.
func readBlobs(dir string) (map[ociregistry.Digest]int64, error) {
	blobs := make(map[ociregistry.Digest]int64)
	algorithms, err := os.ReadDir(filepath.Join(dir, "blobs"))
	if err != nil {
		return nil, err
	}
	for _, alg := range algorithms {
		files, err := os.ReadDir(filepath.Join(dir, "blobs", alg.Name()))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			d := digest.NewDigestFromEncoded(digest.Algorithm(alg.Name()), file.Name())
			n, err := checkBlobFile(filepath.Join(dir, "blobs", alg.Name(), file.Name()), d)
			if err != nil {
				return nil, err
			}
			blobs[d] = n
		}
	}
	return blobs, nil
}

func checkBlobFile(name string, d ociregistry.Digest) (int64, error) {
	if err := d.Validate(); err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	verifier := d.Verifier()
	n, err := io.Copy(verifier, f)
	if err == nil && !verifier.Verified() {
		err = fmt.Errorf("%s has other bytes", name)
	}
	return n, err
}

// tags returns what the entries with a ref.name point at.
func (l layout) tags() map[string]ociregistry.Digest {
	tags := make(map[string]ociregistry.Digest)
	for _, e := range l.entries {
		if name := e.Annotations[ocispec.AnnotationRefName]; name != "" {
			tags[name] = e.Digest
		}
	}
	return tags
}

// entry returns the first entry with that digest, or a zero one.
func (l layout) entry(d ociregistry.Digest) entry {
	for _, e := range l.entries {
		if e.Digest == d {
			return e
		}
	}
	return entry{}
}

// count returns how many entries have that digest.
func (l layout) count(d ociregistry.Digest) (n int) {
	for _, e := range l.entries {
		if e.Digest == d {
			n++
		}
	}
	return n
}

// tree describes all files in and below dir, which may be a file, by their paths
// relative to it: directories, the bytes of files, and where links lead.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		what := e.Type().String()
		switch {
		case e.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(name)
			if err != nil {
				return err
			}
			what += " " + to
		case e.Type().IsRegular():
			text, err := os.ReadFile(name)
			switch {
			case errors.Is(err, fs.ErrPermission):
				what += " ?"
			case err != nil:
				return err
			default:
				what += " " + string(text)
			}
		}
		rel, err := filepath.Rel(dir, name)
		files[rel] = what
		return err
	})
	qt.Assert(t, qt.IsNil(err))
	return files
}

// writeFile writes a file anew, under its old inode.
func writeFile(t testing.TB, name, text string) {
	t.Helper()
	qt.Assert(t, qt.IsNil(os.WriteFile(name, []byte(text), 0o666)))
}

// eventually waits until ok returns true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
