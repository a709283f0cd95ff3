package repos

import (
	"sync/atomic"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A repository's bytes are those of its manifests, as index.json and the journal say, and of
// its blobs. What changes of this process make of them, they tell the tally. What others do,
// and what is out of the ordinary, puts the repository in doubt.

// changes counts the changes of a repository by this process, so that who counts its bytes
// can tell whether there were some meanwhile.
type changes struct{ begun, ended atomic.Int64 }

// Quiet returns a number that stays the same as long as this process does not change the
// repository, and whether no change is under way.
func (repo *Repository) Quiet() (n int64, quiet bool) {
	ended := repo.changes.ended.Load()
	n = repo.changes.begun.Load()
	return n, n == ended
}

// changing notes that a change begins. It ends with the returned function.
func (repo *Repository) changing() (end func()) {
	repo.changes.begun.Add(1)
	return func() { repo.changes.ended.Add(1) }
}

// AddBytes tells the tally that a change, whose Finish calls it, has added n bytes.
func (repo *Repository) AddBytes(n int64) { repo.set.tally.Add(repo.Name, n) }

// Doubt puts the bytes of the repository in doubt.
func (repo *Repository) Doubt() { repo.set.tally.Doubt(repo.Name) }

// IsToFold reports whether this process is to fold the repository: it may have changed it.
func (repo *Repository) IsToFold() bool { return repo.set.unfolded.Has(repo) }

// apply applies operations of this process to the state. repo.mu is held.
func (repo *Repository) apply(ops []repostate.Op) {
	if !repo.set.tally.IsOn() {
		for i := range ops {
			repo.state.Apply(&ops[i])
		}
		return
	}
	n := int64(0)
	for i := range ops {
		n -= repo.state.Bytes(ops[i].Digest)
		repo.state.Apply(&ops[i])
		n += repo.state.Bytes(ops[i].Digest)
	}
	repo.AddBytes(n)
}

// Bytes counts the bytes of the repository, and the files of blobs and manifests. The size of
// content whose file is there is what manifests say, or else what its file has. If anything but
// a fold changes the repository meanwhile, the number is of no use.
func (repo *Repository) Bytes() (n int64, files int, err error) {
	noFile := make(map[ociregistry.Digest]bool) // which is not, or not yet, that of a blob
	repo.mu.RLock()
	s := repo.state
	for digest, text := range s.Blobs() {
		n += int64(len(text))
		noFile[digest] = true
	}
	for digest := range s.Deleted() {
		noFile[digest] = true
	}
	repo.mu.RUnlock()
	s.Each(repo.mu.RLocker(), func(m *repostate.Manifest, _ ociregistry.Digest) { n += m.Size })
	err = repo.set.store.EachName(repo.Dir, func(digest ociregistry.Digest) {
		files++
		if noFile[digest] {
			return
		}
		repo.mu.RLock()
		isBlob, _ := s.MayBeGarbage(digest)
		size := s.NamedSize(digest)
		repo.mu.RUnlock()
		if isBlob && size < 0 {
			size = repo.fileSize(digest)
		}
		if isBlob {
			n += size
		}
	})
	return n, files, err
}

// fileSize returns the size of a file, or zero if there is none.
func (repo *Repository) fileSize(digest ociregistry.Digest) int64 {
	info, err := disk.Lstat(repo.set.fs, blobs.Path(repo.Dir, digest))
	if err != nil || info == nil || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}

// blobBytes returns how many bytes a blob adds to those of the repository, or zero if it is
// none, or nobody wants to know.
func (repo *Repository) blobBytes(digest ociregistry.Digest) int64 {
	if !repo.set.tally.IsOn() || repo.Find() != nil {
		return 0
	}
	switch b := repo.Blob(digest); {
	case b.InText:
		return int64(len(b.Text))
	case b.InFile:
		return repo.fileSize(digest)
	}
	return 0
}
