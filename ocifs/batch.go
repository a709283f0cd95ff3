package ocifs

import (
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
)

// batch has the operations of some changes that are about to be written, and
// shows the state as it will be with them.
type batch struct {
	repo   *repository
	ops    []op
	puts   map[ociregistry.Digest]known  // manifests
	blobs  map[ociregistry.Digest]bool   // those with contents
	tags   map[string]ociregistry.Digest // "" for those that are deleted
	refers bool                          // to files that were seen in the repository
}

// known is what a batch knows of a manifest.
type known struct {
	mediaType string
	size      int64
	inMemory  bool // its contents are, so that the size cannot be wrong
}

func newBatch(repo *repository) *batch {
	return &batch{repo: repo}
}

// add adds an operation that can be made.
func (b *batch) add(o op) {
	b.ops = append(b.ops, o)
	switch {
	case o.kind == opPut || o.kind == opUntag:
		b.note(&o)
	case o.kind == opBlob && o.contents != "":
		if b.blobs == nil {
			b.blobs = make(map[ociregistry.Digest]bool)
		}
		b.blobs[o.digest] = true
	}
}

func (b *batch) note(o *op) {
	if b.tags == nil {
		b.puts = make(map[ociregistry.Digest]known)
		b.tags = make(map[string]ociregistry.Digest)
	}
	if o.kind == opPut {
		b.puts[o.digest] = known{o.mediaType, o.size, o.info != nil}
	}
	for _, tag := range o.tags {
		b.tags[tag] = o.digest // none when the tag is deleted
	}
}

// view calls f with the state, which lacks the operations of b.
func (b *batch) view(f func(s *state)) {
	b.repo.mu.RLock()
	defer b.repo.mu.RUnlock()
	f(b.repo.state)
}

// manifest returns what is known of a manifest, if it is there.
func (b *batch) manifest(digest ociregistry.Digest) (m known, ok bool) {
	if m, ok = b.puts[digest]; ok {
		return m, ok
	}
	b.view(func(s *state) {
		if stored := s.manifests[digest]; stored != nil {
			m, ok = known{stored.mediaType, stored.size, stored.contents != ""}, true
		}
	})
	return m, ok
}

// mediaType returns the media type of a manifest, or "" if it is not there.
func (b *batch) mediaType(digest ociregistry.Digest) (mediaType string, ok bool) {
	m, ok := b.manifest(digest)
	return m.mediaType, ok
}

// tag returns what a tag points at, or "".
func (b *batch) tag(name string) (digest ociregistry.Digest) {
	if digest, ok := b.tags[name]; ok {
		return digest
	}
	b.view(func(s *state) {
		if t := s.tags[name]; t != nil {
			digest = t.manifest.digest
		}
	})
	return digest
}

// current returns what ref, of a push of a manifest with that digest, resolves
// to. A push without a ref is one by digest.
func (b *batch) current(ref string, digest ociregistry.Digest) ociregistry.Digest {
	if ref != "" && !strings.Contains(ref, ":") {
		return b.tag(ref)
	}
	if _, ok := b.mediaType(digest); ok {
		return digest
	}
	return ""
}

// syncPlaced makes the names durable of the files that were seen in the
// repository, if manifests refer to them. Others, of this process or another, may
// just be placing them: a manifest that names them may not be durable before they
// are.
func (b *batch) syncPlaced() error {
	s := b.repo.registry.store
	if !b.refers || !s.syncs.on || b.repo.placing.Load() == 0 && s.staging.alone() {
		return nil
	}
	return s.syncBlobDirs(b.repo.dir)
}
