package usage

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ocifs/internal/queue"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ocifs/internal/tally"
	"github.com/seed-40b21970/oci/ocifs/internal/uploads"
)

func TestMain(m *testing.M) { scratch.Main(m) }

// bed is a reporter and a counter, and what their registry consists of.
type bed struct {
	*testing.T
	reporter Reporter
	counter  Counter
	dir      string
}

// newBed returns the bed of one of the processes that have a directory.
func newBed(t *testing.T, dir string) *bed {
	b := &bed{T: t, dir: dir}
	log := slog.New(slog.DiscardHandler)
	work := disk.NewWorkspace(disk.OS{}, filepath.Join(dir, layout.PrivateDir), false)
	quota := &blobs.Quota{Max: 1 << 30}
	store := blobs.New(work, quota, log)
	sum := new(tally.Tally)
	set := repos.New(repos.Options{Layouts: layout.Tree{Root: dir, Work: work}, Store: store, Log: log, Tally: sum})
	sessions := uploads.New(work, store, quota, uploads.Options{Expiry: time.Hour, MaxSessions: 100, Logger: log, Now: time.Now})
	b.reporter = Reporter{Repos: set, Work: work, Log: log, Tally: sum, Watcher: set.Watcher(), Gate: queue.NewGate()}
	b.counter = Counter{Repos: set, Store: store, Uploads: sessions, Quota: quota, Log: log}
	t.Cleanup(func() {
		qt.Check(t, qt.IsNil(set.Close()))
		qt.Check(t, qt.IsNil(sessions.Close()))
		qt.Check(t, qt.IsNil(work.Close()))
	})
	return b
}

// layout makes a layout with blobs, as other programs do, whose times are long ago.
func (b *bed) layout(name string, contents ...string) (blobDir string) {
	b.Helper()
	blobDir = filepath.Join(b.dir, name, "blobs", "sha256")
	qt.Assert(b, qt.IsNil(os.MkdirAll(blobDir, 0o777)))
	for _, text := range contents {
		qt.Assert(b, qt.IsNil(os.WriteFile(filepath.Join(blobDir, digest.FromString(text).Encoded()), []byte(text), 0o666)))
	}
	index := filepath.Join(b.dir, name, "index.json")
	qt.Assert(b, qt.IsNil(os.WriteFile(index, []byte(repostate.EmptyIndex), 0o666)))
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{index, blobDir} {
		qt.Assert(b, qt.IsNil(os.Chtimes(name, old, old)))
	}
	return blobDir
}

func (b *bed) want(prefix string, want int64) {
	b.Helper()
	got, err := b.reporter.Below(b.Context(), prefix)
	qt.Assert(b, qt.IsNil(err))
	qt.Assert(b, qt.Equals(got, want), qt.Commentf("%q", prefix))
}

func (b *bed) commit(name string, ops ...repostate.Op) *repos.Repository {
	b.Helper()
	repo := b.reporter.Repos.Use(name)
	b.Cleanup(repo.Release)
	qt.Assert(b, qt.IsNil(repo.Commit(&repos.Change{Ctx: b.Context(), Creates: true, Check: func(batch *repos.Batch) error {
		for _, op := range ops {
			batch.Add(op)
		}
		return nil
	}})))
	return repo
}

func blob(text string) repostate.Op {
	return repostate.Op{Kind: repostate.PutBlob, Digest: digest.FromString(text), Text: text}
}

func put(text string) repostate.Op {
	return repostate.Op{Kind: repostate.PutManifest, Digest: digest.FromString(text), MediaType: "text/plain", Size: int64(len(text)), Text: text}
}

func TestStamp_IsFinalOnceAChangeShows(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 500_000_000)
	ago := func(d time.Duration) int64 { return now.Add(-d).UnixNano() }
	for name, test := range map[string]struct {
		stamp stamp
		want  bool
	}{
		"nothing there":                  {stamp{}, true},
		"just now":                       {stamp{IndexTime: ago(0)}, false},
		"before a tick of the system":    {stamp{IndexTime: ago(time.Second)}, true},
		"one of several":                 {stamp{IndexTime: ago(time.Minute), BlobTimes: [2]int64{ago(time.Minute), ago(time.Millisecond)}}, false},
		"journal":                        {stamp{JournalTime: ago(time.Millisecond)}, false},
		"whole seconds, just now":        {stamp{IndexTime: ago(500 * time.Millisecond)}, false},
		"whole seconds, some time ago":   {stamp{IndexTime: ago(2500 * time.Millisecond)}, true},
		"in the future, by another host": {stamp{IndexTime: ago(-time.Hour)}, false},
	} {
		qt.Check(t, qt.Equals(test.stamp.isFinal(now), test.want), qt.Commentf(name))
	}
}

// A repository is not counted again as long as its files are what they were, and others whose
// files have changed are counted by a new process.
func TestReporter_TrustsWhatWasWrittenDown(t *testing.T) {
	t.Parallel()
	dir := scratch.Kept(t)
	first := newBed(t, dir)
	same := first.layout("same", "12345")
	changed := first.layout("changed", "123")
	first.layout("gone", "1")
	first.want("", 9)
	first.reporter.Close()

	// The times of the directory say nothing of this.
	info, err := os.Lstat(same)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(same, digest.FromString("more").Encoded()), []byte("more"), 0o666)))
	qt.Assert(t, qt.IsNil(os.Chtimes(same, info.ModTime(), info.ModTime())))
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(changed, digest.FromString("more").Encoded()), []byte("more"), 0o666)))
	qt.Assert(t, qt.IsNil(os.RemoveAll(filepath.Join(dir, "gone"))))
	next := newBed(t, dir)
	next.want("", 5+7)
	next.want("gone", 0)
}

func TestReporter_DoesNotWriteDownWhatIsInDoubt(t *testing.T) {
	t.Parallel()
	dir := scratch.Kept(t)
	first := newBed(t, dir)
	first.layout("doubtful", "123")
	first.layout("sure", "1234")
	first.want("", 7)
	first.reporter.Tally.Doubt("doubtful")
	first.reporter.Close()
	text, err := os.ReadFile(filepath.Join(dir, layout.PrivateDir, "usage"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.StringContains(string(text), `"sure"`))
	qt.Check(t, qt.IsFalse(strings.Contains(string(text), `"doubtful"`)))
}

// Lines that cannot be right are left out, though the checksum is.
func TestReporter_ReadsWhatIsWrittenDownWithCare(t *testing.T) {
	t.Parallel()
	b := newBed(t, scratch.Kept(t))
	b.layout("a", "123")
	rest := "{\"Name\":\"../up\",\"Bytes\":7}\n{\"Name\":\"b\",\"Bytes\":-7}\nwhat\n{\"Name\":\"c\",\"Bytes\":7}\n"
	qt.Assert(t, qt.IsNil(disk.MakeDirs(disk.OS{}, b.reporter.Work.Dir)))
	qt.Assert(t, qt.IsNil(os.WriteFile(b.reporter.file(), []byte(checksum(rest)+"\n"+rest), 0o666)))
	b.want("", 3)
}

// To count a repository with very many blobs takes a part of the time at most. What this
// process changes counts at once anyway.
func TestReporter_CountsLargeRepositoriesNowAndThen(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		b := newBed(t, scratch.Kept(t))
		content := b.layout("large", "1")
		file := filepath.Join(content, digest.FromString("1").Encoded())
		for i := range manyBlobs {
			qt.Assert(t, qt.IsNil(os.Link(file, filepath.Join(content, digest.FromString(fmt.Sprint("n", i)).Encoded()))))
		}
		b.want("", manyBlobs+1)
		qt.Assert(t, qt.IsNil(os.Link(file, filepath.Join(content, digest.FromString("last").Encoded()))))
		b.reporter.Tally.Doubt("large")
		b.want("", manyBlobs+1)
		b.commit("large", blob("12"))
		b.want("", manyBlobs+3)
		b.reporter.counts["large"].next = time.Now()
		b.want("", manyBlobs+4)
	})
}

// A digest counts once, whether it has several names, or is in a journal.
func TestCounter_CountsEachDigestOnce(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		dir := scratch.Kept(t)
		first := newBed(t, dir)
		repo := first.commit("a", blob("shared"), blob("folded"), put("manifest"))
		qt.Assert(t, qt.IsNil(repo.Fold(t.Context())))
		first.commit("b", blob("shared"), put("in a journal"))
		first.commit("a", repostate.Op{Kind: repostate.DeleteManifest, Digest: digest.FromString("manifest")})
		qt.Assert(t, qt.IsNil(first.counter.Count()))
		qt.Check(t, qt.Equals(first.counter.Quota.Used(), int64(len("shared")+len("folded")+len("in a journal"))))
	})
}

func TestCounter_KnowsWhetherAManifestIsCounted(t *testing.T) {
	t.Parallel()
	b := newBed(t, scratch.Kept(t))
	repo := b.commit("a", put("manifest"))
	var m *repostate.Manifest
	repo.View(func(s *repostate.State) { m = s.Manifest(digest.FromString("manifest")) })
	qt.Check(t, qt.IsTrue(b.counter.IsCounted(repo, m))) // it is in the journal
	qt.Assert(t, qt.IsNil(repo.Fold(t.Context())))
	repo.View(func(s *repostate.State) { m = s.Manifest(digest.FromString("manifest")) })
	qt.Check(t, qt.IsTrue(b.counter.IsCounted(repo, m)))
	qt.Assert(t, qt.IsNil(os.Remove(blobs.Path(repo.Dir, m.Digest))))
	qt.Check(t, qt.IsFalse(b.counter.IsCounted(repo, m)))
	b.counter.Quota.Max = 0
	qt.Check(t, qt.IsTrue(b.counter.IsCounted(repo, m))) // nobody wants to know
}
