// Package garbage collects the garbage of the repositories of a registry in a directory.
//
// What is garbage, package gc decides. To know how old content is, a collection looks at the
// times of files, but only of what nothing keeps.
//
// A collection, and those who say that something is there, keep to this:
//
//   - Who says it makes the file young, and then looks whether the state still has it
//     ([repos.Repository.Touch]). If it is announced there that it may be deleted, he waits for
//     the lock of the journal, and looks again.
//   - A collection has the lock. It announces in the journal what it may delete
//     ([repos.Batch.Announce]), then looks how old the files are, and then deletes by operations
//     in the journal what is not young.
//
// So either the collection sees that a file is young, or the other sees the announcement. One
// that a process has left when it died ends with the next record of the journal.
package garbage

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/internal/gc"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/pulls"
	"github.com/seed-40b21970/oci/ocifs/internal/refs"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ocifs/internal/uploads"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// Collector has what a registry consists of.
type Collector struct {
	Repos   *repos.Set
	Store   *blobs.Store
	Quota   *blobs.Quota
	Uploads *uploads.Sessions
	Pulls   *pulls.Log
	Work    *disk.Workspace
}

// GC does what [ocigc.Collector] says of its method GC.
func (c *Collector) GC(ctx context.Context, opts *ocigc.Options) (*ocigc.Report, error) {
	if opts == nil {
		opts = &ocigc.Options{}
	}
	if opts.Now == nil {
		withNow := *opts
		withNow.Now = c.Store.Clock.Now
		opts = &withNow
	}
	run := c.begin()
	run.dryRun = opts.DryRun
	report, err := gc.Collect(ctx, run, opts)
	if err != nil || opts.DryRun {
		return report, err
	}
	selector, err := ocigc.NewSelector(opts)
	if err != nil {
		return report, err
	}
	run.dropPool(func(modified time.Time) bool {
		return selector.Delay() < 0 || opts.Now().Sub(modified)-c.Store.Clock.Grain >= selector.Delay()
	})
	run.note("pulls", c.Pulls.Retain(run.names))
	for _, err := range run.problems {
		report.Problems = append(report.Problems, ocigc.Problem{Err: err})
	}
	return report, ctx.Err()
}

// collection is a run of GC. It is the [gc.Backend].
type collection struct {
	*Collector
	dryRun bool
	names  map[string]bool // of the repositories that were looked at

	problems []error // with what is of no repository

	seed  maphash.Seed
	files map[uint64]struct{} // hashes of the digests that repositories have files of
}

func (c *Collector) begin() *collection {
	return &collection{Collector: c, seed: maphash.MakeSeed(), names: make(map[string]bool), files: make(map[uint64]struct{})}
}

func (c *collection) hash(digest ociregistry.Digest) uint64 {
	return maphash.String(c.seed, string(digest))
}

// Repositories implements [gc.Backend]. Unlike that of the registry, it has those that cannot
// be read.
func (c *collection) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		stopped := false
		each := func(name string) bool {
			stopped = stopped || !yield(name, nil)
			return !stopped
		}
		err := c.Repos.EachDir(startAfter, func(name, dir string) (more bool, err error) {
			if err := ctx.Err(); err != nil || stopped {
				return false, err
			}
			has, err := c.Repos.Exists(name, dir)
			if disk.IsExhausted(err) {
				return false, err
			}
			if !has && err == nil {
				return true, c.removeEmpty(ctx, name)
			}
			return each(name), nil
		}, func(name string, _ error) { each(name) })
		if err != nil && !stopped {
			yield("", err)
		}
	}
}

// removeEmpty removes what a process has left of a repository when it died.
func (c *collection) removeEmpty(ctx context.Context, name string) error {
	if c.dryRun {
		return nil
	}
	repo := c.Repos.Use(name)
	defer repo.Release()
	repo.Fold(ctx) // if it fails, the next collection tries again
	return ctx.Err()
}

// Enumerate implements [gc.Backend].
func (c *collection) Enumerate(ctx context.Context, name string) (*gc.Repository, error) {
	c.names[name] = true
	repo, err := c.Repos.Open(name)
	if errors.Is(err, ociregistry.ErrNameUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer repo.Release()
	if !c.dryRun {
		if err := repo.Settle(ctx); err != nil {
			return nil, err
		}
	}
	g := &gc.Repository{Name: name, Grain: c.Store.Clock.Grain, BlobGrain: c.Store.Clock.Grain}
	if err := readWhole(repo); err != nil {
		return unreadable(g, err)
	}
	late, err := c.addFiles(g, repo)
	if err != nil {
		return nil, err
	}
	if len(late) > 0 {
		err := again(repo, func() error { return refs.FindLate(repo, late) })
		if err = errors.Join(err, readWhole(repo)); err != nil {
			return unreadable(g, err)
		}
	}
	c.addState(g, repo)
	c.addTimes(g, repo)
	if c.dryRun {
		return g, ctx.Err()
	}
	return g, errors.Join(ctx.Err(), c.Pulls.Forget(name, repo.HasManifest))
}

// unreadable returns what Enumerate does for a repository that cannot be read.
func unreadable(g *gc.Repository, err error) (*gc.Repository, error) {
	if errors.Is(err, ociregistry.ErrNameUnknown) { // it was removed meanwhile
		return nil, nil
	}
	g.Unreadable = err
	return g, nil
}

// lookAttempts is how often a repository is looked at that cannot be read: others may be
// deleting what is about to be read, and pushing it again.
const lookAttempts = 3

func again(repo *repos.Repository, look func() error) error {
	for attempt := 1; ; attempt++ {
		err := look()
		if err == nil || attempt == lookAttempts {
			return err
		}
		if err := repo.Find(); err != nil {
			return err
		}
	}
}

// readWhole finds out what all manifests name. The error says why nobody knows.
func readWhole(repo *repos.Repository) error {
	return again(repo, func() error { return readOnce(repo) })
}

func readOnce(repo *repos.Repository) error {
	if err := refs.ReadWhole(repo); err != nil {
		return err
	}
	if err := refs.Unreadable(repo); err != nil {
		return err
	}
	var unknown bool
	repo.View(func(s *repostate.State) { unknown = s.HasUnknownEntries() })
	if unknown {
		return errUnknownEntries
	}
	return nil
}

var errUnknownEntries = errors.New("index.json has entries that are not understood")

// addFiles adds the blobs that have files: what has none yet is young. It returns those that
// may be manifests of which the state does not know.
func (c *collection) addFiles(g *gc.Repository, repo *repos.Repository) (late map[ociregistry.Digest]bool, err error) {
	late = make(map[ociregistry.Digest]bool)
	err = c.Store.EachName(repo.Dir, func(digest ociregistry.Digest) {
		c.files[c.hash(digest)] = struct{}{}
		repo.View(func(s *repostate.State) {
			blob, isLate := s.MayBeGarbage(digest)
			if blob {
				g.Blobs = append(g.Blobs, gc.Blob{Digest: digest})
			}
			if isLate {
				late[digest] = true
			}
		})
	})
	return late, err
}

// addState adds what the state has.
func (c *collection) addState(g *gc.Repository, repo *repos.Repository) {
	var state *repostate.State
	repo.View(func(s *repostate.State) { state = s })
	state.Each(repo.Reading(), func(m *repostate.Manifest, subject ociregistry.Digest) {
		g.Manifests = append(g.Manifests, gc.Manifest{Digest: m.Digest, Subject: subject, Size: m.Size})
	})
	state.EachTag(repo.Reading(), func(name string, m *repostate.Manifest) {
		g.Tags = append(g.Tags, gc.Tag{Name: strings.Clone(name), Manifest: m.Digest, Pushed: state.TagTime(name)})
	})
	g.Names = func(i int, yield func(ociregistry.Digest)) {
		repo.View(func(s *repostate.State) { s.EachName(g.Manifests[i].Digest, yield) })
	}
}

// addTimes adds how to find out times.
func (c *collection) addTimes(g *gc.Repository, repo *repos.Repository) {
	t := &times{c, repo, nil}
	g.StatManifest = func(m *gc.Manifest) { m.Time = t.ofManifest(m.Digest, t.isPending) }
	g.StatBlob = func(b *gc.Blob) { b.Time, b.Size = t.ofFile(b.Digest) }
	g.StatTag = func(tag *gc.Tag) { *tag = t.tag(tag.Name, tag.Manifest, tag.Pushed, t.isPending) }
}

// times finds out times in a repository, in nanoseconds since 1970.
type times struct {
	*collection
	repo   *repos.Repository
	pulled map[ociregistry.Digest]int64 // once it is needed
}

func (t *times) now() int64 { return t.Store.Clock.Now().UnixNano() }

// age returns the time and the size of a file, which are zero if there is none. What cannot be
// looked at is young, and stays.
func (t *times) age(digest ociregistry.Digest) (at, size int64) {
	modified, size, err := t.Store.Age(t.repo.Dir, digest)
	switch {
	case err != nil:
		t.note(t.repo.Name, err)
		return t.now(), 0
	case modified.IsZero():
		return 0, 0
	}
	return modified.UnixNano(), size
}

// ofFile is age, but what is not there is young.
func (t *times) ofFile(digest ociregistry.Digest) (at, size int64) {
	if at, size = t.age(digest); at == 0 {
		at = t.now()
	}
	return at, size
}

// isPending reports whether a manifest is in the journal alone.
func (t *times) isPending(digest ociregistry.Digest) (pending bool) {
	t.repo.View(func(s *repostate.State) { pending = s.IsManifestPending(digest) })
	return pending
}

// ofManifest returns the time of a manifest. One that is in the journal alone is young, even if
// there is a file: that of a manifest that was deleted stays until the next fold. One that is
// missing has no time.
func (t *times) ofManifest(digest ociregistry.Digest, isPending func(ociregistry.Digest) bool) int64 {
	if isPending(digest) {
		return t.now()
	}
	at, _ := t.age(digest)
	return at
}

// tag returns a tag with its times. If nobody knows when it was pushed, that is when its
// manifest was.
func (t *times) tag(name string, manifest ociregistry.Digest, pushed int64, isPending func(ociregistry.Digest) bool) gc.Tag {
	if t.pulled == nil {
		t.pulled, _ = t.Pulls.Times(t.repo.Name)
	}
	tag := gc.Tag{Name: name, Manifest: manifest, Pushed: pushed, Pulled: t.pulled[manifest]}
	if tag.Pushed == 0 {
		tag.Pushed = t.ofManifest(manifest, isPending)
	}
	return tag
}

// EndUploads implements [gc.Backend]. What processes that died have staged goes, too.
func (c *collection) EndUploads(ctx context.Context, since time.Time, dryRun bool, found func(ocigc.Finding)) error {
	c.note("upload sessions", c.Uploads.EndIdle(since, dryRun, func(repo string, size int64, touched time.Time) {
		found(ocigc.Finding{Repository: repo, Kind: ocigc.KindUpload, Size: size, Reason: ocigc.Abandoned, Since: touched})
	}))
	if !dryRun {
		c.note("staging", c.Work.RemoveDead())
	}
	return ctx.Err()
}

// note notes a problem, if err is not nil.
func (c *collection) note(what string, err error) {
	if err != nil {
		c.problems = append(c.problems, fmt.Errorf("%s: %w", what, err))
	}
}

// dropPool removes from the pool what is old and no repository has. Processes that died leave
// it, and programs that know nothing of the pool.
func (c *collection) dropPool(isOld func(modified time.Time) bool) {
	c.note("pool", c.Store.EachName(c.Work.Dir, func(digest ociregistry.Digest) {
		if _, there := c.files[c.hash(digest)]; !there {
			c.Store.DropOld(digest, isOld)
		}
	}))
}
