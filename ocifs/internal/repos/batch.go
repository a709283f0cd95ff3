package repos

import (
	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A Batch collects the operations of changes that are about to be written, and shows
// the state as it will be with them.
type Batch struct {
	repo   *Repository
	now    int64     // the time of its operations
	file   disk.File // the journal, if the repository exists
	size   int64     // of the journal
	ops    []repostate.Op
	puts   map[ociregistry.Digest]Known  // manifests of the batch
	blobs  map[ociregistry.Digest]bool   // blobs of the batch: whether they come with contents
	tags   map[string]ociregistry.Digest // "" for a deleted tag
	refers bool                          // manifests refer to files that were seen in the repository
}

// Known is what a batch knows about a manifest.
type Known struct {
	MediaType string
	Size      int64
	InMemory  bool // the contents are in memory, so the size is right
}

func newBatch(repo *Repository) *Batch {
	return &Batch{repo: repo, now: repo.set.store.Clock.Now().UnixNano()}
}

// Add adds an operation that was checked.
func (b *Batch) Add(o repostate.Op) {
	o.Time = b.now
	b.ops = append(b.ops, o)
	switch {
	case o.Kind == repostate.PutManifest || o.Kind == repostate.DeleteTags:
		b.note(&o)
	case o.Kind == repostate.PutBlob:
		if b.blobs == nil {
			b.blobs = make(map[ociregistry.Digest]bool)
		}
		b.blobs[o.Digest] = b.blobs[o.Digest] || o.Text != ""
	}
}

func (b *Batch) note(o *repostate.Op) {
	if b.tags == nil {
		b.puts = make(map[ociregistry.Digest]Known)
		b.tags = make(map[string]ociregistry.Digest)
	}
	if o.Kind == repostate.PutManifest {
		b.puts[o.Digest] = Known{o.MediaType, o.Size, o.Info != nil}
	}
	for _, tag := range o.Tags {
		b.tags[tag] = o.Digest // none when the tag is deleted
	}
}

// Refer notes that manifests of the batch refer to files that were seen in the repository.
func (b *Batch) Refer() { b.refers = true }

// Blob reports whether the batch has a blob, and whether that comes with its contents.
func (b *Batch) Blob(digest ociregistry.Digest) (there, text bool) {
	text, there = b.blobs[digest]
	return there, text
}

// Manifest returns what is known about a manifest, if it exists.
func (b *Batch) Manifest(digest ociregistry.Digest) (m Known, ok bool) {
	if m, ok = b.puts[digest]; ok {
		return m, ok
	}
	b.repo.View(func(s *repostate.State) {
		if entry := s.Manifest(digest); entry != nil {
			m, ok = Known{entry.MediaType, entry.Size, entry.Text != ""}, true
		}
	})
	return m, ok
}

// MediaType returns the media type of a manifest, if it exists.
func (b *Batch) MediaType(digest ociregistry.Digest) (mediaType string, ok bool) {
	m, ok := b.Manifest(digest)
	return m.MediaType, ok
}

// Tag returns the digest that a tag points at, or "".
func (b *Batch) Tag(name string) (digest ociregistry.Digest) {
	if digest, ok := b.tags[name]; ok {
		return digest
	}
	b.repo.View(func(s *repostate.State) {
		if m := s.Tag(name); m != nil {
			digest = m.Digest
		}
	})
	return digest
}

// Current returns the digest to which ref resolves, for the push of a manifest with
// the given digest. A push without a ref is a push by digest.
func (b *Batch) Current(ref string, digest ociregistry.Digest) ociregistry.Digest {
	if call.IsTag(ref) {
		return b.Tag(ref)
	}
	if _, ok := b.MediaType(digest); ok {
		return digest
	}
	return ""
}

// syncAdded makes durable the names of the files that were seen in the repository, if
// manifests refer to them. This process or another may just have added such a file,
// and a manifest that names it must not be durable before the file's name is.
func (b *Batch) syncAdded() error {
	set := b.repo.set
	if !b.refers || !set.work.IsDurable() || b.repo.adding.Load() == 0 && !set.work.HasOthers() {
		return nil
	}
	return set.store.SyncBlobDirs(b.repo.Dir)
}
