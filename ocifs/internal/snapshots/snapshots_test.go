package snapshots

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

func TestMain(m *testing.M) { scratch.Main(m) }

// newFile returns where the snapshot of an index.json is that has n tags.
func newFile(t *testing.T, n int) (File, *repostate.State) {
	t.Helper()
	dir := scratch.Kept(t)
	work := disk.NewWorkspace(disk.OS{}, filepath.Join(dir, "work"), false)
	t.Cleanup(func() { qt.Check(t, qt.IsNil(work.Close())) })
	s := repostate.New()
	for i := range n {
		text := fmt.Sprint(i)
		s.Apply(&repostate.Op{Kind: repostate.PutManifest, Digest: digest.FromString(text), MediaType: ocispec.MediaTypeImageManifest, Size: int64(len(text)), Tags: []string{"v" + text}})
	}
	var index strings.Builder
	qt.Assert(t, qt.IsNil(s.WriteIndex(&index, new(sync.Mutex))))
	f := File{Path: filepath.Join(dir, "snapshot"), Index: filepath.Join(dir, "index.json"), Work: work}
	qt.Assert(t, qt.IsNil(os.WriteFile(f.Index, []byte(index.String()), disk.FilePerm)))
	return f, s
}

// put writes the snapshot of a state for the present index.json.
func put(t *testing.T, f File, s *repostate.State) *Draft {
	t.Helper()
	sum, _, err := SumIndex(f.Work.FS, f.Index)
	qt.Assert(t, qt.IsNil(err))
	d, err := f.Draft(s, sum, new(sync.Mutex))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(d.Put()))
	d.Discard()
	return d
}

// read reads the snapshot for the present index.json.
func read(t *testing.T, f File) (*repostate.State, error) {
	t.Helper()
	info, err := os.Stat(f.Index)
	qt.Assert(t, qt.IsNil(err))
	s, current, err := f.Read(info.Size())
	if !current {
		s = nil
	}
	return s, err
}

func TestFile_HasTheStateOfThePresentIndexAlone(t *testing.T) {
	t.Parallel()
	f, state := newFile(t, 20)
	s, err := read(t, f)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(s)) // there is no snapshot

	qt.Check(t, qt.IsNotNil(put(t, f, state)))
	s, err = read(t, f)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(s.AppendTags(nil, "", 100), state.AppendTags(nil, "", 100)))

	// Another index.json, of the same length or not, has none.
	text, err := os.ReadFile(f.Index)
	qt.Assert(t, qt.IsNil(err))
	for _, other := range []string{strings.Replace(string(text), `"v7"`, `"w7"`, 1), string(text) + " "} {
		qt.Assert(t, qt.IsNil(os.WriteFile(f.Index, []byte(other), disk.FilePerm)))
		s, err = read(t, f)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(s))
	}
}

func TestFile_ShortIndexHasNone(t *testing.T) {
	t.Parallel()
	f, state := newFile(t, 1)
	qt.Check(t, qt.IsNil(put(t, f, state)))
	_, err := os.Stat(f.Path)
	qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
	s, err := read(t, f)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(s))
}

func TestFile_DamageIsAnError(t *testing.T) {
	t.Parallel()
	f, state := newFile(t, 20)
	put(t, f, state)
	text, err := os.ReadFile(f.Path)
	qt.Assert(t, qt.IsNil(err))
	flipped := []byte(string(text))
	flipped[len(flipped)/2] ^= 1
	for _, damaged := range [][]byte{flipped, text[:len(text)-1], text[:3], nil} {
		qt.Assert(t, qt.IsNil(os.WriteFile(f.Path, damaged, disk.FilePerm)))
		s, err := read(t, f)
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%d bytes", len(damaged)))
		qt.Check(t, qt.IsNil(s))
	}
}
