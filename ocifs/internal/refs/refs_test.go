package refs

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/locked"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry"
)

func TestMain(m *testing.M) { scratch.Main(m) }

// write makes a layout whose index.json names the first of the texts, which are the files
// of indexes.
func write(t *testing.T, dir string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		name := blobs.Path(dir, digest.FromString(text))
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(name), disk.DirPerm)))
		qt.Assert(t, qt.IsNil(os.WriteFile(name, []byte(text), disk.FilePerm)))
	}
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, layout.FileName), []byte(layout.FileText), disk.FilePerm)))
	entry := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, ocispec.MediaTypeImageIndex, digest.FromString(texts[0]), len(texts[0]))
	qt.Assert(t, qt.IsNil(os.WriteFile(layout.IndexPath(dir), []byte(`{"manifests":[`+entry+`]}`), disk.FilePerm)))
}

// indexOf returns an index that names another.
func indexOf(child string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, ocispec.MediaTypeImageIndex, digest.FromString(child), len(child))
}

// open returns the repository app below root, and what was logged.
func open(t *testing.T, root string) (*repos.Repository, *locked.Buffer) {
	t.Helper()
	log := new(locked.Buffer)
	work := disk.NewWorkspace(disk.OS{}, filepath.Join(root, layout.PrivateDir), false)
	set := repos.New(repos.Options{
		Layouts:  layout.Tree{Root: root, Work: work},
		Store:    blobs.New(work, nil, slog.New(slog.DiscardHandler)),
		ReadOnly: true,
		Log:      log.Logger(),
	})
	repo, err := set.Open("app")
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() {
		repo.Release()
		qt.Check(t, qt.IsNil(set.Close()))
	})
	return repo, log
}

func inDoubt(repo *repos.Repository) error {
	return InDoubt(repo, func(*repostate.Manifest) bool { return true })
}

// Indexes are read until all manifests that they name are known, however deep.
func TestReadAll_FindsChildren(t *testing.T) {
	t.Parallel()
	root := scratch.Kept(t)
	inner := indexOf("absent")
	middle := indexOf(inner)
	outer := indexOf(middle)
	write(t, filepath.Join(root, "app"), outer, middle, inner)
	repo, log := open(t, root)
	qt.Assert(t, qt.IsNil(ReadAll(repo)))
	repo.View(func(s *repostate.State) {
		qt.Check(t, qt.IsFalse(s.HasUnread()))
		qt.Check(t, qt.HasLen(s.Manifests(), 3))
		qt.Check(t, qt.IsTrue(s.IsNamedAsManifest(digest.FromString("absent"))))
	})
	qt.Check(t, qt.IsNil(inDoubt(repo)))
	qt.Check(t, qt.Equals(log.String(), ""))
}

// What a damaged index names is in doubt until it is repaired.
func TestInDoubt_LooksAtDamagedManifestsOnceMore(t *testing.T) {
	t.Parallel()
	root := scratch.Kept(t)
	dir := filepath.Join(root, "app")
	outer := indexOf("absent")
	write(t, dir, outer)
	name := blobs.Path(dir, digest.FromString(outer))
	qt.Assert(t, qt.IsNil(os.WriteFile(name, []byte("damaged"), disk.FilePerm)))
	repo, log := open(t, root)
	qt.Assert(t, qt.IsNil(ReadAll(repo)))
	qt.Check(t, qt.StringContains(log.String(), digest.FromString(outer).String()))
	qt.Check(t, qt.ErrorIs(inDoubt(repo), ociregistry.ErrInUse))
	qt.Assert(t, qt.IsNil(os.Remove(name)))
	write(t, dir, outer)
	qt.Check(t, qt.IsNil(inDoubt(repo)))
	repo.View(func(s *repostate.State) { qt.Check(t, qt.IsTrue(s.IsNamed(digest.FromString("absent")))) })
}
