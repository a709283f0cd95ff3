package garbage

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/seed-40b21970/oci/internal/gc"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// A sweep has the journal for at most so many things, and not much longer than that, before
// others get it.
const (
	maxThings = 64
	minThings = 4
	maxTime   = 2 * time.Millisecond
)

// Sweep implements [gc.Backend].
func (c *collection) Sweep(ctx context.Context, p *gc.Plan, found func(ocigc.Finding)) error {
	repo, err := c.Repos.Open(p.Name)
	if errors.Is(err, ociregistry.ErrNameUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	defer repo.Release()
	s := &sweep{times: times{c, repo, nil}, plan: p, most: maxThings}
	n := len(p.DropTags) + len(p.Groups) + len(p.FreeBlobs)
	for s.next < n || len(s.stuck) > 0 {
		if err := s.turn(ctx, n); err != nil {
			return err
		}
		for _, digest := range s.files {
			s.Store.DropUnused(digest)
		}
		for _, f := range s.found {
			found(f)
		}
	}
	return s.err
}

// sweep removes what a plan has.
type sweep struct {
	times
	plan *gc.Plan
	next int // the next thing: the tags of the plan, its groups, its blobs
	most int // how many things a turn may have, which is less if the system is slow

	stuck []ociregistry.Digest // blobs whose files cannot be removed
	err   error                // why

	turnState
}

// turnState is what a sweep does while it has the journal.
type turnState struct {
	began time.Time
	batch *repos.Batch
	state *repostate.State
	any   bool // there are operations
	found []ocigc.Finding

	// What the operations of the batch do to the state.
	gone     map[ociregistry.Digest]bool // manifests
	goneTags map[string]bool
	names    map[ociregistry.Digest]int // how often the manifests name a digest

	files []ociregistry.Digest // of blobs, to be removed
	freed int64                // their bytes
	bytes int64                // of manifests, that are accounted for
}

// turn removes some things. If another program has written index.json since the last turn,
// the manifests are read first.
func (s *sweep) turn(ctx context.Context, n int) (err error) {
	for range 10 {
		if err := ctx.Err(); err != nil {
			return err
		}
		start := s.next
		if err = readWhole(s.repo); err == nil {
			err = s.repo.Commit(&repos.Change{Ctx: ctx, Exclusive: true, Check: func(b *repos.Batch) error {
				s.next = start
				return s.check(b, n)
			}, Finish: s.finish})
			s.adapt(time.Since(s.began))
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ociregistry.ErrNameUnknown):
			s.next, s.stuck, s.found = n, nil, nil
			return nil
		case !errors.Is(err, errUnread):
			return err
		}
	}
	return err
}

var errUnread = errors.New("there are manifests that were not read")

// adapt makes the next turn shorter if one took longer than it should, and else longer again.
func (s *sweep) adapt(took time.Duration) {
	if took > maxTime {
		s.most = max(s.most/2, minThings)
	} else {
		s.most = min(2*s.most, maxThings)
	}
}

// check is the Check of a change.
func (s *sweep) check(b *repos.Batch, n int) error {
	s.turnState = turnState{
		began:    time.Now(),
		batch:    b,
		gone:     make(map[ociregistry.Digest]bool),
		goneTags: make(map[string]bool),
		names:    make(map[ociregistry.Digest]int),
	}
	var whole bool
	s.repo.View(func(state *repostate.State) {
		s.state, whole = state, state.IsWhole() && !state.HasUnknownEntries()
	})
	if !whole {
		return errUnread
	}
	for _, digest := range s.stuck {
		s.add(repostate.Op{Kind: repostate.PutBlob, Digest: digest})
	}
	if len(s.stuck) > 0 {
		s.repo.Doubt()
	}
	s.stuck = nil
	end := min(s.next+s.most, n)
	announced := s.thingsBefore(end)
	if err := b.Announce(announced...); err != nil {
		return err
	}
	if err := s.removeBefore(end, s.began.Add(maxTime)); err != nil || s.any || len(announced) == 0 {
		return err
	}
	return b.Announce("")
}

// removeBefore removes what is garbage of the next things, up to a time.
func (s *sweep) removeBefore(end int, until time.Time) error {
	lock := s.repo.Reading()
	lock.Lock()
	defer lock.Unlock()
	for ; s.next < end; s.next++ {
		if time.Now().After(until) && s.any {
			break
		}
		if err := s.remove(s.next); err != nil {
			return err
		}
	}
	return nil
}

// isPending is that of times, for one who has the lock of the state.
func (s *sweep) isPending(digest ociregistry.Digest) bool { return s.state.IsManifestPending(digest) }

// thingsBefore returns what may be deleted of the next things.
func (s *sweep) thingsBefore(end int) (digests []ociregistry.Digest) {
	for i := s.next; i < end; i++ {
		switch part, k := s.thing(i); part {
		case aGroup:
			for _, m := range s.plan.Groups[k] {
				digests = append(digests, s.plan.Manifests[m].Digest)
			}
		case aBlob:
			digests = append(digests, s.plan.Blobs[s.plan.FreeBlobs[k]].Digest)
		}
	}
	return digests
}

// The kinds of things.
const (
	aTag = iota
	aGroup
	aBlob
)

// thing returns the kind of a thing, and its number among those.
func (s *sweep) thing(i int) (kind, number int) {
	if i < len(s.plan.DropTags) {
		return aTag, i
	}
	if i -= len(s.plan.DropTags); i < len(s.plan.Groups) {
		return aGroup, i
	}
	return aBlob, i - len(s.plan.Groups)
}

func (s *sweep) remove(i int) error {
	switch kind, k := s.thing(i); kind {
	case aTag:
		return s.dropTag(s.plan.DropTags[k])
	case aGroup:
		s.removeGroup(s.plan.Groups[k])
	default:
		s.removeBlob(s.plan.FreeBlobs[k])
	}
	return nil
}

func (s *sweep) add(o repostate.Op) {
	s.any = true
	s.batch.Add(o)
}

// dropTag removes a tag that was neither set nor pulled since it was enumerated. The delay of
// its manifest counts from now.
func (s *sweep) dropTag(i int) error {
	want := s.plan.Tags[i]
	m := s.state.Tag(want.Name)
	if m == nil || m.Digest != want.Manifest || s.tag(want.Name, m.Digest, s.state.TagTime(want.Name), s.isPending) != want {
		return nil
	}
	if _, err := s.Store.Touch(s.repo.Dir, m.Digest); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.add(repostate.Op{Kind: repostate.DeleteTags, Tags: []string{want.Name}})
	s.goneTags[want.Name] = true
	s.found = append(s.found, s.plan.Tag(i, ocigc.NotKept))
	return nil
}

// removeGroup removes manifests that depend on each other, if all of them are still garbage.
// Most groups are one manifest.
func (s *sweep) removeGroup(group []int) {
	members := make(map[ociregistry.Digest]*repostate.Manifest)
	named := make(map[ociregistry.Digest]int)
	for _, i := range group {
		if m := s.state.Manifest(s.plan.Manifests[i].Digest); m != nil {
			members[m.Digest] = m
			s.state.EachName(m.Digest, func(digest ociregistry.Digest) { named[digest]++ })
		}
	}
	for _, m := range members {
		if !s.canGo(m, members, named) || s.plan.IsRoot(s.facts(m)) {
			return
		}
	}
	for digest, n := range named {
		s.names[digest] += n
	}
	for _, i := range group {
		if m := members[s.plan.Manifests[i].Digest]; m != nil {
			s.removeManifest(m)
			s.found = append(s.found, s.plan.Manifest(i))
		}
	}
}

// canGo reports whether no manifest outside a group, whose members name others as often as
// named says, keeps m.
func (s *sweep) canGo(m *repostate.Manifest, members map[ociregistry.Digest]*repostate.Manifest, named map[ociregistry.Digest]int) bool {
	isThere := func(digest ociregistry.Digest) bool {
		return s.isManifest(digest) && members[digest] == nil
	}
	subject := s.state.SubjectOf(m)
	return s.state.Names(m.Digest) == s.names[m.Digest]+named[m.Digest] && (subject == "" || !isThere(subject)) &&
		!gc.IsAbout(slices.Values(s.tagsOf(m)), isThere)
}

// isManifest reports whether there is a manifest that the batch does not remove.
func (s *sweep) isManifest(digest ociregistry.Digest) bool {
	return s.state.Manifest(digest) != nil && !s.gone[digest]
}

// tagsOf returns the tags of a manifest that the batch does not remove.
func (s *sweep) tagsOf(m *repostate.Manifest) []string {
	return slices.DeleteFunc(s.state.TagsOf(m), func(tag string) bool { return s.goneTags[tag] })
}

func (s *sweep) facts(m *repostate.Manifest) gc.Facts {
	return gc.FactsOf(s.ofManifest(m.Digest, s.isPending), s.state.SubjectOf(m) != "", slices.Values(s.tagsOf(m)))
}

// removeManifest removes a manifest, and its tags. Manifests that only it says are there stay.
func (s *sweep) removeManifest(m *repostate.Manifest) {
	for _, child := range s.state.OnlyNamedBy(m) {
		if !s.gone[child.Digest] {
			s.add(repostate.Op{Kind: repostate.PutManifest, Digest: child.Digest, MediaType: child.MediaType, Size: child.Size})
		}
	}
	for _, tag := range s.tagsOf(m) {
		s.found = append(s.found, s.plan.TagOfGarbage(tag, m.Digest, s.state.TagTime(tag)))
	}
	if at, _ := s.age(m.Digest); !m.Blob && (at != 0 || m.Text != "") {
		s.bytes += m.Size
	}
	s.add(repostate.Op{Kind: repostate.DeleteManifest, Digest: m.Digest})
	s.gone[m.Digest] = true
}

// removeBlob removes a blob that is still garbage. The operation says that what its file has
// is no blob any more, which also holds if the file stays for a while.
func (s *sweep) removeBlob(i int) {
	digest := s.plan.Blobs[i].Digest
	if s.isManifest(digest) || s.state.Names(digest) != s.names[digest] || s.state.IsDeleted(digest) {
		return
	}
	if _, pending := s.state.Blob(digest); pending {
		return
	}
	at, size := s.age(digest)
	if at == 0 || !s.plan.IsOldBlob(at) {
		return
	}
	s.freed += size
	s.add(repostate.Op{Kind: repostate.DeleteManifest, Digest: digest})
	s.files = append(s.files, digest)
	s.found = append(s.found, s.plan.Blob(i))
}

// finish is the Finish of a change.
func (s *sweep) finish() error {
	s.Quota.Release(s.bytes)
	s.repo.AddBytes(-s.freed)
	for _, digest := range s.files {
		err := s.Store.RemoveUnsynced(s.repo.Dir, digest)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.stuck, s.err = append(s.stuck, digest), err
		}
	}
	return nil
}
