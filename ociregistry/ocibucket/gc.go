package ocibucket

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/seed-40b21970/oci/internal/gc"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/blobs"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/sweep"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/uploads"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

var _ ocigc.Collector = (*Registry)(nil)

// GC implements [ocigc.Collector], from any process, and from several at once. All times are those
// of the store's clock; opts.Now is not used.
//
// A blob that nothing names is condemned by a collection, and removed by one that comes when the delay has passed since: a
// blob that a client was told to be there meanwhile is not condemned any more. So it takes two collections, and a manifest
// that goes makes its blobs wait for the next two. With a negative delay, one is enough. What
// blobs leave in the bucket goes a day or two later. A manifest stays for a minute more than the delay: so a manifest
// without a tag that is reported as present need not be made young each time.
//
// Pulls are written down every ten minutes, and when a registry is closed. Those that another process
// has not written down yet are not known.
func (r *Registry) GC(ctx context.Context, opts *ocigc.Options) (*ocigc.Report, error) {
	if opts == nil {
		opts = &ocigc.Options{}
	}
	if !opts.DryRun {
		if err := r.writable(); err != nil {
			return nil, err
		}
	}
	mine := *opts
	mine.Now = r.bucket.Seen
	selector, err := ocigc.NewSelector(&mine)
	if err != nil {
		return nil, err
	}
	if _, err := r.bucket.Read(ctx, keys.Options, maxShared); err != nil { // for its Date
		return &ocigc.Report{DryRun: opts.DryRun}, err
	}
	c := &collector{Registry: r, delay: selector.Delay()}
	if slices.ContainsFunc(opts.Policies, func(p ocigc.Policy) bool { return len(p.Keep) > 0 }) {
		if c.pulled, err = r.pulls.Read(ctx); err != nil {
			return &ocigc.Report{DryRun: opts.DryRun}, err
		}
	}
	report, err := gc.Collect(ctx, c, &mine)
	if err == nil && !opts.DryRun {
		s := sweep.Sweeper{Bucket: r.bucket, Blobs: r.blobs, Repos: r.repos, Uploads: r.uploads, Pulls: r.pulls, Found: r.found, Delay: max(selector.Delay(), 0)}
		if err := s.Run(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("what is left over in the bucket could not all be removed", "error", err)
		}
		err = ctx.Err()
	}
	return report, err
}

// found tells all who report usage what a collection has found in a repository.
func (r *Registry) found(repo string, f formats.Found) {
	r.news.Found(repo, f)
	if r.tally.IsAsked(repo) {
		r.tally.Found(repo, &f)
	}
}

// collector is a registry as a [gc.Backend].
type collector struct {
	*Registry
	delay  time.Duration
	pulled formats.Pulls // if a policy has rules for tags
}

// Enumerate implements [gc.Backend].
func (c *collector) Enumerate(ctx context.Context, name string) (*gc.Repository, error) {
	repo := c.repos.Open(name)
	defer repo.Release()
	if err := repo.Refresh(ctx); err != nil {
		return nil, err
	}
	g := &gc.Repository{Name: name, Grain: c.promiseGrain()}
	err := repo.View(func(s *repos.State) {
		s.EachManifest(func(digest ociregistry.Digest, size int64, subject ociregistry.Digest) {
			g.Manifests = append(g.Manifests, gc.Manifest{
				Digest: digest, Subject: subject, Size: size, Time: s.ManifestTime(digest) * int64(time.Second),
			})
		})
		for _, tag := range s.AppendTags(nil, "", math.MaxInt) {
			digest := s.Tag(tag).Digest
			g.Tags = append(g.Tags, gc.Tag{
				Name: tag, Manifest: digest, Pushed: s.TagTime(tag) * int64(time.Second), Pulled: c.pulled[name][digest] * int64(time.Second),
			})
		}
	})
	if err != nil {
		return nil, err
	}
	g.Names = func(i int, yield func(ociregistry.Digest)) {
		repo.View(func(s *repos.State) { s.EachName(g.Manifests[i].Digest, yield) })
	}
	g.Blobs, err = c.enumerateBlobs(ctx, repo)
	return g, err
}

// enumerateBlobs returns the blobs that a collection may remove: those that are condemned, with the time of
// that, or all if there is no delay.
func (c *collector) enumerateBlobs(ctx context.Context, repo *repos.Repository) (list []gc.Blob, err error) {
	err = c.eachLink(ctx, repo, func(digest ociregistry.Digest, l blobs.Link) error {
		if c.delay < 0 || l.Status == formats.Condemned {
			list = append(list, gc.Blob{Digest: digest, Size: l.Size, Time: l.Modified().UnixNano()})
		}
		return nil
	})
	return list, err
}

// eachLink calls f with the links of a repository that live and are not named, or, if there is no delay, with all that live.
func (c *collector) eachLink(ctx context.Context, repo *repos.Repository, f func(digest ociregistry.Digest, l blobs.Link) error) error {
	return c.bucket.Each(ctx, keys.Links(repo.Name()), func(o objstore.Info) error {
		k, ok := keys.Parse(o.Key)
		if !ok || o.Size == formats.DeadLinkSize {
			return nil
		}
		named, err := c.isNamed(repo, k.Digest)
		if err != nil || named && c.delay >= 0 {
			return err
		}
		l, err := c.blobs.Read(ctx, repo.Name(), k.Digest)
		if err != nil || !c.blobs.Lives(l) {
			return err
		}
		return f(k.Digest, l)
	})
}

// Sweep implements [gc.Backend].
func (c *collector) Sweep(ctx context.Context, p *gc.Plan, found func(ocigc.Finding)) error {
	repo := c.repos.Open(p.Name)
	defer repo.Release()
	s := &planSweep{c: c, Plan: p, repo: repo, found: found}
	if err := s.dropTags(ctx); err != nil {
		return err
	}
	for i := range p.Groups {
		if err := s.removeGroup(ctx, p.Groups[i]); err != nil {
			return err
		}
	}
	for _, i := range p.FreeBlobs {
		if err := s.removeBlob(ctx, i); err != nil {
			return err
		}
	}
	return s.tidyLinks(ctx)
}

// planSweep removes what a plan has.
type planSweep struct {
	c *collector
	*gc.Plan
	repo  *repos.Repository
	found func(ocigc.Finding)
}

// gcBatch is how many tags one record deletes at most.
const gcBatch = 1000

// dropTags removes the tags that were neither set nor, from this process, pulled since they were enumerated.
func (s *planSweep) dropTags(ctx context.Context) error {
	for start := 0; start < len(s.DropTags); start += gcBatch {
		part := s.DropTags[start:min(start+gcBatch, len(s.DropTags))]
		var dropped []int
		err := s.repo.Commit(ctx, &repos.Change{Check: func(b *repos.Batch) error {
			dropped = dropped[:0]
			var names []string
			for _, i := range part {
				want := &s.Tags[i]
				m := b.Tag(want.Name)
				isSame := m != nil && m.Digest == want.Manifest && b.State().TagTime(want.Name)*int64(time.Second) == want.Pushed
				if isSame && s.c.pulls.Noted(s.Name, m.Digest)*int64(time.Second) <= want.Pulled {
					names, dropped = append(names, want.Name), append(dropped, i)
				}
			}
			if len(names) > 0 {
				b.Add(&repostate.Op{Kind: repostate.DeleteTags, Tags: names})
			}
			return nil
		}})
		if err != nil {
			return err
		}
		for _, i := range dropped {
			s.found(s.Tag(i, ocigc.NotKept))
		}
	}
	return nil
}

// removeGroup removes manifests that depend on each other, if all of them are still garbage.
func (s *planSweep) removeGroup(ctx context.Context, group []int) error {
	var removed []ocigc.Finding
	err := s.repo.Commit(ctx, &repos.Change{Empties: true, Check: func(b *repos.Batch) error {
		removed = nil
		g := newGroup(b, s.Manifests, group)
		for _, m := range g.members {
			if !g.canGo(m) || s.IsRoot(factsOf(b.State(), m)) {
				return nil
			}
		}
		for _, i := range group {
			m := g.members[s.Manifests[i].Digest]
			if m == nil {
				continue
			}
			for _, tag := range b.State().TagsOf(m) {
				removed = append(removed, s.TagOfGarbage(tag, m.Digest, b.State().TagTime(tag)*int64(time.Second)))
			}
			removed = append(removed, s.Manifest(i))
			b.Collect(m.Digest)
		}
		return nil
	}})
	if err != nil {
		return err
	}
	for _, f := range removed {
		s.found(f)
	}
	return nil
}

// group is a group of manifests.
type group struct {
	batch   *repos.Batch
	members map[ociregistry.Digest]*repostate.Manifest
	named   map[ociregistry.Digest]int // how often they name a digest
}

func newGroup(b *repos.Batch, manifests []gc.Manifest, numbers []int) *group {
	g := &group{b, map[ociregistry.Digest]*repostate.Manifest{}, map[ociregistry.Digest]int{}}
	for _, i := range numbers {
		if m := b.Manifest(manifests[i].Digest); m != nil {
			g.members[m.Digest] = m
			b.State().EachName(m.Digest, func(digest ociregistry.Digest) { g.named[digest]++ })
		}
	}
	return g
}

// canGo reports whether no manifest outside of the group keeps m.
func (g *group) canGo(m *repostate.Manifest) bool {
	isThere := func(digest ociregistry.Digest) bool {
		return g.members[digest] == nil && g.batch.Manifest(digest) != nil
	}
	if gc.IsAbout(slices.Values(g.batch.State().TagsOf(m)), isThere) {
		return false
	}
	if g.batch.IsNamed(m.Digest) && g.batch.State().Names(m.Digest) != g.named[m.Digest] {
		return false
	}
	return !isThere(g.batch.State().SubjectOf(m))
}

func factsOf(s *repos.State, m *repostate.Manifest) gc.Facts {
	return gc.FactsOf(s.ManifestTime(m.Digest)*int64(time.Second), s.SubjectOf(m) != "", slices.Values(s.TagsOf(m)))
}

// notNamed is the check of a collection's delete of a blob, which is that of all registries, sparse or not.
func notNamed(digest ociregistry.Digest) func(*repos.Batch) error {
	return func(b *repos.Batch) error {
		if b.Manifest(digest) != nil || b.IsNamed(digest) {
			return ociregistry.ErrInUse
		}
		return nil
	}
}

// removeBlob removes a blob if it is as it was enumerated, and nothing names it.
func (s *planSweep) removeBlob(ctx context.Context, i int) error {
	b := &s.Blobs[i]
	asOf := s.repo.AsOf()
	l, err := s.c.blobs.Read(ctx, s.Name, b.Digest)
	if err != nil || !s.c.blobs.Lives(l) || l.Modified().UnixNano() != b.Time {
		return err
	}
	err = s.c.blobs.DeleteLink(ctx, s.repo, b.Digest, l, asOf, notNamed(b.Digest))
	if errors.Is(err, repos.ErrDeleted) { // who deletes it did not come further
		err = s.c.blobs.Bury(ctx, s.Name, b.Digest, l)
	}
	switch {
	case err == nil:
		s.found(s.Blob(i))
	case errors.Is(err, ociregistry.ErrInUse), errors.Is(err, bucket.ErrLost), errors.Is(err, repos.ErrAgain):
		return nil
	}
	return err
}

// tidyLinks condemns the links that nothing names, and removes those that never counted.
func (s *planSweep) tidyLinks(ctx context.Context) error {
	return s.c.bucket.Each(ctx, keys.Links(s.Name), func(o objstore.Info) error {
		k, ok := keys.Parse(o.Key)
		named, err := s.c.isNamed(s.repo, k.Digest)
		if !ok || err != nil || named || o.Size == formats.DeadLinkSize {
			return err
		}
		l, err := s.c.blobs.Read(ctx, s.Name, k.Digest)
		switch {
		case err != nil:
			return err
		case !s.c.blobs.Lives(l):
			return s.c.blobs.RemoveDead(ctx, s.Name, k.Digest, l)
		case l.Status == formats.Live, s.repo.KnowsDead(l.Nonce):
			return s.c.blobs.Condemn(ctx, s.repo, k.Digest, l)
		}
		return nil
	})
}

// isNamed reports whether something keeps a blob, as far as the state is known.
func (c *collector) isNamed(repo *repos.Repository, digest ociregistry.Digest) (named bool, err error) {
	err = repo.View(func(s *repos.State) { named = s.IsNamed(digest) || s.Manifest(digest) != nil })
	return named, err
}

// EndUploads implements [gc.Backend].
func (c *collector) EndUploads(ctx context.Context, since time.Time, dryRun bool, found func(ocigc.Finding)) error {
	return c.uploads.Each(ctx, func(f uploads.Found) error {
		if f.Status != formats.Open || f.Modified.After(since) {
			return nil
		}
		ended := true
		if !dryRun {
			var err error
			if ended, err = c.uploads.Expire(ctx, f); err != nil {
				return err
			}
		}
		if ended {
			found(ocigc.Finding{Repository: f.Repository, Kind: ocigc.KindUpload, Size: f.Size, Reason: ocigc.Abandoned, Since: f.Modified})
		}
		return nil
	})
}
