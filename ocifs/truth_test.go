//go:build unix

package ocifs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// universe is all content that a test may push.
type universe struct {
	repos     []string
	blobs     map[ociregistry.Digest][]byte
	manifests map[ociregistry.Digest]*ocitest.Artifact
}

func newUniverse(repos ...string) *universe {
	return &universe{repos, make(map[ociregistry.Digest][]byte), make(map[ociregistry.Digest]*ocitest.Artifact)}
}

// add adds a manifest, its blobs and its children, and returns it.
func (u *universe) add(a *ocitest.Artifact) *ocitest.Artifact {
	u.manifests[a.Descriptor.Digest] = a
	for _, b := range a.Blobs {
		u.blobs[b.Descriptor.Digest] = b.Bytes()
	}
	for _, child := range a.Children {
		u.add(child)
	}
	return a
}

// blob adds a blob of random bytes.
func (u *universe) blob(seed uint64, size int64) ociregistry.Descriptor {
	b := ocitest.NewBlob(seed, size)
	u.blobs[b.Descriptor.Digest] = b.Bytes()
	return b.Descriptor
}

// size returns how many bytes the content of a digest has.
func (u *universe) size(digest ociregistry.Digest) int64 {
	if a := u.manifests[digest]; a != nil {
		return a.Descriptor.Size
	}
	return int64(len(u.blobs[digest]))
}

// look returns all that r shows of u, a line for each thing. Bytes that are not
// right are a line that no right registry has, and so are errors that do not
// just say that something is not there.
func (u *universe) look(ctx context.Context, r ociregistry.Interface) []string {
	var lines []string
	line := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	repos, err := collect(r.Repositories(ctx, ""))
	for _, repo := range repos {
		line("repository %s", repo)
	}
	if err != nil {
		line("error: %v", err)
	}
	for _, repo := range u.repos {
		tags, err := collect(r.Tags(ctx, repo, ""))
		if err != nil && !(errors.Is(err, ociregistry.ErrNameUnknown) && len(tags) == 0) {
			line("%s tags: %v", repo, err)
		}
		if errors.Is(err, ociregistry.ErrNameUnknown) && !slices.Contains(repos, repo) {
			continue
		}
		for _, tag := range tags {
			line("%s:%s is %s", repo, tag, u.lookTag(ctx, r, repo, tag))
		}
		for _, digest := range sortedKeys(u.blobs) {
			if said := u.lookBlob(ctx, r, repo, digest); said != "absent" {
				line("%s blob %s %s", repo, digest, said)
			}
		}
		for _, digest := range sortedKeys(u.manifests) {
			if said := u.lookManifest(ctx, r, repo, digest); said != "absent" {
				line("%s manifest %s %s", repo, digest, said)
			}
			if _, err := r.ResolveBlob(ctx, repo, digest); err == nil && u.lookManifest(ctx, r, repo, digest) == "absent" {
				line("%s manifest %s is a blob", repo, digest)
			}
			referrers, err := collect(r.Referrers(ctx, repo, digest, ""))
			if err != nil {
				line("%s referrers of %s: %v", repo, digest, err)
			}
			for _, desc := range referrers {
				line("%s manifest %s is a referrer of %s", repo, desc.Digest, digest)
			}
		}
	}
	return lines
}

// lookBlob returns what r says of a blob: "present", "absent", or what is wrong.
func (u *universe) lookBlob(ctx context.Context, r ociregistry.Interface, repo string, digest ociregistry.Digest) string {
	want := u.blobs[digest]
	desc, resolveErr := r.ResolveBlob(ctx, repo, digest)
	if isUnknown(resolveErr, ociregistry.ErrBlobUnknown) && len(want) > 0 && want[0]%4 != 0 {
		return "absent" // most of the time one of the two ways is enough
	}
	b, err := r.GetBlob(ctx, repo, digest)
	return u.found(b, err, ociregistry.ErrBlobUnknown, desc, resolveErr, "application/octet-stream", want)
}

// lookManifest returns what r says of a manifest, as lookBlob does.
func (u *universe) lookManifest(ctx context.Context, r ociregistry.Interface, repo string, digest ociregistry.Digest) string {
	want := u.manifests[digest]
	desc, resolveErr := r.ResolveManifest(ctx, repo, digest)
	b, err := r.GetManifest(ctx, repo, digest)
	return u.found(b, err, ociregistry.ErrManifestUnknown, desc, resolveErr, want.Descriptor.MediaType, want.Manifest)
}

// lookTag returns the digest that a tag points at, or what is wrong.
func (u *universe) lookTag(ctx context.Context, r ociregistry.Interface, repo, tag string) string {
	desc, resolveErr := r.ResolveTag(ctx, repo, tag)
	b, err := r.GetTag(ctx, repo, tag)
	var want []byte
	mediaType := ""
	if a := u.manifests[desc.Digest]; a != nil {
		want, mediaType = a.Manifest, a.Descriptor.MediaType
	}
	if said := u.found(b, err, ociregistry.ErrManifestUnknown, desc, resolveErr, mediaType, want); said != "present" {
		return said
	}
	return string(desc.Digest)
}

// found returns what the two ways to ask for something say of it.
func (u *universe) found(b ociregistry.BlobReader, err, unknown error, resolved ociregistry.Descriptor, resolveErr error, mediaType string, want []byte) string {
	if err != nil || resolveErr != nil {
		if isUnknown(err, unknown) && isUnknown(resolveErr, unknown) {
			return "absent"
		}
		return fmt.Sprintf("cannot be had: %v, %v", err, resolveErr)
	}
	got, err := io.ReadAll(b)
	if closeErr := b.Close(); err == nil {
		err = closeErr
	}
	desc := b.Descriptor()
	switch {
	case err != nil:
		return fmt.Sprintf("cannot be read: %v", err)
	case !bytes.Equal(got, want):
		return fmt.Sprintf("has wrong bytes: %d, not %d", len(got), len(want))
	case desc.Size != int64(len(want)) || resolved.Size != int64(len(want)) || desc.Digest != resolved.Digest:
		return fmt.Sprintf("has wrong descriptors: %v, %v", desc, resolved)
	case desc.MediaType != mediaType || resolved.MediaType != mediaType:
		return fmt.Sprintf("has wrong media types: %v, %v, not %v", desc.MediaType, resolved.MediaType, mediaType)
	}
	return "present"
}

// isListed reports whether a line that look returned is about what else is there.
func isListed(line string) bool {
	return strings.HasPrefix(line, "repository ") || strings.Contains(line, " is a referrer of ")
}

func isUnknown(err, unknown error) bool {
	return errors.Is(err, unknown) || errors.Is(err, ociregistry.ErrNameUnknown)
}

// collect returns the elements of a list up to its error.
func collect[T any](list iter.Seq2[T, error]) (all []T, err error) {
	for v, err := range list {
		if err != nil {
			return all, err
		}
		all = append(all, v)
	}
	return all, nil
}

func sortedKeys[V any](m map[ociregistry.Digest]V) []ociregistry.Digest {
	keys := make([]ociregistry.Digest, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// checkLayouts returns an error unless the directory of a registry that was
// closed has, as layouts that any program can read, all that look returned and
// nothing else.
func checkLayouts(fsys disk.FS, dir string, looked []string) error {
	var got []string
	for _, name := range listFiles(fsys, dir) {
		repo := filepath.Dir(name)
		if strings.HasPrefix(name, layout.PrivateDir+"/") || filepath.Base(name) != "index.json" {
			continue
		}
		if !slices.ContainsFunc(listFiles(fsys, filepath.Join(dir, repo, "blobs")), func(name string) bool { return !strings.HasSuffix(name, "/") }) {
			continue // a repository that is not there any more, or not yet
		}
		lines, err := readLayout(fsys, dir, repo)
		if err != nil {
			return fmt.Errorf("the layout of %s: %w", repo, err)
		}
		got = append(got, lines...)
	}
	var want []string
	for _, line := range looked {
		if !isListed(line) {
			want = append(want, line)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	var wrong []string
	if difference(&wrong, "the layouts", got, want); len(wrong) > 0 {
		return errors.New(wrong[0])
	}
	return nil
}

// readLayout returns the lines of look for the layout of a repository.
func readLayout(fsys disk.FS, dir, repo string) (lines []string, err error) {
	layout, err := readText(fsys, dir, repo, "oci-layout")
	if err == nil && !strings.Contains(layout, `"imageLayoutVersion":"1.0.0"`) {
		err = fmt.Errorf("oci-layout is %q", layout)
	}
	if err != nil {
		return nil, err
	}
	text, err := readText(fsys, dir, repo, "index.json")
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal([]byte(text), &index); err != nil {
		return nil, fmt.Errorf("index.json is %q: %w", text, err)
	}
	isManifest := make(map[ociregistry.Digest]bool)
	for _, desc := range index.Manifests {
		if tag := desc.Annotations[ocispec.AnnotationRefName]; tag != "" {
			lines = append(lines, fmt.Sprintf("%s:%s is %s", repo, tag, desc.Digest))
		}
		if !isManifest[desc.Digest] {
			lines = append(lines, fmt.Sprintf("%s manifest %s present", repo, desc.Digest))
		}
		isManifest[desc.Digest] = true
		if _, err := readText(fsys, blobs.Path(filepath.Join(dir, repo), desc.Digest)); err != nil {
			return nil, err
		}
	}
	for _, name := range listFiles(fsys, filepath.Join(dir, repo, "blobs")) {
		alg, hex, ok := strings.Cut(name, "/")
		if !ok || hex == "" {
			continue
		}
		text, err := readText(fsys, dir, repo, "blobs", name)
		if err != nil {
			return nil, err
		}
		d := digest.NewDigestFromEncoded(digest.Algorithm(alg), hex)
		if d.Algorithm().FromString(text) != d {
			return nil, fmt.Errorf("blob %s has other bytes", d)
		}
		if !isManifest[d] {
			lines = append(lines, fmt.Sprintf("%s blob %s present", repo, d))
		}
	}
	return lines, nil
}

// listFiles returns the names of all that is below a directory, with a slash behind
// those of directories. A directory that is not there has nothing.
func listFiles(fsys disk.FS, dir string) (names []string) {
	entries, err := fsys.ReadDir(dir, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return []string{"error: " + err.Error()}
	}
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
			continue
		}
		names = append(names, e.Name()+"/")
		for _, name := range listFiles(fsys, filepath.Join(dir, e.Name())) {
			names = append(names, path.Join(e.Name(), name)+suffix(name))
		}
	}
	slices.Sort(names)
	return names
}

func suffix(name string) string {
	if strings.HasSuffix(name, "/") {
		return "/"
	}
	return ""
}

func readText(fsys disk.FS, elems ...string) (string, error) {
	f, err := fsys.OpenFile(filepath.Join(elems...), os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	return string(text), err
}
