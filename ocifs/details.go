package ocifs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// What manifests name is known of those that were pushed to this Registry. Of
// the others, which index.json names, it is found out when it is first needed:
// for that they are all read, once.
//
// Of a manifest that cannot be read it stays unknown what it names. That is said
// to the logger and keeps nobody from anything but deletes: see inDoubt.

// readAll reads all manifests that were not read yet. One that is missing or
// damaged is not read again before it, index.json or the journal changes; one that
// the system does not let be read is tried each time. The error is of a system
// that has nothing left to read with.
func (repo *repository) readAll() error {
	repo.mu.RLock()
	done := len(repo.state.unread) == 0
	repo.mu.RUnlock()
	if done {
		return nil
	}
	tried := make(map[*stored]bool)
	var failed readFailure
	for {
		unread := repo.unread(tried)
		if len(unread) == 0 {
			break
		}
		err := parallel(2*runtime.GOMAXPROCS(0), len(unread), func(i int) error {
			err := repo.readRefs(unread[i])
			if err != nil && !isExhausted(err) {
				failed.add(unread[i], err)
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if failed.n > 0 {
		repo.registry.log.Warn("manifests cannot be read: as long as it is not known what they name, deletes are refused",
			"repository", repo.name, "manifests", failed.n, "one", failed.digest, "error", failed.err)
	}
	return nil
}

// unread returns the manifests that were not read and not tried, which it then
// counts as tried.
func (repo *repository) unread(tried map[*stored]bool) []*stored {
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	var unread []*stored
	for _, m := range repo.state.unread {
		if !tried[m] {
			tried[m] = true
			unread = append(unread, m)
		}
	}
	return unread
}

// readFailure has how many manifests could not be read, and why the first could
// not.
type readFailure struct {
	mu     sync.Mutex
	n      int
	digest ociregistry.Digest
	err    error
}

func (f *readFailure) add(m *stored, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n++; f.n == 1 {
		f.digest, f.err = m.digest, err
	}
}

// isExhausted reports whether an error says nothing about the file that was to be
// read: the process or the system has nothing left.
func isExhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// readRefs finds out what m names.
func (repo *repository) readRefs(m *stored) error {
	info, err := repo.info(m)
	if isDamage(err) {
		repo.mu.Lock()
		defer repo.mu.Unlock()
		if repo.state.unread[m.digest] == m {
			delete(repo.state.unread, m.digest)
			repo.state.obscure[m.digest] = m
		}
	}
	if err != nil {
		return err
	}
	var children []*stored
	for _, ref := range info.Manifests {
		if child := repo.child(ref); child != nil {
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

// info returns what m says. Contents of a type that names nothing are not looked
// at.
func (repo *repository) info(m *stored) (info manifest.Info, err error) {
	if _, known := manifest.Known(m.mediaType); !known && m.mediaType != "" {
		return info, nil
	}
	text, err := repo.contents(m)
	if err != nil {
		return info, err
	}
	return manifest.Parse(m.mediaType, text)
}

// child returns the manifest that an index names, if it is in the directory and
// nothing else says that it is a manifest. An index may be there without all that
// it names; but if there is something in the place of a child, that is one.
func (repo *repository) child(ref manifest.Ref) *stored {
	if _, known := manifest.Known(ref.MediaType); !known || ociregistry.CheckDigest(ref.Digest) != nil {
		return nil
	}
	repo.mu.RLock()
	_, isManifest := repo.state.manifests[ref.Digest]
	_, isDeleted := repo.state.deleted[ref.Digest]
	_, isBlob := repo.state.blobs[ref.Digest]
	repo.mu.RUnlock()
	if isManifest || isDeleted || isBlob {
		return nil
	}
	if info, err := repo.registry.lstat(blobPath(repo.dir, ref.Digest)); info == nil && err == nil {
		return nil
	}
	m := &stored{digest: cloneDigest(ref.Digest), mediaType: ownMediaType(ref.MediaType), size: ref.Size, implicit: true}
	size, err := repo.registry.store.stat(repo.dir, ref.Digest)
	if err == nil && size != ref.Size {
		err = repo.registry.store.verify(repo.registry.ctx, repo.dir, ref.Digest)
	}
	if err == nil {
		m.size = size
		m.present.Store(true)
	}
	return m
}

// inDoubt returns an error that wraps [ociregistry.ErrInUse] if there is a manifest
// for which may reports true and of which nobody knows what it names. Those that
// were damaged are looked at once more, since nothing else tells when one was
// repaired by hand.
func (repo *repository) inDoubt(may func(*stored) bool) error {
	for {
		m := repo.obscure(may)
		if m == nil {
			return nil
		}
		if err := repo.readRefs(m); isExhausted(err) {
			return err
		} else if err != nil {
			return &doubt{m.digest, err}
		}
	}
}

// doubt is for content that may be in use. Its text does not say why the manifest
// cannot be read, which is not for clients: the logger was told.
type doubt struct {
	manifest ociregistry.Digest
	cause    error
}

func (d *doubt) Error() string {
	return fmt.Sprintf("%v: manifest %s cannot be read, and may do so", ociregistry.ErrInUse, d.manifest)
}

func (d *doubt) Unwrap() []error {
	if isDamage(d.cause) {
		return []error{ociregistry.ErrInUse}
	}
	return []error{ociregistry.ErrInUse, d.cause}
}

// isDamage reports whether an error says that a manifest is missing, or is not what
// it should be.
func isDamage(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, ociregistry.ErrManifestInvalid)
}

// obscure returns a manifest for which may reports true and of which nobody knows
// what it names, or nil.
func (repo *repository) obscure(may func(*stored) bool) *stored {
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	for _, set := range []map[ociregistry.Digest]*stored{repo.state.unread, repo.state.obscure} {
		for _, m := range set {
			if may(m) {
				return m
			}
		}
	}
	return nil
}

// mayNameManifests reports whether a manifest of its type can name manifests, which
// keeps them from being deleted.
func (m *stored) mayNameManifests() bool {
	return m.mediaType == "" || manifest.IsIndex(m.mediaType)
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
	repo.mu.Lock()
	defer repo.mu.Unlock()
	repo.state.readAgain(m)
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

// hasFile reports whether there is a small file that can be read and is not damaged.
// If so, it is made durable: whoever wrote it may be another program, or have died
// before it was.
func (repo *repository) hasFile(digest ociregistry.Digest, size int64) (bool, error) {
	_, err := repo.readFile(digest, size)
	switch {
	case isExhausted(err):
		return false, err
	case err != nil:
		return false, nil
	}
	return true, repo.registry.store.makeDurable(repo.dir, digest)
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
