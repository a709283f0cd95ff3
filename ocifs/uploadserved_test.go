package ocifs

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociserver"
)

// ask makes a request of a handler, and returns where its answer leads.
func ask(t *testing.T, h http.Handler, status int, method, target, body string) (location string) {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(method, target, strings.NewReader(body)))
	qt.Assert(t, qt.Equals(rec.Code, status), qt.Commentf("%s %s: %s", method, target, rec.Body))
	return rec.Header().Get("Location")
}

// filesBelow returns the names of all files below a directory.
func filesBelow(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			name, err = filepath.Rel(dir, name)
			names = append(names, name)
		}
		return err
	})
	qt.Assert(t, qt.IsNil(err))
	return names
}

// Sessions without bytes have no file and take no memory, and each of them can
// continue, after a restart too.
func TestPosts_CostNothing(t *testing.T) {
	// It looks at all of the memory.
	dir := scratch.Kept(t)
	r, err := New(dir, nil)
	qt.Assert(t, qt.IsNil(err))
	h := ociserver.New(r, nil)
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // what was in a pool at the first
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	const posts = 10_000
	locations := make([]string, 0, posts+1)
	locations = append(locations, ask(t, h, http.StatusAccepted, "POST", "/v2/app/blobs/uploads/", ""))
	before, memory := filesBelow(t, dir), heap()
	for range posts {
		locations = append(locations, ask(t, h, http.StatusAccepted, "POST", "/v2/app/blobs/uploads/", ""))
	}
	grown := int64(heap()) - int64(memory) - posts*256 // that is for the locations
	qt.Check(t, qt.IsTrue(grown < 1<<20), qt.Commentf("%d bytes", grown))
	qt.Check(t, qt.DeepEquals(filesBelow(t, dir), before))
	qt.Check(t, qt.Equals(r.uploads.InMemory(), 0))
	for _, i := range []int{0, 1, posts / 2, posts} {
		body := fmt.Sprint("content ", i)
		ask(t, h, http.StatusNoContent, "GET", locations[i], "")
		ask(t, h, http.StatusCreated, "PUT", locations[i]+"?digest="+string(digest.FromString(body)), body)
		ask(t, h, http.StatusNotFound, "PUT", locations[i]+"?digest="+string(digest.FromString(body)), body)
	}
	qt.Assert(t, qt.IsNil(r.Close()))

	r, err = New(dir, nil)
	qt.Assert(t, qt.IsNil(err))
	h = ociserver.New(r, nil)
	ask(t, h, http.StatusNotFound, "PUT", strings.Replace(locations[2], "/app/", "/other/", 1)+"?digest="+string(digest.FromString("2")), "2")
	ask(t, h, http.StatusCreated, "PUT", locations[2]+"?digest="+string(digest.FromString("2")), "2")
	next := ask(t, h, http.StatusAccepted, "PATCH", locations[3], "abc")
	ask(t, h, http.StatusNoContent, "DELETE", locations[4], "")
	ask(t, h, http.StatusNotFound, "GET", locations[4], "")
	qt.Assert(t, qt.IsNil(r.Close()))

	r, err = New(dir, nil)
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	h = ociserver.New(r, nil)
	ask(t, h, http.StatusCreated, "PUT", next+"?digest="+string(digest.FromString("abcdef")), "def")
	ask(t, h, http.StatusNotFound, "GET", next, "")
}

// A small blob that arrives by POST and PUT creates no file, and takes one write, to
// the journal.
func TestPostAndPut_IsOneWrite(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		r, fsys := counted(t, func(string) {})
		h := ociserver.New(r, nil)
		push := func(body string) {
			next := ask(t, h, http.StatusAccepted, "POST", "/v2/app/blobs/uploads/", "")
			ask(t, h, http.StatusCreated, "PUT", next+"?digest="+string(digest.FromString(body)), body)
		}
		push("the first makes the repository")
		synctest.Wait() // for what opening does in the background
		fsys.Set(nil)
		push("the second")
		for _, op := range []string{"Mkdir", "Link", "Rename", "Remove", "file.Write", "file.Truncate", "SyncDir"} {
			qt.Check(t, qt.Equals(fsys.Count(op), 0), qt.Commentf("%s", op))
		}
		qt.Check(t, qt.Equals(fsys.Count("file.WriteAt"), 1))
		qt.Check(t, qt.IsTrue(fsys.Count("OpenFile") <= 3)) // the journal's; two look for a session's
	})
}
