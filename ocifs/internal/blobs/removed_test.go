package blobs

import (
	"io/fs"
	"os"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
)

// TestPut_IsInThePoolWhenRemovedMeanwhile removes files just before they are linked
// into the pool, as a fold does with those of deleted manifests. Acknowledged content
// must be in the pool then, from which it is linked again.
func TestPut_IsInThePoolWhenRemovedMeanwhile(t *testing.T) {
	t.Parallel()
	data := disktest.RandomBytes(1, 20_000)
	d := digest.FromBytes(data)
	for _, test := range []struct {
		name    string
		there   func(*storeTest) string   // the layout that has a file which is not in the pool
		removed func(*storeTest) []string // the layouts that lose it
		call    func(*storeTest) error
		want    error
	}{{
		name:    "push",
		there:   func(t *storeTest) string { return t.a },
		removed: func(t *storeTest) []string { return []string{t.a} },
		call:    func(t *storeTest) error { return t.push(t.a, data) },
	}, {
		name:    "mount, and the source goes",
		there:   func(t *storeTest) string { return t.b },
		removed: func(t *storeTest) []string { return []string{t.b} },
		call:    func(t *storeTest) error { return t.s.Link(background, t.b, t.a, d) },
	}, {
		name:    "mount, and both go",
		there:   func(t *storeTest) string { return t.b },
		removed: func(t *storeTest) []string { return []string{t.a, t.b} },
		call:    func(t *storeTest) error { return t.s.Link(background, t.b, t.a, d) },
		want:    ErrNoSource,
	}} {
		t.Run(test.name, func(tt *testing.T) {
			tt.Parallel()
			t := newStoreTest(tt)
			file := Path(test.there(t), d)
			qt.Assert(t, qt.IsNil(t.s.makeBlobDir(test.there(t), d)))
			qt.Assert(t, qt.IsNil(os.WriteFile(file, data, 0o666)))
			gone := false
			t.FS.Set(func(op, name string) error {
				if op == "Link" && name == t.s.poolPath(d) && !gone {
					gone = true
					for _, dir := range test.removed(t) {
						os.Remove(Path(dir, d))
					}
				}
				return nil
			})
			err := test.call(t)
			t.FS.Set(nil)
			qt.Check(t, qt.IsTrue(gone))
			if test.want != nil {
				qt.Check(t, qt.ErrorIs(err, test.want))
				_, err := os.Lstat(Path(t.a, d))
				qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))
				return
			}
			qt.Assert(t, qt.IsNil(err))
			t.checkBlob(t.a, data)
			t.checkOneFile(t.s.poolPath(d), Path(t.a, d))
		})
	}
}
