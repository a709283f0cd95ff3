package ocifs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func TestUsage_KeepsItsContract(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t testing.TB) ociregistry.UsageReporter{
		"one process":   func(t testing.TB) ociregistry.UsageReporter { return openUnsynced(t, scratch.Dir(t)) },
		"two processes": func(t testing.TB) ociregistry.UsageReporter { return openTwo(t) },
		"new processes": func(t testing.TB) ociregistry.UsageReporter { return &reopened{openUnsynced(t, scratch.Dir(t))} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ocitest.RunUsage(t, open)
		})
	}
}

func openUnsynced(t testing.TB, dir string) *Registry {
	t.Helper()
	r, err := New(dir, &Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(r.Close())) })
	return r
}

// openTwo opens a directory twice. What one of them is asked, another one has done.
func openTwo(t testing.TB) ociregistry.UsageReporter {
	dir := scratch.Dir(t)
	return &askOther{shared: shared{Registry: openUnsynced(t, dir), other: openUnsynced(t, dir)}}
}

type askOther struct{ shared }

func (a *askOther) Usage(ctx context.Context, prefix string) (int64, error) {
	return a.any().Usage(ctx, prefix)
}

// reopened is opened anew before it is asked.
type reopened struct{ *Registry }

func (r *reopened) Usage(ctx context.Context, prefix string) (int64, error) {
	if err := r.Close(); err != nil {
		return 0, err
	}
	next, err := New(r.dir, &r.opts)
	if err != nil {
		return 0, err
	}
	r.Registry = next
	return next.Usage(ctx, prefix)
}

func wantUsage(t testing.TB, r *Registry, prefix string, want int64) {
	t.Helper()
	got, err := r.Usage(t.Context(), prefix)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(got, want), qt.Commentf("usage of %q", prefix))
}

func pushData(t testing.TB, r *Registry, repo string, seed uint64, size int64) ocitest.Blob {
	t.Helper()
	b := ocitest.NewBlob(seed, size)
	_, err := r.PushBlob(t.Context(), repo, b.Descriptor, b.NewReader())
	qt.Assert(t, qt.IsNil(err))
	return b
}

// setOld makes everything in a directory an hour older, so that a change shows in its time.
func setOld(t testing.TB, dir string) {
	t.Helper()
	var names []string
	unlessGone := func(err error) { // a fold may remove what it finds
		t.Helper()
		if !errors.Is(err, fs.ErrNotExist) {
			qt.Assert(t, qt.IsNil(err))
		}
	}
	unlessGone(filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		names = append(names, name)
		unlessGone(err)
		return nil
	}))
	for _, name := range names {
		info, err := os.Lstat(name)
		if unlessGone(err); err == nil {
			unlessGone(os.Chtimes(name, time.Time{}, info.ModTime().Add(-time.Hour)))
		}
	}
}

// makeCounted makes a directory of n repositories of 5 blobs and a manifest, 1,060 bytes each,
// and counts them.
func makeCounted(t testing.TB, n int) (dir string) {
	t.Helper()
	dir = scratch.Dir(t)
	r := openUnsynced(t, dir)
	for i := range n {
		repo := fmt.Sprintf("r%d", i)
		for k := range 5 {
			pushData(t, r, repo, uint64(k), 200)
		}
		_, err := r.PushManifest(t.Context(), repo, "v1", ocitest.NewBlob(9, 60).Bytes(), "text/plain")
		qt.Assert(t, qt.IsNil(err))
	}
	qt.Assert(t, qt.IsNil(r.Close()))
	setOld(t, dir)
	r = openUnsynced(t, dir)
	wantUsage(t, r, "", int64(n)*1060)
	qt.Assert(t, qt.IsNil(r.Close()))
	return dir
}

// A new process looks at the files of a repository that do not grow in number, and lists no
// blobs, unless something has changed since they were counted.
func TestUsage_IsKnownAfterARestart(t *testing.T) {
	t.Parallel()
	dir := makeCounted(t, 3)
	pushAndClose := func() {
		r := openUnsynced(t, dir)
		pushData(t, r, "r1", 100, 40)
		qt.Assert(t, qt.IsNil(r.Close()))
	}
	for _, test := range []struct {
		before func()
		listed int
		want   int64
	}{
		{func() {}, 0, 3180},
		{pushAndClose, 1, 3220},
	} {
		test.before()
		r, h := openHooked(t, dir, &Options{NoSync: true})
		listed, looks := 0, 0
		h.Set(func(op, name string) error {
			rel, _ := filepath.Rel(dir, name)
			switch {
			case op == "ReadDir" && filepath.Base(name) == "sha256" && rel[0] == 'r':
				listed++
			case op == "Lstat" && rel[0] == 'r':
				looks++
			}
			return nil
		})
		wantUsage(t, r, "", test.want)
		h.Set(nil)
		qt.Check(t, qt.Equals(listed, test.listed))
		qt.Check(t, qt.IsTrue(looks <= 3*4+24*test.listed), qt.Commentf("%d looks", looks))
	}
}

// What is written down may be lost or damaged: everything is counted again.
func TestUsage_SurvivesTheLossOfWhatIsWrittenDown(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(file string) error{
		"removed": os.Remove,
		"cut":     func(file string) error { return os.Truncate(file, 30) },
		"wrong": func(file string) error {
			return os.WriteFile(file, []byte("0\n{\"Name\":\"r0\",\"Bytes\":7}\n"), 0o666)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := makeCounted(t, 2)
			qt.Assert(t, qt.IsNil(damage(filepath.Join(dir, ".ocifs", "usage"))))
			wantUsage(t, openUnsynced(t, dir), "", 2120)
		})
	}
}

// The calls of the system that it takes do not depend on the number of repositories, also if
// others have changed something.
func TestUsage_CostsTheSameForAnyNumberOfRepositories(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		var counts []int
		for _, n := range []int{2, 20} {
			dir := makeCounted(t, n)
			r, h := openHooked(t, dir, &Options{NoSync: true})
			other := openUnsynced(t, dir)
			synctest.Wait() // for what opening does in the background
			wantUsage(t, r, "", int64(n)*1060)
			before := total(h)
			wantUsage(t, r, "", int64(n)*1060)
			calls := total(h) - before
			qt.Check(t, qt.IsTrue(calls <= 8), qt.Commentf("%d calls", calls))
			pushData(t, other, "r1", 100, 40)
			wantUsage(t, r, "", int64(n)*1060+40)
			counts = append(counts, total(h)-before)
		}
		qt.Check(t, qt.IsTrue(counts[1] < counts[0]+10), qt.Commentf("%d calls", counts))
	})
}

// total returns how many calls of the system were counted.
func total(h *disktest.Hooks) (n int) {
	for _, count := range h.Counts() {
		n += count
	}
	return n
}

// What one process does, the other tells at once, also if nobody asked in between, and it is
// in the layouts by then.
func TestUsage_HasWhatOtherProcessesDo(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := scratch.Dir(t)
	r, other := openUnsynced(t, dir), openUnsynced(t, dir)
	wantUsage(t, r, "", 0)
	large := pushData(t, other, "a/b", 1, 100_000)
	wantUsage(t, r, "a", 100_000)
	small := pushData(t, other, "a/b", 2, 100)
	foldAll(t, used(t, other, "a/b"))
	wantUsage(t, r, "a", 100_100)
	pushData(t, other, "a/c", 3, 100_000)
	foldAll(t, used(t, other, "a/c"))
	pushData(t, r, "a/b", 4, 50_000)
	_, err := other.MountBlob(ctx, "a/b", "d", large.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(other.DeleteBlob(ctx, "a/b", large.Descriptor.Digest)))
	qt.Assert(t, qt.IsNil(other.DeleteBlob(ctx, "a/b", small.Descriptor.Digest)))
	qt.Assert(t, qt.IsNil(other.Close()))
	wantUsage(t, r, "a", 150_000)
	wantUsage(t, r, "", 250_000)

	collecting := openUnsynced(t, dir)
	_, err = collecting.GC(ctx, &ocigc.Options{Delay: -1})
	qt.Assert(t, qt.IsNil(err))
	wantUsage(t, r, "", 0)
	wantUsage(t, collecting, "", 0)
}

// A process that began to mark repositories before anybody asked for their usage goes on to
// tell which ones it changes.
func TestUsage_HasWhatOthersDoWhoBeganBefore(t *testing.T) {
	t.Parallel()
	dir := scratch.Dir(t)
	r, other := openUnsynced(t, dir), openUnsynced(t, dir)
	pushData(t, other, "a", 1, 100)
	wantUsage(t, r, "", 100)
	pushData(t, other, "a", 2, 20)
	pushData(t, other, "b", 3, 3)
	for _, repo := range []string{"a", "b"} {
		foldAll(t, used(t, other, repo))
	}
	wantUsage(t, r, "", 123)
	pushData(t, other, "a", 4, 1000)
	foldAll(t, used(t, other, "a"))
	wantUsage(t, r, "", 1123)
	wantUsage(t, other, "", 1123)
}

// What one process does to files counts although another one folds the repository before or
// after, which removes the mark that both have made.
func TestUsage_HasWhatOthersDoToRepositoriesThatItFolds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(r *Registry, large, small ociregistry.Digest) error
		left   int64
	}{
		{"push", func(r *Registry, _, _ ociregistry.Digest) error {
			b := ocitest.NewBlob(9, 20_000)
			_, err := r.PushBlob(context.Background(), "a", b.Descriptor, b.NewReader())
			return err
		}, 160_030},
		{"mount", func(r *Registry, _, _ ociregistry.Digest) error {
			_, err := r.MountBlob(context.Background(), "other", "a", ocitest.NewBlob(8, 30_000).Descriptor.Digest)
			return err
		}, 170_030},
		{"delete a large blob", func(r *Registry, large, _ ociregistry.Digest) error {
			return r.DeleteBlob(context.Background(), "a", large)
		}, 40_030},
		{"delete a small blob", func(r *Registry, _, small ociregistry.Digest) error {
			return r.DeleteBlob(context.Background(), "a", small)
		}, 140_000},
	} {
		for _, foldedFirst := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,folded first=%t", test.name, foldedFirst), func(t *testing.T) {
				t.Parallel()
				dir := scratch.Dir(t)
				r, other := openUnsynced(t, dir), openUnsynced(t, dir)
				pushData(t, other, "other", 8, 30_000)
				large, small := pushData(t, other, "a", 1, 100_000), pushData(t, other, "a", 2, 30)
				foldAll(t, used(t, r, "a"))
				pushData(t, other, "a", 3, 40_000)
				pushData(t, r, "a", 1, 100_000) // so that it has a mark of both
				wantUsage(t, r, "a", 140_030)
				setOld(t, dir)
				for _, r := range []*Registry{r, other} {
					wantUsage(t, r, "a", 140_030)
				}
				if foldedFirst {
					foldAll(t, used(t, r, "a"))
					wantUsage(t, r, "a", 140_030)
				}
				qt.Assert(t, qt.IsNil(test.change(other, large.Descriptor.Digest, small.Descriptor.Digest)))
				if !foldedFirst {
					foldAll(t, used(t, r, "a"))
				}
				wantUsage(t, r, "a", test.left)
				wantUsage(t, other, "a", test.left)
			})
		}
	}
}

// What other programs write to index.json counts when a call notices it, and the blobs that
// they add after a collection.
func TestUsage_HasWhatOtherProgramsDo(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := makeCounted(t, 2)
	r := openUnsynced(t, dir)
	wantUsage(t, r, "", 2120)
	text := `{"schemaVersion":2,"manifests":[]}`
	writeLayout(t, filepath.Join(dir, "r1"), []string{entryOf(text, "other")}, text)
	_, err := r.ResolveTag(ctx, "r1", "other")
	qt.Assert(t, qt.IsNil(err))
	// The manifest that was there before is a blob now.
	wantUsage(t, r, "r1", 1060+int64(len(text)))
	writeLayout(t, filepath.Join(dir, "new"), nil, "blob")
	_, err = r.GC(ctx, nil)
	qt.Assert(t, qt.IsNil(err))
	wantUsage(t, r, "new", 4)
}

// A layout that is served alone is counted, too.
func TestUsage_OfOneLayout(t *testing.T) {
	t.Parallel()
	dir := scratch.Dir(t)
	var both [2]*Registry
	for i := range both {
		var err error
		both[i], err = NewLayout(dir, "a/b", &Options{NoSync: true})
		qt.Assert(t, qt.IsNil(err))
		defer both[i].Close()
	}
	for i := range 4 {
		pushData(t, both[i%2], "a/b", uint64(i), 30_000)
		for _, r := range both {
			wantUsage(t, r, "a", 30_000*int64(i+1))
		}
	}
	wantUsage(t, both[0], "b", 0)
}

// A read-only registry writes nothing to find out.
func TestUsage_ReadOnly(t *testing.T) {
	t.Parallel()
	dir := scratch.Dir(t)
	other := openUnsynced(t, dir)
	r, err := New(dir, &Options{ReadOnly: true})
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	wantUsage(t, r, "", 0)
	pushData(t, other, "a", 1, 30_000)
	wantUsage(t, r, "", 30_000)
	qt.Assert(t, qt.IsNil(other.Close()))
	wantUsage(t, r, "", 30_000)
	_, err = os.Lstat(filepath.Join(dir, ".ocifs", "changes"))
	qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))
}

// While several goroutines change repositories, and one asks all the time, nothing is lost or
// counted twice in the end.
func TestUsage_IsRightAfterConcurrentChanges(t *testing.T) {
	t.Parallel()
	for _, processes := range []int{1, 2} {
		t.Run(fmt.Sprint(processes), func(t *testing.T) {
			t.Parallel()
			dir := scratch.Dir(t)
			all := []*Registry{openUnsynced(t, dir), openUnsynced(t, dir)}[:processes]
			var wg sync.WaitGroup
			for g := range 6 {
				wg.Go(func() {
					r := all[g%processes]
					for i := range 20 {
						b := ocitest.NewBlob(uint64(i), []int64{100, 30_000}[i%2])
						repo := fmt.Sprintf("r%d", i%3)
						_, err := r.PushBlob(t.Context(), repo, b.Descriptor, b.NewReader())
						qt.Check(t, qt.IsNil(err))
						_, err = r.Usage(t.Context(), "")
						qt.Check(t, qt.IsNil(err))
					}
				})
			}
			wg.Wait()
			for _, r := range all {
				wantUsage(t, r, "", 10*(100+30_000))
			}
		})
	}
}
