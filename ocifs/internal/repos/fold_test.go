package repos

import (
	"errors"
	"os"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
)

// TestFold_BeginsAgainWhenIndexChanges lets another program change an index.json, which has
// entries of its own, between the time that it was read and the time that a fold reads it
// again.
func TestFold_BeginsAgainWhenIndexChanges(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		ctx := t.Context()
		dir := scratch.Kept(t)
		set, h := newSet(t, dir)
		repo := used(t, set, "foo")
		commit(t, repo, put("1", "v1"))
		qt.Assert(t, qt.IsNil(repo.Fold(ctx)))
		write := func(entries string) {
			qt.Check(t, qt.IsNil(os.WriteFile(repo.index, []byte(`{"manifests":[`+entries+`]}`), 0o666)))
		}
		write(`{"x":1}`)
		commit(t, repo, put("2", "v2"))

		h.Set(func(op, name string) error {
			if op == "OpenFile" && name == repo.index {
				h.Set(nil)
				write(`{"x":1},{"x":2}`)
			}
			return nil
		})
		for again := true; again; {
			err := repo.foldInParts(ctx, func() error { return nil }, repo.sealDraft)
			again = errors.Is(err, errNoRest)
			qt.Assert(t, qt.IsTrue(err == nil || again), qt.Commentf("%v", err))
		}
		text, err := os.ReadFile(repo.index)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.StringContains(string(text), `{"x":2}`))
		qt.Check(t, qt.StringContains(string(text), `"v2"`))
	})
}
