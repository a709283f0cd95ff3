package garbage

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/gc"
	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ocifs/internal/pulls"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ocifs/internal/uploads"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

func TestMain(m *testing.M) { scratch.Main(m) }

// bed is a collector, and what its registry consists of.
type bed struct {
	*testing.T
	Collector
	fsys *disktest.Hooks
	dir  string
}

func newBed(t *testing.T) *bed {
	b := &bed{T: t, fsys: new(disktest.Hooks), dir: scratch.Kept(t)}
	log := slog.New(slog.DiscardHandler)
	b.Work = disk.NewWorkspace(b.fsys, filepath.Join(b.dir, layout.PrivateDir), false)
	b.Quota = new(blobs.Quota)
	b.Store = blobs.New(b.Work, b.Quota, log)
	b.Repos = repos.New(repos.Options{Layouts: layout.Tree{Root: b.dir, Work: b.Work}, Store: b.Store, Log: log})
	b.Uploads = uploads.New(b.Work, b.Store, b.Quota, uploads.Options{Expiry: time.Hour, MaxSessions: 100, Logger: log, Now: time.Now})
	b.Pulls = &pulls.Log{Work: b.Work, Dir: filepath.Join(b.Work.Dir, "pulls"), Log: log}
	t.Cleanup(func() {
		b.fsys.Set(nil)
		qt.Check(t, qt.IsNil(errors.Join(b.Repos.Close(), b.Uploads.Close())))
		b.Pulls.Close()
		qt.Check(t, qt.IsNil(b.Work.Close()))
		b.fsys.CheckClosed(t)
	})
	return b
}

func (b *bed) use(name string) *repos.Repository {
	repo := b.Repos.Use(name)
	b.Cleanup(repo.Release)
	return repo
}

// commit makes a change of operations, and makes files of what they add.
func (b *bed) commit(repo *repos.Repository, ops ...repostate.Op) {
	b.Helper()
	err := repo.Commit(&repos.Change{Ctx: b.Context(), Creates: true, Check: func(batch *repos.Batch) error {
		for _, op := range ops {
			batch.Add(op)
		}
		return nil
	}})
	qt.Assert(b, qt.IsNil(errors.Join(err, repo.Fold(b.Context()))))
}

func blob(text string) repostate.Op {
	return repostate.Op{Kind: repostate.PutBlob, Digest: digest.FromString(text), Text: text}
}

// put is the operation of a push of a manifest, which names some others and has a subject.
func put(text string, subject ociregistry.Digest, names []ociregistry.Digest, tags ...string) repostate.Op {
	info := manifest.Info{Subject: subject}
	for _, name := range names {
		info.Manifests = append(info.Manifests, manifest.Ref{Digest: name})
	}
	return repostate.Op{
		Kind: repostate.PutManifest, Digest: digest.FromString(text), MediaType: "text/plain", Size: int64(len(text)), Text: text, Tags: tags, Info: &info,
	}
}

// setOld makes the files of contents two days old.
func (b *bed) setOld(repo *repos.Repository, texts ...string) {
	b.Helper()
	old := time.Now().Add(-48 * time.Hour)
	for _, text := range texts {
		qt.Assert(b, qt.IsNil(os.Chtimes(blobs.Path(repo.Dir, digest.FromString(text)), old, old)))
	}
}

// old returns which of the files of contents are old.
func (b *bed) old(repo *repos.Repository, texts ...string) (old []string) {
	b.Helper()
	for _, text := range texts {
		modified, _, err := b.Store.Age(repo.Dir, digest.FromString(text))
		qt.Assert(b, qt.IsNil(err))
		if time.Since(modified) > time.Hour {
			old = append(old, text)
		}
	}
	return old
}

// has returns which of the contents have files.
func (b *bed) has(repo *repos.Repository, texts ...string) (there []string) {
	b.Helper()
	for _, text := range texts {
		_, err := os.Lstat(blobs.Path(repo.Dir, digest.FromString(text)))
		if err == nil {
			there = append(there, text)
		} else {
			qt.Assert(b, qt.ErrorIs(err, fs.ErrNotExist))
		}
	}
	return there
}

func (b *bed) collect() *ocigc.Report {
	b.Helper()
	report, err := b.GC(b.Context(), &ocigc.Options{Untagged: true})
	qt.Assert(b, qt.IsNil(err))
	return report
}

// Whatever a manifest keeps that is deleted becomes young: its children, its referrers, and
// what cosign's tags say is about it.
func TestOrphanAll_MakesYoungWhatAManifestKeeps(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	repo := b.use("foo")
	subject := digest.FromString("index")
	b.commit(repo,
		put("child", "", nil), put("other", "", nil),
		put("index", "", []ociregistry.Digest{digest.FromString("child"), digest.FromString("absent")}),
		put("referrer", subject, nil),
		put("signature", "", nil, strings.Replace(subject.String(), ":", "-", 1)+".sig"))
	all := []string{"child", "index", "other", "referrer", "signature"}
	b.setOld(repo, all...)
	var m *repostate.Manifest
	repo.View(func(s *repostate.State) { m = s.Manifest(subject) })
	qt.Assert(t, qt.IsNil(OrphanAll(b.Store, repo, m)))
	qt.Check(t, qt.DeepEquals(b.old(repo, all...), []string{"index", "other"}))
	qt.Check(t, qt.IsNil(Orphan(b.Store, repo, digest.FromString("absent"))))
}

// A turn of a sweep has the journal for no more than maxThings.
func TestSweep_GivesBackTheJournal(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		b := newBed(t)
		repo := b.use("foo")
		var texts []string
		var ops []repostate.Op
		for i := range 3*maxThings + 1 {
			texts = append(texts, strings.Repeat("x", i+1))
			ops = append(ops, blob(texts[i]))
		}
		b.commit(repo, append(ops, put("kept", "", nil, "v1"))...)
		b.setOld(repo, texts...)
		locks := 0
		removed := 0
		b.fsys.Set(func(op, name string) error {
			switch {
			case op == "TryLock" && filepath.Base(name) == "journal":
				locks, removed = locks+1, 0
			case op == "Remove" && strings.HasPrefix(name, filepath.Join(repo.Dir, "blobs")):
				if removed++; removed > maxThings {
					t.Errorf("%d files removed at a time", removed)
				}
			}
			return nil
		})
		report := b.collect()
		b.fsys.Set(nil)
		qt.Check(t, qt.Equals(report.Blobs, len(texts)))
		qt.Check(t, qt.IsTrue(locks >= 4))
		qt.Check(t, qt.HasLen(b.has(repo, texts...), 0))
		qt.Check(t, qt.DeepEquals(b.has(repo, "kept"), []string{"kept"}))
	})
}

// What is touched, tagged or named after a plan was made stays, though the plan removes it.
func TestSweep_KeepsWhatIsNoGarbageAnyMore(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	repo := b.use("foo")
	texts := []string{"blob", "named", "tagged", "touched", "touched blob", "untagged"}
	b.commit(repo, blob("blob"), blob("touched blob"), put("tagged", "", nil), put("touched", "", nil), put("untagged", "", nil), put("named", "", nil))
	b.setOld(repo, texts...)
	meanwhile := &meanwhile{b.begin(), func() {
		b.commit(repo, put("tagged", "", nil, "v1"), put("parent", "", []ociregistry.Digest{digest.FromString("named")}, "v2"))
		b.setOld(repo, "tagged", "named")
		for _, text := range []string{"touched", "touched blob"} {
			_, err := repo.Touch(t.Context(), digest.FromString(text))
			qt.Assert(t, qt.IsNil(err))
		}
	}}
	_, err := gc.Collect(t.Context(), meanwhile, &ocigc.Options{Untagged: true, Now: time.Now})
	qt.Assert(t, qt.IsNil(errors.Join(err, repo.Fold(t.Context())))) // a fold removes the files of manifests
	qt.Check(t, qt.DeepEquals(b.has(repo, texts...), []string{"named", "tagged", "touched", "touched blob"}))
}

// meanwhile calls f between a plan and its sweep.
type meanwhile struct {
	*collection
	f func()
}

func (m *meanwhile) Sweep(ctx context.Context, p *gc.Plan, found func(ocigc.Finding)) error {
	m.f()
	return m.collection.Sweep(ctx, p, found)
}

// A file that cannot be removed is a blob again, and the collection goes on.
func TestSweep_LeavesABlobWhoseFileStays(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	repo := b.use("foo")
	b.commit(repo, blob("a"), blob("b"), put("kept", "", nil, "v1"))
	b.setOld(repo, "a", "b")
	stuck := blobs.Path(repo.Dir, digest.FromString("a"))
	refused := errors.New("refused")
	b.fsys.Set(func(op, name string) error {
		if op == "Remove" && name == stuck {
			return refused
		}
		return nil
	})
	report := b.collect()
	b.fsys.Set(nil)
	qt.Check(t, qt.HasLen(report.Problems, 1))
	qt.Check(t, qt.IsTrue(slices.ContainsFunc(report.Problems, func(p ocigc.Problem) bool { return errors.Is(p.Err, refused) })))
	qt.Check(t, qt.DeepEquals(b.has(repo, "a", "b"), []string{"a"}))
	qt.Check(t, qt.IsTrue(repo.Blob(digest.FromString("a")).InFile))
	b.collect()
	qt.Check(t, qt.HasLen(b.has(repo, "a"), 0))
}

// What an announcement says that nothing came of ends with the turn.
func TestSweep_EndsItsAnnouncements(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	repo := b.use("foo")
	b.commit(repo, blob("a"), put("kept", "", nil, "v1"))
	b.setOld(repo, "a")
	_, err := gc.Collect(t.Context(), &meanwhile{b.begin(), func() {
		_, err := repo.Touch(t.Context(), digest.FromString("a"))
		qt.Assert(t, qt.IsNil(err))
	}}, &ocigc.Options{Now: time.Now})
	qt.Assert(t, qt.IsNil(err))
	repo.View(func(s *repostate.State) { qt.Check(t, qt.IsFalse(s.HasAnnounced())) })
	qt.Check(t, qt.DeepEquals(b.has(repo, "a"), []string{"a"}))
}

// Old names of the pool go that no repository has, and so does the directory of a repository
// that a process has left empty when it died.
func TestGC_RemovesWhatNoRepositoryHas(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	repo := b.use("foo")
	b.commit(repo, blob("shared"), put("kept", "", nil, "v1"))
	pool := filepath.Join(b.Work.Dir, "blobs", "sha256")
	alone := func(text string, age time.Duration) string {
		name := filepath.Join(pool, digest.FromString(text).Encoded())
		qt.Assert(t, qt.IsNil(os.WriteFile(name, []byte(text), 0o666)))
		qt.Assert(t, qt.IsNil(os.Chtimes(name, time.Now(), time.Now().Add(-age))))
		return name
	}
	old, young := alone("old", 48*time.Hour), alone("young", 0)
	left := filepath.Join(b.dir, "left", layout.PrivateDir)
	qt.Assert(t, qt.IsNil(os.MkdirAll(left, 0o777)))
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(left, "journal"), nil, 0o666)))
	b.collect()
	for name, want := range map[string]bool{
		old: false, young: true, filepath.Dir(left): false, filepath.Join(pool, digest.FromString("shared").Encoded()): true,
	} {
		_, err := os.Lstat(name)
		qt.Check(t, qt.Equals(err == nil, want), qt.Commentf(name))
	}
}
