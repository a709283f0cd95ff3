package repos

import (
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/internal/scratch"
)

// The texts of manifests are in memory once they were pushed, until they are deleted.
func TestCommit_KeepsTextsInMemory(t *testing.T) {
	t.Parallel()
	set, _ := newSet(t, scratch.Kept(t))
	repo := used(t, set, "foo")
	pushed := put("text", "v1")
	commit(t, repo, pushed)
	text, ok := set.texts.Get(pushed.Digest)
	qt.Check(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(text, "text"))
	commit(t, repo, repostate.Op{Kind: repostate.DeleteManifest, Digest: pushed.Digest})
	_, ok = set.texts.Get(pushed.Digest)
	qt.Check(t, qt.IsFalse(ok))
}
