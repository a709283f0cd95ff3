package uploads

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
)

var background = context.Background()

// storeTest is a store that has two layouts.
type storeTest struct {
	*disktest.Bed
	quota *blobs.Quota
	s     *blobs.Store
	a, b  string
}

func newStoreTest(t *testing.T) *storeTest {
	st := &storeTest{Bed: disktest.NewBed(t), quota: new(blobs.Quota)}
	t.Cleanup(func() {
		st.FS.Set(nil)
		st.CheckNothingStaged()
	})
	st.a, st.b = st.Path("a"), st.Path("b")
	for _, dir := range []string{st.a, st.b} {
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Join(dir, "blobs"), 0o755)))
	}
	st.s = blobs.New(st.Work, st.quota, nil)
	return st
}

func (t *storeTest) checkBlob(dir string, data []byte) {
	t.Helper()
	f, info, err := t.s.Open(dir, digest.FromBytes(data))
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	qt.Check(t, qt.Equals(info.Size(), int64(len(data))))
	got, err := io.ReadAll(f)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(bytes.Equal(got, data)))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
