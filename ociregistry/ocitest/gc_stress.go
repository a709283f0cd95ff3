package ocitest

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// StressOptions are the settings of [StressGC].
type StressOptions struct {
	Duration time.Duration // how long the clients go on; zero means a second
	Delay    time.Duration // that of the collections; negative means no delay
	Clients  int           // how many there are; zero means 16
	Rounds   int           // how many collections it takes to remove a blob, as in [GCOptions]; zero means one
}

// StressGC checks that collections do no harm while clients use a registry, which must be
// empty and take its times from [time.Now]. Clients push, pull, mount, delete and move tags of
// content that they share, in several repositories, while collections follow each other
// without pause. It is an error if an image cannot be pulled whose tag pointed at it all the
// time, or if a manifest is refused that names what was reported as present within the delay.
// In the end, the registry must have exactly what can be reached from its tags.
func StressGC(t testing.TB, reg ocigc.Collector, opts StressOptions) {
	if opts.Duration == 0 {
		opts.Duration = time.Second
	}
	if opts.Clients == 0 {
		opts.Clients = 16
	}
	s := newStress(t, reg, opts)
	ctx, cancel := context.WithTimeout(t.Context(), opts.Duration)
	defer cancel()
	var collected atomic.Int64
	tested := func() bool { return s.checked.Load() > 0 && (opts.Delay >= 0 || collected.Load() > 0) }
	goesOn := func() bool { // on a slow machine for longer, so that something is put to the test
		return (ctx.Err() == nil || !tested()) && !t.Failed() && t.Context().Err() == nil
	}
	var clients, collections sync.WaitGroup
	for i := range opts.Clients {
		clients.Go(func() {
			c := &stressClient{stress: s, rnd: rand.New(rand.NewPCG(uint64(i), 1))}
			for goesOn() {
				c.step()
			}
		})
	}
	for range 2 {
		collections.Go(func() {
			for goesOn() {
				collected.Add(s.collect(opts.Delay))
			}
		})
	}
	clients.Wait()
	collections.Wait()
	for left := max(opts.Rounds, 1); left > 0; left-- {
		if s.collect(-1) > 0 {
			left = max(opts.Rounds, 1) + 1
		}
	}
	s.checkContent()
	t.Logf("%d pushes, %d of them again; %d pulls, %d of them checked; %d things collected",
		s.pushes.Load(), s.pushedAgain.Load(), s.pulls.Load(), s.checked.Load(), collected.Load())
	if !tested() {
		t.Errorf("nothing was put to the test")
	}
}

// stress is the content and the tags that clients share.
type stress struct {
	testing.TB
	reg       ocigc.Collector
	delay     time.Duration
	repos     []string
	tags      []string
	artifacts []*Artifact // images, indexes and their referrers, each after what it depends on
	byDigest  map[ociregistry.Digest]*Artifact
	subjects  map[*Artifact]ociregistry.Digest

	// The clocks count the changes of each tag. An odd one means that the tag is about to
	// change. The turn lets a single client change a tag.
	clocks map[string]*stressClock

	deletions map[string]*deletions // by clients, of each manifest in each repository

	pushes, pushedAgain, pulls, checked atomic.Int64
}

type stressClock struct {
	turn chan struct{} // no mutex: package synctest does not take it for a wait
	n    atomic.Int64
}

func (c *stressClock) begin() {
	c.turn <- struct{}{}
	c.n.Add(1)
}

func (c *stressClock) end() {
	c.n.Add(1)
	<-c.turn
}

type deletions struct{ begun, ended atomic.Int64 }

func newStress(t testing.TB, reg ocigc.Collector, opts StressOptions) *stress {
	s := &stress{
		TB: t, reg: reg, delay: opts.Delay,
		repos:    []string{"a", "a/b", "c"},
		tags:     []string{"v1", "v2", "v3", "v4"},
		byDigest: make(map[ociregistry.Digest]*Artifact),
		subjects: make(map[*Artifact]ociregistry.Digest),
		clocks:   make(map[string]*stressClock),

		deletions: make(map[string]*deletions),
	}
	for _, repo := range s.repos {
		for _, tag := range s.tags {
			s.clocks[repo+":"+tag] = &stressClock{turn: make(chan struct{}, 1)}
		}
	}
	for i := range 8 {
		// Each layer is one of several images, of one seed.
		image := NewImage(Spec{Seed: uint64(i % 3), Layers: []int64{1000, 2000, int64(100 * i)}})
		index := NewIndex(Spec{}, image)
		s.add(image, nil)
		s.add(index, nil)
		for _, subject := range []*Artifact{image, index} {
			referrer := NewImage(Spec{Seed: 100, Layers: []int64{300, int64(i)}, ArtifactType: "application/x-test", Subject: &subject.Descriptor})
			s.add(referrer, subject)
			s.add(NewImage(Spec{Seed: 100, Layers: []int64{300}, ArtifactType: "application/x-test", Subject: &referrer.Descriptor}), referrer)
		}
	}
	return s
}

func (s *stress) add(a, subject *Artifact) {
	s.artifacts = append(s.artifacts, a)
	s.byDigest[a.Descriptor.Digest] = a
	if subject != nil {
		s.subjects[a] = subject.Descriptor.Digest
	}
	for _, repo := range s.repos {
		s.deletions[repo+"@"+string(a.Descriptor.Digest)] = new(deletions)
	}
}

// deletionsOf returns how often clients have begun, and have ended, to delete an artifact in a
// repository, or what it depends on.
func (s *stress) deletionsOf(repo string, a *Artifact) (begun, ended int64) {
	d := s.deletions[repo+"@"+string(a.Descriptor.Digest)]
	begun, ended = d.begun.Load(), d.ended.Load()
	for _, child := range a.Children {
		b, e := s.deletionsOf(repo, child)
		begun, ended = begun+b, ended+e
	}
	return begun, ended
}

// guard watches what a push relies on.
func (s *stress) guard(repo string, a *Artifact) *stressGuard {
	_, ended := s.deletionsOf(repo, a)
	return &stressGuard{stress: s, repo: repo, artifact: a, start: time.Now(), ended: ended}
}

type stressGuard struct {
	*stress
	repo     string
	artifact *Artifact
	start    time.Time
	ended    int64
}

// mayBeGone reports whether what the artifact names may be gone: the delay is over, or clients
// have deleted something since.
func (g *stressGuard) mayBeGone() bool {
	begun, _ := g.deletionsOf(g.repo, g.artifact)
	return g.delay < 0 || time.Since(g.start) > g.delay || begun != g.ended
}

// collect returns how many things were collected.
func (s *stress) collect(delay time.Duration) int64 {
	report, err := s.reg.GC(context.WithoutCancel(s.Context()), &ocigc.Options{
		Delay: delay, Untagged: true, Dangling: true,
		Policies: []ocigc.Policy{{Repositories: []string{"c"}, Untagged: true, Dangling: true, Keep: []ocigc.TagRule{{LastPushed: 100}}}},
	})
	if err != nil || len(report.Problems) > 0 {
		s.Errorf("GC: error %v, problems %v", err, report.Problems)
	}
	return int64(report.Manifests + report.Blobs)
}

// change calls f, which may change a tag.
func (s *stress) change(repo, tag string, f func()) {
	clock := s.clocks[repo+":"+tag]
	clock.begin()
	defer clock.end()
	f()
}

// stressClient is a client that does one thing after the other.
type stressClient struct {
	*stress
	rnd *rand.Rand
}

func pick[T any](rnd *rand.Rand, list []T) T { return list[rnd.IntN(len(list))] }

func (c *stressClient) step() {
	repo, tag, a := pick(c.rnd, c.repos), pick(c.rnd, c.tags), pick(c.rnd, c.artifacts)
	switch n := c.rnd.IntN(20); {
	case n < 5:
		c.change(repo, tag, func() { c.push(repo, a, tag) })
	case n < 7:
		c.push(repo, a)
	case n < 16:
		c.pull(repo, tag)
	case n < 17:
		c.moveTag(repo, pick(c.rnd, c.tags), tag)
	case n < 19:
		c.change(repo, tag, func() { c.want(c.reg.DeleteTag(c.Context(), repo, tag), "DeleteTag") })
	default:
		c.deleteManifest(repo, a)
	}
}

// want reports an error unless err says that there is no such content.
func (c *stressClient) want(err error, what string) {
	unknown := []error{ociregistry.ErrManifestUnknown, ociregistry.ErrNameUnknown, ociregistry.ErrInUse}
	if err != nil && !slices.ContainsFunc(unknown, func(target error) bool { return errors.Is(err, target) }) {
		c.Errorf("%s: %v", what, err)
	}
}

// push pushes what is not there yet, as clients do.
func (c *stressClient) push(repo string, a *Artifact, tags ...string) {
	c.pushes.Add(1)
	for range 100 {
		guard := c.guard(repo, a)
		err := c.pushMissing(repo, a, tags)
		switch {
		case err == nil:
			return
		case errors.Is(err, ociregistry.ErrManifestBlobUnknown) && guard.mayBeGone():
			c.pushedAgain.Add(1)
		default:
			c.Errorf("push to %s: %v, after %v", repo, err, time.Since(guard.start))
			return
		}
	}
}

func (c *stressClient) pushMissing(repo string, a *Artifact, tags []string) error {
	ctx := c.Context()
	for _, b := range a.Blobs {
		if err := c.pushBlob(repo, b); err != nil {
			return err
		}
	}
	for _, child := range a.Children {
		if _, err := c.reg.ResolveManifest(ctx, repo, child.Descriptor.Digest); err == nil {
			continue
		}
		if err := c.pushMissing(repo, child, nil); err != nil {
			return err
		}
	}
	_, err := c.reg.PushManifest(ctx, repo, "", a.Manifest, a.Descriptor.MediaType, tags...)
	return err
}

func (c *stressClient) pushBlob(repo string, b Blob) error {
	ctx := c.Context()
	if _, err := c.reg.ResolveBlob(ctx, repo, b.Descriptor.Digest); err == nil {
		return nil
	}
	switch c.rnd.IntN(3) {
	case 0:
		if _, err := c.reg.MountBlob(ctx, pick(c.rnd, c.repos), repo, b.Descriptor.Digest); err == nil {
			return nil
		}
	case 1:
		if _, err := c.reg.MountBlob(ctx, "", repo, b.Descriptor.Digest); err == nil {
			return nil
		}
	}
	_, err := c.reg.PushBlob(ctx, repo, b.Descriptor, b.NewReader())
	return err
}

// pull reads all of an image. It must be there if its tag did not change meanwhile.
func (c *stressClient) pull(repo, tag string) {
	c.pulls.Add(1)
	clock := &c.clocks[repo+":"+tag].n
	before := clock.Load()
	digest, err := c.read(repo, tag)
	// A referrer goes with its tag when its subject does. Only a push brings the tag back.
	desc, gone := c.reg.ResolveTag(c.Context(), repo, tag)
	if before%2 == 1 || clock.Load() != before || gone != nil {
		return
	}
	c.checked.Add(1)
	if err != nil || desc.Digest != digest {
		c.Errorf("pull of %s:%s, which points at %s all the time: got %s and error %v", repo, tag, desc.Digest, digest, err)
	}
}

// read returns the digest that a tag points at, if there is one.
func (c *stressClient) read(repo, tag string) (ociregistry.Digest, error) {
	ctx := c.Context()
	_, desc, err := read(c.reg.GetTag(ctx, repo, tag))
	if err != nil {
		return "", err
	}
	return desc.Digest, c.byDigest[desc.Digest].Verify(ctx, c.reg, repo)
}

// moveTag points a tag at what another one points at.
func (c *stressClient) moveTag(repo, from, to string) {
	c.change(repo, to, func() {
		desc, err := c.reg.ResolveTag(c.Context(), repo, from)
		if err != nil {
			return
		}
		guard := c.guard(repo, c.byDigest[desc.Digest])
		contents, got, err := read(c.reg.GetTag(c.Context(), repo, from))
		if err != nil || got.Digest != desc.Digest {
			return
		}
		_, err = c.reg.PushManifest(c.Context(), repo, to, contents, desc.MediaType)
		if !errors.Is(err, ociregistry.ErrManifestBlobUnknown) || !guard.mayBeGone() {
			c.want(err, "moving a tag")
		}
	})
}

// deleteManifest deletes a manifest with all its tags.
func (c *stressClient) deleteManifest(repo string, a *Artifact) {
	var clocks []*stressClock
	for _, tag := range c.tags {
		clock := c.clocks[repo+":"+tag]
		clock.begin()
		clocks = append(clocks, clock)
	}
	deletions := c.deletions[repo+"@"+string(a.Descriptor.Digest)]
	deletions.begun.Add(1)
	c.want(c.reg.DeleteManifest(c.Context(), repo, a.Descriptor.Digest), "DeleteManifest")
	deletions.ended.Add(1)
	for _, clock := range clocks {
		clock.end()
	}
}

// checkContent checks that each repository has exactly what can be reached from its tags.
func (s *stress) checkContent() {
	ctx := s.Context()
	for _, repo := range s.repos {
		want := make(map[*Artifact]bool)
		for _, tag := range s.tags {
			if _, desc, err := read(s.reg.GetTag(ctx, repo, tag)); err == nil {
				want[s.byDigest[desc.Digest]] = true
			}
		}
		s.markReachable(repo, want)
		blobs, wanted := make(map[ociregistry.Digest]Blob), make(map[ociregistry.Digest]bool)
		for _, a := range s.artifacts {
			_, _, err := read(s.reg.GetManifest(ctx, repo, a.Descriptor.Digest))
			if (err == nil) != want[a] {
				s.Errorf("manifest %s in %s: got error %v, can be reached: %v", a.Descriptor.Digest, repo, err, want[a])
			}
			for _, b := range a.Blobs {
				blobs[b.Descriptor.Digest] = b
				wanted[b.Descriptor.Digest] = wanted[b.Descriptor.Digest] || want[a]
			}
		}
		for digest, b := range blobs {
			_, _, err := read(s.reg.GetBlob(ctx, repo, digest))
			if (err == nil) != wanted[digest] {
				s.Errorf("blob %s of %d bytes in %s: got error %v, can be reached: %v", digest, b.Descriptor.Size, repo, err, wanted[digest])
			}
		}
	}
}

// markReachable adds what is kept by what is marked. Referrers without their subject are not,
// even if they are tagged.
func (s *stress) markReachable(repo string, want map[*Artifact]bool) {
	isThere := func(a *Artifact) bool {
		_, _, err := read(s.reg.GetManifest(s.Context(), repo, a.Descriptor.Digest))
		return err == nil
	}
	for _, a := range s.artifacts {
		if s.subjects[a] != "" {
			delete(want, a)
		}
	}
	for before := -1; len(want) > before; {
		before = len(want)
		for _, a := range s.artifacts {
			if want[a] {
				for _, child := range a.Children {
					want[child] = true
				}
			} else if subject := s.byDigest[s.subjects[a]]; subject != nil && want[subject] && isThere(a) {
				want[a] = true
			}
		}
	}
}
