package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

// TestTooSlow checks what is told of those that do not get ready in time, and
// that each is given one chance.
func TestTooSlow(t *testing.T) {
	t.Parallel()
	repo := newTagged(100, scale{prepare: -1})
	repo.shared = true
	cfg := &config{counts: 2, servers: regexp.MustCompile("^(ocimem|ggcr)$")}
	again := &tagged{tags: 100, image: repo.image, manifest: repo.manifest}
	res, err := measureAll(t.Context(), cfg, []row{
		{name: "One", clients: 1, ops: 1, stock: repo, work: repo.put},
		{name: "Two", clients: 1, ops: 1, stock: repo, work: repo.page(10)},
		{name: "Three", clients: 1, ops: 1, stock: again, work: again.page(10)},
	})
	qt.Assert(t, qt.IsNil(err))
	var out strings.Builder
	qt.Assert(t, qt.IsNil(res.writeMarkdown(&out)))
	for _, name := range []string{"One", "Two", "Three"} {
		qt.Check(t, qt.StringContains(out.String(), "| "+name+" | too slow to prepare | too slow to prepare |"))
	}
	qt.Check(t, qt.StringContains(out.String(), "\ntoo slow to prepare: One, ggcr registry: push stock: too slow to prepare: "))
	qt.Check(t, qt.Equals(res.fails[cell{"One", "ggcr"}], res.fails[cell{"Two", "ggcr"}]))
}

// TestFleet checks which servers are kept, and that none is left.
func TestFleet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	left := func() int {
		entries, err := os.ReadDir(dir)
		qt.Assert(t, qt.IsNil(err))
		return len(entries)
	}
	f := newFleet(dir)
	s, err := serverNamed("ocimem")
	qt.Assert(t, qt.IsNil(err))
	shared, other := newTagged(3, shortScale), newTagged(3, shortScale)
	shared.shared, other.shared = true, true

	get := func(repo stock) *process {
		p, err := f.get(t.Context(), s, repo)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(f.put(p)))
		return p
	}
	get(nil)
	get(newTagged(3, shortScale))
	qt.Check(t, qt.Equals(left(), 0))
	first := get(shared)
	qt.Check(t, qt.Equals(get(shared), first))
	qt.Check(t, qt.Equals(left(), 1))
	qt.Check(t, qt.Not(qt.Equals(get(other), first)))
	qt.Check(t, qt.Equals(left(), 1))
	qt.Assert(t, qt.IsNil(f.end()))
	qt.Check(t, qt.Equals(left(), 0))
}

// TestServerEnds checks that a server's end is waited for, and its failure told.
func TestServerEnds(t *testing.T) {
	t.Parallel()
	fail := errors.New("cannot end")
	s := server{open: func(string) (http.Handler, func() error, error) {
		return http.NotFoundHandler(), func() error { return fail }, nil
	}}
	qt.Check(t, qt.ErrorIs(s.serve(".", strings.NewReader(""), io.Discard), fail))
}

func TestBare(t *testing.T) {
	t.Parallel()
	for name, bodies := range map[string]bodies{
		"memory": newBareMemory(),
		"disk":   &bareDisk{dir: t.TempDir()},
		"sync":   &bareDisk{dir: t.TempDir(), sync: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(newBare(bodies))
			defer srv.Close()
			c := &client{ctx: t.Context(), http: srv.Client(), base: srv.URL, path: repoPath, buf: make([]byte, 100)}
			blobs := newBlobs(randomBytes(3<<20), 2)
			qt.Assert(t, qt.IsNil(c.pushBlob(blobs[0])))
			qt.Assert(t, qt.IsNil(c.patchBlob(blobs[1])))
			for _, b := range blobs {
				qt.Check(t, qt.IsNil(checkBlob(c.clone(), b)))
				size, err := c.head(c.blobURL(b))
				qt.Check(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(size, b.size))
			}
			qt.Assert(t, qt.IsNil(c.putManifest("tag", []byte("manifest"))))
			qt.Check(t, qt.IsNil(checkManifest(c.clone(), "tag", []byte("manifest"))))
			_, err := c.clone().get(repoPath + "no such")
			qt.Check(t, qt.ErrorMatches(err, ".*404.*"))
		})
	}
}
