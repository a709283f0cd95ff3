package secret

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

func TestMain(m *testing.M) { scratch.Main(m) }

func newFile(t *testing.T, dir string) *File {
	t.Helper()
	work := disk.NewWorkspace(disk.OS{}, filepath.Join(dir, "private"), false)
	t.Cleanup(func() { qt.Check(t, qt.IsNil(work.Close())) })
	return &File{Work: work, Log: slog.New(slog.DiscardHandler), Name: filepath.Join(work.Dir, "key")}
}

func code(k *Key, text, name string) (code [16]byte) {
	k.Code(code[:], []byte(text), name)
	return code
}

// All that have the file make the same codes, until it is deleted.
func TestFile_IsSharedUntilItIsDeleted(t *testing.T) {
	t.Parallel()
	dir := scratch.Kept(t)
	first, second := newFile(t, dir), newFile(t, dir)
	key, err := first.Load()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(key))
	key, err = first.Provide()
	qt.Assert(t, qt.IsNil(err))
	other, err := second.Load()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(code(key, "id", "repo"), code(other, "id", "repo")))
	qt.Check(t, qt.Not(qt.Equals(code(key, "id", "repo"), code(key, "id", "other"))))
	qt.Check(t, qt.Not(qt.Equals(code(key, "id", "repo"), code(key, "other", "repo"))))

	info, err := os.Stat(first.Name)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(info.Size(), Size))
	qt.Assert(t, qt.IsNil(os.Remove(first.Name)))
	next, err := second.Provide()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Not(qt.Equals(code(next, "id", "repo"), code(key, "id", "repo"))))
}

// What cannot be a key is none, and is replaced.
func TestFile_DamagedIsReplaced(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "short", string(make([]byte, Size))} {
		f := newFile(t, scratch.Kept(t))
		_, err := f.Provide()
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(os.Remove(f.Name)))
		qt.Assert(t, qt.IsNil(os.WriteFile(f.Name, []byte(text), disk.SecretPerm)))
		key, err := f.Load()
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(key))
		key, err = f.Provide()
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.IsNotNil(key))
	}
}
