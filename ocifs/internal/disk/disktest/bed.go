package disktest

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

// Bed is a workspace in a directory of its own, whose calls a test sees.
type Bed struct {
	*testing.T
	FS   *Hooks
	Root string // the directory
	Work *disk.Workspace
}

// NewBed returns a bed whose workspace is closed when the test ends. Nothing may be
// open or staged then.
func NewBed(t *testing.T) *Bed {
	b := &Bed{T: t, FS: new(Hooks), Root: scratch.Kept(t)}
	b.Work = disk.NewWorkspace(b.FS, b.Path(".ocifs"), true)
	t.Cleanup(func() {
		b.FS.Set(nil)
		if err := b.Work.Close(); err != nil {
			t.Errorf("closing the workspace: %v", err)
		}
		b.FS.CheckClosed(t)
		if left := b.glob("staging", "*"); len(left) > 0 {
			t.Errorf("a closed workspace has left %q", left)
		}
	})
	return b
}

// Path returns the path of a name in the directory.
func (b *Bed) Path(name string) string { return filepath.Join(b.Root, name) }

// Staged returns the names of the staged files.
func (b *Bed) Staged() []string {
	b.Helper()
	return b.glob("staging", "*", "*")
}

func (b *Bed) glob(elem ...string) []string {
	b.Helper()
	names, err := filepath.Glob(filepath.Join(b.Work.Dir, filepath.Join(elem...)))
	if err != nil {
		b.Error(err)
	}
	return names
}

// CheckNothingStaged checks that there is nothing but spare files.
func (b *Bed) CheckNothingStaged() {
	b.Helper()
	for _, name := range b.Staged() {
		text, err := os.ReadFile(name)
		if err != nil || len(text) == 0 || len(bytes.Trim(text, "\x00")) > 0 {
			b.Errorf("staged file %s is no spare one: %d bytes, %v", name, len(text), err)
		}
	}
}

// Info returns what the system says of a file, which must be there.
func (b *Bed) Info(name string) fs.FileInfo {
	b.Helper()
	info, err := os.Lstat(name)
	if err != nil {
		b.Fatal(err)
	}
	return info
}

// Links has a hook for filesystems with hard links, and one for those without.
func Links() map[string]func(op, name string) error {
	return map[string]func(op, name string) error{
		"links":    nil,
		"no links": Failing("Link", syscall.EPERM),
	}
}

// RandomBytes returns n bytes, which are always the same for a seed.
func RandomBytes(seed uint64, n int) []byte {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}
