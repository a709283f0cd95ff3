package ocimem

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/internal/gc"
	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

var _ ocigc.Collector = (*Registry)(nil)

// GC implements [ocigc.Collector]. It locks a repository for a few things at a time, and
// readers for no longer. Pulls are those since the registry was made. Policies apply to
// immutable tags, too.
func (r *Registry) GC(ctx context.Context, opts *ocigc.Options) (*ocigc.Report, error) {
	return gc.Collect(ctx, collector{r}, opts)
}

// collector is a registry as a [gc.Backend].
type collector struct{ *Registry }

// gcBatch is the number of things that a collection looks at, or removes, before it lets
// others have the repository.
const gcBatch = 128

// Enumerate implements [gc.Backend].
func (c collector) Enumerate(ctx context.Context, name string) (*gc.Repository, error) {
	c.mu.RLock()
	repo := c.repos[name]
	c.mu.RUnlock()
	if repo == nil {
		return nil, nil
	}
	g := &gc.Repository{Name: repo.name}
	turns := turns{mu: &repo.mu}
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	g.Blobs = make([]gc.Blob, 0, len(repo.blobs))
	for digest, b := range repo.blobs {
		g.Blobs = append(g.Blobs, gc.Blob{Digest: digest, Size: b.size, Time: b.time.Load()})
		turns.next()
	}
	entries := make([]*manifestEntry, 0, len(repo.manifests))
	g.Manifests = make([]gc.Manifest, 0, len(repo.manifests))
	for digest, m := range repo.manifests {
		g.Manifests = append(g.Manifests, gc.Manifest{Digest: digest, Subject: m.subject, Size: m.size(), Time: m.time.Load()})
		entries = append(entries, m)
		turns.next()
	}
	for name, t := range repo.tags {
		g.Tags = append(g.Tags, gc.Tag{Name: name, Manifest: t.manifest.digest, Pushed: t.pushed, Pulled: t.manifest.pulled.Load()})
		turns.next()
	}
	g.Names = func(i int, yield func(ociregistry.Digest)) { eachName(entries[i].info(), yield) }
	return g, ctx.Err()
}

func eachName(info manifest.Info, yield func(ociregistry.Digest)) {
	for i := range info.Blobs {
		yield(info.Blobs[i].Digest)
	}
	for i := range info.Manifests {
		yield(info.Manifests[i].Digest)
	}
}

// turns gives up a lock for reading now and then. A loop over a map can go on after the map
// has changed.
type turns struct {
	mu *sync.RWMutex
	n  int
}

func (t *turns) next() {
	if t.n++; t.n%gcBatch == 0 {
		t.mu.RUnlock()
		t.mu.RLock()
	}
}

// Sweep implements [gc.Backend].
func (c collector) Sweep(ctx context.Context, p *gc.Plan, found func(ocigc.Finding)) error {
	s := &sweep{Plan: p, registry: c.Registry, now: c.now().UnixNano()}
	for _, part := range []struct {
		n      int
		remove func(*repository, int)
	}{
		{len(p.DropTags), s.dropTag},
		{len(p.Groups), s.removeGroup},
		{len(p.FreeBlobs), s.removeBlob},
	} {
		if err := s.inTurns(ctx, part.n, part.remove, found); err != nil {
			return err
		}
	}
	return nil
}

// sweep removes what a plan has. Its methods that remove something are called with the
// repository locked for writing.
type sweep struct {
	*gc.Plan
	registry *Registry
	now      int64
	removed  []ocigc.Finding // while the repository is locked
}

// inTurns calls remove for the numbers below n.
func (s *sweep) inTurns(ctx context.Context, n int, remove func(*repository, int), found func(ocigc.Finding)) error {
	for start := 0; start < n; start += gcBatch {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.removed = s.removed[:0]
		err := s.registry.update(s.Name, func(repo *repository) error {
			for i := start; i < min(start+gcBatch, n); i++ {
				remove(repo, i)
			}
			return nil
		})
		for _, f := range s.removed {
			found(f)
		}
		if errors.Is(err, ociregistry.ErrNameUnknown) {
			return nil
		}
	}
	return nil
}

// dropTag removes a tag that was neither set nor pulled since it was enumerated.
func (s *sweep) dropTag(repo *repository, i int) {
	i = s.DropTags[i]
	want := s.Tags[i]
	t := repo.tags[want.Name]
	if t == nil || t.manifest.digest != want.Manifest || t.pushed != want.Pushed || t.manifest.pulled.Load() != want.Pulled {
		return
	}
	repo.removeTag(t, s.now)
	s.removed = append(s.removed, s.Tag(i, ocigc.NotKept))
}

// removeGroup removes manifests that depend on each other, if all of them are still garbage.
// Most groups are one manifest.
func (s *sweep) removeGroup(repo *repository, i int) {
	g := group{members: make(map[ociregistry.Digest]*manifestEntry), named: make(map[ociregistry.Digest]int)}
	for _, i := range s.Groups[i] {
		if m := repo.manifests[s.Manifests[i].Digest]; m != nil {
			g.members[m.digest] = m
		}
	}
	if len(g.members) > 1 {
		for _, m := range g.members {
			eachName(m.info(), func(digest ociregistry.Digest) { g.named[digest]++ })
		}
	}
	for _, m := range g.members {
		if !g.canGo(repo, m) || s.IsRoot(factsOf(m)) {
			return
		}
	}
	for _, i := range s.Groups[i] {
		m := g.members[s.Manifests[i].Digest]
		if m == nil {
			continue
		}
		for t := m.tags; t != nil; t = t.next {
			s.removed = append(s.removed, s.TagOfGarbage(t.name, m.digest, t.pushed))
		}
		s.registry.removeManifest(repo, m, s.now)
		s.removed = append(s.removed, s.Manifest(i))
	}
}

// group is a group of manifests.
type group struct {
	members map[ociregistry.Digest]*manifestEntry
	named   map[ociregistry.Digest]int // how often they name a digest
}

// canGo reports whether no manifest outside the group keeps m.
func (g *group) canGo(repo *repository, m *manifestEntry) bool {
	isThere := func(digest ociregistry.Digest) bool {
		return repo.manifests[digest] != nil && g.members[digest] == nil
	}
	names := repo.blobRefs.of(m.digest) + repo.childRefs.of(m.digest)
	return names == g.named[m.digest] && !isThere(m.subject) && !gc.IsAbout(m.tagNames(), isThere)
}

func factsOf(m *manifestEntry) gc.Facts {
	return gc.FactsOf(m.time.Load(), m.subject != "", m.tagNames())
}

func (s *sweep) removeBlob(repo *repository, i int) {
	i = s.FreeBlobs[i]
	digest := s.Blobs[i].Digest
	b := repo.blobs[digest]
	if b == nil || repo.blobRefs.has(digest) || repo.childRefs.has(digest) || repo.manifests[digest] != nil || !s.IsOldBlob(b.time.Load()) {
		return
	}
	s.registry.removeBlob(repo, b)
	s.removed = append(s.removed, s.Blob(i))
}

// EndUploads implements [gc.Backend].
func (c collector) EndUploads(ctx context.Context, since time.Time, dryRun bool, found func(ocigc.Finding)) error {
	c.uploads.mu.Lock()
	uploads := slices.Collect(maps.Values(c.uploads.open))
	c.uploads.mu.Unlock()
	for _, u := range uploads {
		if f, ok := u.abandon(since, dryRun); ok {
			found(f)
		}
	}
	return ctx.Err()
}

// abandon ends the session if it was not used since a time. In a dry run it only tells.
func (u *upload) abandon(since time.Time, dryRun bool) (f ocigc.Finding, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.buffer == nil || u.touched.After(since) {
		return f, false
	}
	f = ocigc.Finding{Repository: u.key.repo, Kind: ocigc.KindUpload, Size: u.buffer.size, Reason: ocigc.Abandoned, Since: u.touched}
	if !dryRun {
		u.end().free()
	}
	return f, true
}
