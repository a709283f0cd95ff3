package ocifs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// What manifests name is known of those that were pushed to this Registry. Of
// the others, which index.json names, it is found out when it is first needed:
// for that they are all read, once.

// readAll makes sure that all manifests were read. It returns an error if one
// cannot be: then it is not known what is in use.
func (repo *repository) readAll() error {
	for {
		repo.mu.RLock()
		unread := make([]*stored, 0, len(repo.state.unread))
		for _, m := range repo.state.unread {
			if !m.absent {
				unread = append(unread, m)
			}
		}
		repo.mu.RUnlock()
		if len(unread) == 0 {
			return nil
		}
		var failed atomic.Pointer[error]
		parallel(2*runtime.GOMAXPROCS(0), len(unread), func(i int) error {
			if err := repo.readRefs(unread[i]); err != nil {
				failed.CompareAndSwap(nil, &err)
			}
			return nil
		})
		if err := failed.Load(); err != nil {
			return *err
		}
	}
}

// readRefs finds out what m names.
func (repo *repository) readRefs(m *stored) error {
	text, err := repo.contents(m)
	if errors.Is(err, fs.ErrNotExist) {
		if info, _ := repo.registry.lstat(blobPath(repo.dir, m.digest)); info != nil {
			return fmt.Errorf("manifest %s cannot be read: %v", m.digest, err)
		}
		repo.mu.Lock()
		defer repo.mu.Unlock()
		m.absent = true // until index.json or the journal change
		return nil
	}
	if err != nil {
		return err
	}
	info, err := manifest.Parse(m.mediaType, text)
	if err != nil {
		return fmt.Errorf("manifest %s cannot be read: %v", m.digest, err)
	}
	var children []*stored
	for _, ref := range info.Manifests {
		child, err := repo.child(ref)
		if err != nil {
			return err
		}
		if child != nil {
			children = append(children, child)
		}
	}
	repo.mu.Lock()
	defer repo.mu.Unlock()
	repo.state.setInfo(m, info)
	for _, child := range children {
		if repo.state.manifests[child.digest] == nil {
			repo.state.add(child)
		}
	}
	return nil
}

// child returns the manifest that an index names, if it is a file and nothing
// else says that it is a manifest.
func (repo *repository) child(ref manifest.Ref) (*stored, error) {
	if _, known := manifest.Known(ref.MediaType); !known || ociregistry.CheckDigest(ref.Digest) != nil {
		return nil, nil
	}
	repo.mu.RLock()
	_, isManifest := repo.state.manifests[ref.Digest]
	_, isDeleted := repo.state.deleted[ref.Digest]
	_, isBlob := repo.state.blobs[ref.Digest]
	repo.mu.RUnlock()
	if isManifest || isDeleted || isBlob {
		return nil, nil
	}
	info, err := repo.registry.lstat(blobPath(repo.dir, ref.Digest))
	if info == nil {
		return nil, err
	}
	size, err := repo.registry.store.stat(repo.dir, ref.Digest)
	if err == nil && size != ref.Size {
		err = repo.registry.store.verify(repo.registry.ctx, repo.dir, ref.Digest)
	}
	if err != nil {
		return nil, fmt.Errorf("manifest %s cannot be read: %v", ref.Digest, err)
	}
	m := &stored{digest: cloneDigest(ref.Digest), mediaType: ownMediaType(ref.MediaType), size: size, implicit: true}
	m.present.Store(true)
	return m, nil
}

// contents returns the contents of a manifest. If its file is not there, or is not
// what it should be, the error is [fs.ErrNotExist].
func (repo *repository) contents(m *stored) (string, error) {
	repo.mu.RLock()
	text := m.contents
	repo.mu.RUnlock()
	if text != "" {
		return text, nil
	}
	if text, ok := repo.registry.cache.get(m.digest); ok && m.present.Load() {
		return text, nil
	}
	text, err := repo.readFile(m.digest, m.size)
	if errors.Is(err, fs.ErrNotExist) {
		m.present.Store(false)
	}
	if err != nil {
		return "", err
	}
	m.present.Store(true)
	repo.registry.cache.add(m.digest, text)
	return text, nil
}

// readFile returns the verified contents of a small file.
func (repo *repository) readFile(digest ociregistry.Digest, size int64) (string, error) {
	store := repo.registry.store
	f, info, err := store.openNamed(blobPath(repo.dir, digest), digest, os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	at := time.Now()
	n := info.Size()
	if n != size || size > maxManifest {
		return "", fmt.Errorf("%s: %d bytes instead of %d: %w", digest, n, size, fs.ErrNotExist)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, n), text); err != nil {
		return "", err
	}
	if digest.Algorithm().FromBytes(text) != digest {
		store.verdicts.note(digest, info, at, false)
		return "", fmt.Errorf("%s: other content: %w", digest, fs.ErrNotExist)
	}
	return string(text), nil
}

// foundFile is readFile, and makes the file durable: whoever wrote it may be
// another program, or have died before it was.
func (repo *repository) foundFile(digest ociregistry.Digest, size int64) (string, error) {
	text, err := repo.readFile(digest, size)
	if err != nil {
		return "", err
	}
	return text, repo.registry.store.makeDurable(repo.dir, digest)
}

// maxManifest bounds, in bytes, what is read into memory because an index.json
// says that it is a manifest.
const maxManifest = 64 << 20

// isPresent reports whether the contents of a manifest are there.
func (repo *repository) isPresent(m *stored) (bool, error) {
	if m.present.Load() {
		return true, nil
	}
	repo.mu.RLock()
	fresh := m.contents != ""
	repo.mu.RUnlock()
	if fresh {
		return true, nil
	}
	size, err := repo.registry.store.stat(repo.dir, m.digest)
	if errors.Is(err, fs.ErrNotExist) || err == nil && size != m.size {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	m.present.Store(true)
	return true, nil
}

// findTypes finds the media types of manifests of which index.json does not say
// them.
func (repo *repository) findTypes(s *state) {
	for _, m := range s.unread {
		if m.mediaType != "" {
			continue
		}
		if text, err := repo.readFile(m.digest, m.size); err == nil {
			m.mediaType = ownMediaType(typeOf(text))
		}
	}
}

// typeOf returns the media type of a manifest: the one it has in it, or that of
// what it looks like.
func typeOf(text string) string {
	var fields struct {
		MediaType string          `json:"mediaType"`
		Config    json.RawMessage `json:"config"`
		Manifests json.RawMessage `json:"manifests"`
	}
	if json.Unmarshal([]byte(text), &fields) != nil {
		return "application/octet-stream"
	}
	switch {
	case fields.MediaType != "":
		return fields.MediaType
	case fields.Manifests != nil:
		return ocispec.MediaTypeImageIndex
	case fields.Config != nil:
		return ocispec.MediaTypeImageManifest
	}
	return "application/octet-stream"
}
