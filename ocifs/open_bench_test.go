package ocifs_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociserver"
)

// A root of manyRepos repositories is to open in openBar, and its first page of
// 100 names is to come in pageBar after that.
const (
	manyRepos = 10_000
	openBar   = 50 * time.Millisecond
	pageBar   = 100 * time.Millisecond
)

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
	r, err := ocifs.New(root, &ocifs.Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	must(t, r).MustPush(fmt.Sprintf(format, 0, 0), image(1), "latest")
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
func firstPage(t testing.TB, r *ocifs.Registry) (body string) {
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
		open := func(b *testing.B) *ocifs.Registry {
			r, err := ocifs.New(root, nil)
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

// TestOpenManyRepositories allows a root of many repositories five times the required
// time, because the machine may be busy; BenchmarkOpen measures it. Without
// OCIFS_FULL, the number of repositories and the times are a tenth.
func TestOpenManyRepositories(t *testing.T) {
	const leeway = 5
	part := time.Duration(10)
	if os.Getenv("OCIFS_FULL") != "" {
		part = 1
	}
	root := makeRoot(t, shapes[0].format, int(manyRepos/part))
	var opens, pages []time.Duration
	for range 5 {
		start := time.Now()
		r, err := ocifs.New(root, nil)
		opens = append(opens, time.Since(start))
		qt.Assert(t, qt.IsNil(err))
		start = time.Now()
		page := firstPage(t, r)
		pages = append(pages, time.Since(start))
		qt.Check(t, qt.Equals(strings.Count(page, `"repo-`), 100))
		qt.Check(t, qt.IsTrue(strings.Contains(page, `"repo-0099"`)))
		qt.Check(t, qt.IsNil(r.Close()))
	}
	t.Logf("New took %v, the first page %v", opens, pages)
	qt.Check(t, qt.IsTrue(slices.Min(opens) < leeway*openBar/part))
	qt.Check(t, qt.IsTrue(slices.Min(pages) < leeway*pageBar/part))
}
