package layout

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

func TestMain(m *testing.M) { scratch.Main(m) }

func newTree(t *testing.T) Tree {
	t.Helper()
	root := scratch.Kept(t)
	work := disk.NewWorkspace(disk.OS{}, filepath.Join(root, PrivateDir), true)
	t.Cleanup(func() { qt.Check(t, qt.IsNil(work.Close())) })
	return Tree{Root: root, Work: work}
}

// files returns what is below a directory.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if path != dir {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, filepath.ToSlash(rel))
		}
		return err
	})
	qt.Assert(t, qt.IsNil(err))
	return names
}

// mustMake makes a layout, durably.
func mustMake(t *testing.T, tree Tree, dir string) Made {
	t.Helper()
	made, err := tree.Make(dir)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(tree.SyncParents(dir)))
	return made
}

var all = []string{".ocifs", ".ocifs/journal", "blobs", "blobs/sha256", "index.json", "oci-layout"}

// A layout comes with everything that it has, and goes, with the directories that lead to
// it, if nobody has put anything there.
func TestTree_MakesAndRemovesLayouts(t *testing.T) {
	t.Parallel()
	tree := newTree(t)
	dir := filepath.Join(tree.Root, "team", "app")
	made := mustMake(t, tree, dir)
	qt.Check(t, qt.DeepEquals(files(t, dir), all))
	for name, info := range map[string]fs.FileInfo{IndexPath(dir): made.Index, JournalPath(dir): made.Journal} {
		now, err := os.Stat(name)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(disk.Unchanged(now, info)))
	}
	_, err := tree.Make(dir)
	qt.Check(t, qt.ErrorIs(err, fs.ErrExist))

	blob := filepath.Join(dir, "blobs", "sha256", "a")
	qt.Assert(t, qt.IsNil(os.WriteFile(blob, nil, disk.FilePerm)))
	qt.Check(t, qt.IsFalse(tree.Remove(dir)))
	qt.Check(t, qt.HasLen(files(t, dir), len(all)+1))
	qt.Assert(t, qt.IsNil(os.Remove(blob)))
	below := filepath.Join(dir, "below")
	mustMake(t, tree, below)
	qt.Check(t, qt.IsTrue(tree.Remove(dir)))
	qt.Check(t, qt.DeepEquals(files(t, below), all))

	qt.Check(t, qt.IsTrue(tree.Remove(below)))
	tree.RemoveParents(below)
	_, err = os.Stat(filepath.Join(tree.Root, "team"))
	qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))
	_, err = os.Stat(tree.Root)
	qt.Check(t, qt.IsNil(err))
}

func TestTree_FillKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	tree := newTree(t)
	dir := filepath.Join(tree.Root, "app")
	qt.Assert(t, qt.IsNil(tree.MakeDirs(dir)))
	qt.Assert(t, qt.IsNil(os.WriteFile(IndexPath(dir), []byte("theirs"), disk.FilePerm)))
	journal, err := tree.OpenJournal(dir)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(journal.Close()))
	qt.Assert(t, qt.IsNil(tree.Fill(dir)))
	qt.Check(t, qt.DeepEquals(files(t, dir), all))
	text, err := tree.ReadRegular(IndexPath(dir))
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(text, "theirs"))
	_, err = tree.ReadRegular(filepath.Join(dir, "blobs"))
	qt.Check(t, qt.ErrorIs(err, blobs.ErrDamaged))
}

// A link could lead out of the root.
func TestTree_RefusesLinks(t *testing.T) {
	t.Parallel()
	for _, link := range []string{"team", "team/app", "team/app/blobs", "team/app/blobs/sha256", "team/app/.ocifs"} {
		tree := newTree(t)
		dir := filepath.Join(tree.Root, "team", "app")
		mustMake(t, tree, dir)
		there, err := tree.CheckDirs(dir)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(there))
		name := filepath.Join(tree.Root, filepath.FromSlash(link))
		qt.Assert(t, qt.IsNil(os.Rename(name, filepath.Join(tree.Root, "moved"))))
		if err := os.Symlink(filepath.Join(tree.Root, "moved"), name); errors.Is(err, fs.ErrPermission) {
			t.Skip(err)
		}
		_, err = tree.CheckDirs(dir)
		qt.Check(t, qt.ErrorMatches(err, ".* is a symbolic link"), qt.Commentf("%s", link))
	}
}
