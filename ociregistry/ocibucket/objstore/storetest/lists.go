package storetest

import (
	"fmt"
	"slices"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// list returns all keys and prefixes below the test's prefix, and how many pages they took.
func (f *fixture) list(opts objstore.ListOptions) (keys, prefixes []string, pages int) {
	f.Helper()
	opts.Prefix = f.prefix + opts.Prefix
	if opts.StartAfter != "" {
		opts.StartAfter = f.prefix + opts.StartAfter
	}
	for {
		page, err := f.s.List(f.ctx, opts)
		qt.Assert(f, qt.IsNil(err))
		pages++
		for _, o := range page.Objects {
			keys = append(keys, o.Key[len(f.prefix):])
		}
		for _, p := range page.Prefixes {
			prefixes = append(prefixes, p[len(f.prefix):])
		}
		if opts.Next = page.Next; opts.Next == "" {
			return keys, prefixes, pages
		}
	}
}

// names have the bytes of repository names, and the one that ends them in keys.
var names = []string{"r/a!/l/1", "r/a!/s", "r/a-b!/l/1", "r/a.b!/l", "r/a/b!/l", "r/a0!/l", "r/aa!/l", "r/a_b!/l", "r/ab!/l"}

func testListOrder(f *fixture) {
	for _, name := range names {
		f.put(f.key(name), name)
	}
	want := slices.Sorted(slices.Values(names))
	keys, prefixes, _ := f.list(objstore.ListOptions{})
	qt.Check(f, qt.DeepEquals(keys, want))
	qt.Check(f, qt.HasLen(prefixes, 0))
	keys, _, _ = f.list(objstore.ListOptions{Prefix: "r/a!/"})
	qt.Check(f, qt.DeepEquals(keys, []string{"r/a!/l/1", "r/a!/s"}))
	keys, _, _ = f.list(objstore.ListOptions{Prefix: "r/a"})
	qt.Check(f, qt.DeepEquals(keys, want))
	keys, _, _ = f.list(objstore.ListOptions{Prefix: "nothing/"})
	qt.Check(f, qt.HasLen(keys, 0))

	page, err := f.s.List(f.ctx, objstore.ListOptions{Prefix: f.key("r/a0")})
	qt.Assert(f, qt.IsNil(err))
	qt.Assert(f, qt.HasLen(page.Objects, 1))
	o, _ := f.read(f.key("r/a0!/l"), objstore.Range{})
	qt.Check(f, qt.Equals(page.Objects[0].ETag, o.ETag))
	qt.Check(f, qt.Equals(page.Objects[0].Size, o.Size))
	qt.Check(f, qt.Equals(page.Objects[0].LastModified.Unix(), o.LastModified.Unix()))
}

func testListPages(f *fixture) {
	var want []string
	for i := range 23 {
		name := fmt.Sprintf("k/%02d", i)
		want = append(want, name)
		f.put(f.key(name), name)
	}
	for _, limit := range []int{1, 5, 23, 100} {
		keys, _, pages := f.list(objstore.ListOptions{Limit: limit})
		qt.Check(f, qt.DeepEquals(keys, want))
		qt.Check(f, qt.IsTrue(pages >= len(want)/limit))
	}
	count := 0
	for _, err := range objstore.All(f.ctx, f.s, objstore.ListOptions{Prefix: f.prefix, Limit: 4}) {
		qt.Assert(f, qt.IsNil(err))
		count++
	}
	qt.Check(f, qt.Equals(count, len(want)))
}

func testListStartAfter(f *fixture) {
	for _, name := range names {
		f.put(f.key(name), name)
	}
	sorted := slices.Sorted(slices.Values(names))
	for _, limit := range []int{0, 1, 3} {
		for i, after := range sorted {
			keys, _, _ := f.list(objstore.ListOptions{StartAfter: after, Limit: limit})
			qt.Check(f, qt.DeepEquals(append([]string{}, keys...), append([]string{}, sorted[i+1:]...)))
		}
		// A name that is not there, and one before all.
		keys, _, _ := f.list(objstore.ListOptions{StartAfter: "r/a-", Limit: limit})
		qt.Check(f, qt.DeepEquals(keys, sorted[2:]))
		keys, _, _ = f.list(objstore.ListOptions{StartAfter: "a", Limit: limit})
		qt.Check(f, qt.DeepEquals(keys, sorted))
	}
}

func testListDelimiter(f *fixture) {
	for _, name := range []string{"d/a", "d/b/1", "d/b/2", "d/b/c/3", "d/c", "d/d/4"} {
		f.put(f.key(name), name)
	}
	for _, limit := range []int{0, 1, 2} {
		opts := objstore.ListOptions{Prefix: "d/", Delimiter: "/", Limit: limit}
		keys, prefixes, _ := f.list(opts)
		qt.Check(f, qt.DeepEquals(keys, []string{"d/a", "d/c"}))
		qt.Check(f, qt.DeepEquals(prefixes, []string{"d/b/", "d/d/"}))
		opts.StartAfter = "d/b/"
		keys, prefixes, _ = f.list(opts)
		qt.Check(f, qt.DeepEquals(keys, []string{"d/c"}))
		qt.Check(f, qt.DeepEquals(prefixes, []string{"d/d/"}))
	}
}
