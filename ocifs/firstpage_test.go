package ocifs

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociserver"
)

// manyRepos is how many repositories a root is to have that opens in 50 ms, and whose first
// page of 100 names comes in 100 ms after that.
const manyRepos = 10_000

// shapes are the ways in which the names of many repositories may lie in
// directories: %02d stands for the hundreds, and then for the rest.
var shapes = []struct{ name, format string }{
	{"flat", "repo-%02d%02d"},
	{"nested", "org-%02d/repo-%02d"},
}

// makeRoot makes a root of n repositories, as a registry that was closed leaves
// them.
func makeRoot(t testing.TB, format string, n int) (root string) {
	t.Helper()
	root = scratch.Kept(t)
	r, err := New(root, &Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	ocitest.NewRegistry(t, r).MustPush(fmt.Sprintf(format, 0, 0), ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{10}}), "latest")
	qt.Assert(t, qt.IsNil(r.Close()))
	// More names for its files are had faster than pushes. Nothing writes to them.
	first := filepath.Join(root, fmt.Sprintf(format, 0, 0))
	for i := 1; i < n; i++ {
		linkRepo(t, filepath.Join(root, fmt.Sprintf(format, i/100, i%100)), first)
	}
	return root
}

// linkRepo gives the files of a repository names in another.
func linkRepo(t testing.TB, to, from string) {
	t.Helper()
	err := filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := to + strings.TrimPrefix(name, from)
		if d.IsDir() {
			return os.MkdirAll(target, 0o777)
		}
		return os.Link(name, target)
	})
	qt.Assert(t, qt.IsNil(err))
}

// firstPage has the first 100 names of a catalog.
func firstPage(t testing.TB, r *Registry) (body string) {
	t.Helper()
	rec := httptest.NewRecorder()
	ociserver.New(r, nil).ServeHTTP(rec, httptest.NewRequest("GET", "/v2/_catalog?n=100", nil))
	qt.Assert(t, qt.Equals(rec.Code, http.StatusOK))
	return rec.Body.String()
}

// BenchmarkOpen opens a root of many repositories and reads the first page of the
// catalog.
func BenchmarkOpen(b *testing.B) {
	n := manyRepos
	if testing.Short() {
		n /= 10
	}
	for _, shape := range shapes {
		root := makeRoot(b, shape.format, n)
		open := func(b *testing.B) *Registry {
			r, err := New(root, nil)
			qt.Assert(b, qt.IsNil(err))
			return r
		}
		b.Run("New/"+shape.name, func(b *testing.B) {
			for b.Loop() {
				r := open(b)
				b.StopTimer()
				r.Close()
				b.StartTimer()
			}
		})
		b.Run("Page/"+shape.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				r := open(b)
				b.StartTimer()
				firstPage(b, r)
				b.StopTimer()
				r.Close()
				b.StartTimer()
			}
		})
	}
}

// The first page of the catalog costs as much as it has names, whatever else there is.
func TestFirstPage_CostsNoMoreInALargerRoot(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		for _, shape := range shapes {
			calls := func(repos int) (n int64) {
				fsys := new(disktest.Hooks)
				r, err := open(fsys, makeRoot(t, shape.format, repos), "", nil)
				qt.Assert(t, qt.IsNil(err))
				defer r.Close()
				synctest.Wait() // for what opening does in the background
				var made atomic.Int64
				fsys.Set(func(op, name string) error {
					made.Add(1)
					return nil
				})
				page := firstPage(t, r)
				qt.Check(t, qt.Equals(strings.Count(page, "repo-"), 100))
				qt.Check(t, qt.IsTrue(strings.Contains(page, fmt.Sprintf(shape.format, 0, 99))))
				return made.Load()
			}
			few, many := calls(200), calls(1000)
			qt.Check(t, qt.IsTrue(few <= 700), qt.Commentf("%s: %d calls of the system", shape.name, few))
			qt.Check(t, qt.IsTrue(many <= few+10), qt.Commentf("%s: %d calls of the system, and %d", shape.name, many, few))
		}
	})
}
