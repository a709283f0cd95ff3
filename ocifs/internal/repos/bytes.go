package repos

import (
	"sync/atomic"

	"github.com/seed-40b21970/oci/internal/repostate"
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

// begin and end note that a change begins and ends.
func (c *changes) begin() { c.begun.Add(1) }
func (c *changes) end()   { c.ended.Add(1) }

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
		_, size, _ := repo.set.store.Age(repo.Dir, digest) // zero if there is no file
		return size
	}
	return 0
}
