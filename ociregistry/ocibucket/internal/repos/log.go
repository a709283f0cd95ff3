package repos

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// errStale is the error of following a log for so long that records may have been removed.
var errStale = errors.New("the state of the repository is too old")

const loadAttempts = 5

// load reads the newest snapshot and the records after it. Links that were read before are
// unknown then.
func (r *Repository) load(ctx context.Context) error {
	s, err := r.loadState(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = s // nil after an error
	r.forgetLinks()
	if s != nil {
		r.set.opts.Manifests(r.name, s.number, s.bytes)
	}
	return err
}

func (r *Repository) loadState(ctx context.Context) (*State, error) {
	for range loadAttempts {
		s, err := r.tryLoad(ctx)
		if !errors.Is(err, errStale) {
			return s, err
		}
	}
	return nil, errStale
}

// tryLoad reads the newest record, which says what else there is to be read. It is errStale if that is removed
// meanwhile.
func (r *Repository) tryLoad(ctx context.Context) (*State, error) {
	last, date, err := r.last(ctx)
	if err != nil {
		return nil, err
	}
	if last == 0 { // the newest record stays, so there never was one
		s := newState()
		r.validate(s, date)
		return s, nil
	}
	b := &backward{r: r, began: date, next: last}
	if err := b.read(ctx); err != nil {
		return nil, err
	}
	s, err := r.readSnapshotAndTail(ctx, b)
	if errors.Is(err, errStale) { // what the record knows of may be removed for the sake of a newer snapshot
		if s, err = r.loadSnapshot(ctx); err == nil {
			err = b.readTo(ctx, s.number)
		}
	}
	if err != nil {
		return nil, err
	}
	b.apply(s)
	if s.number > last {
		s.validated = date
		return s, r.follow(ctx, s)
	}
	r.validate(s, date)
	return s, nil
}

// readSnapshotAndTail reads the snapshot that the newest record knows and, at the same time, all records after it.
func (r *Repository) readSnapshotAndTail(ctx context.Context, b *backward) (s *State, err error) {
	base := b.base
	err = parallel.Do(2, 2, func(i int) (err error) {
		if i == 0 {
			s, err = r.readSnapshot(ctx, base)
			return err
		}
		return b.readTo(ctx, base)
	})
	return s, err
}

// newest returns the number of the newest snapshot and its size, or 0 if there is none.
func (r *Repository) newest(ctx context.Context) (number uint64, size int64, err error) {
	page, err := r.bucket.List(ctx, objstore.ListOptions{Prefix: keys.Snapshots(r.name), Limit: 1})
	if err != nil || len(page.Objects) == 0 {
		return 0, 0, err
	}
	k, _ := keys.Parse(page.Objects[0].Key)
	return k.Number, page.Objects[0].Size, nil
}

// loadSnapshot returns the state of the newest snapshot.
func (r *Repository) loadSnapshot(ctx context.Context) (*State, error) {
	number, _, err := r.newest(ctx)
	if err != nil {
		return nil, err
	}
	return r.readSnapshot(ctx, number)
}

// readSnapshot returns the state of a snapshot, or the empty one of number 0. It is errStale if the snapshot is
// removed.
func (r *Repository) readSnapshot(ctx context.Context, number uint64) (*State, error) {
	if number == 0 {
		return newState(), nil
	}
	key := keys.Snapshot(r.name, number)
	o, err := r.bucket.Read(ctx, key, formats.MaxSnapshot)
	switch {
	case err != nil:
		return nil, err
	case !o.Found:
		return nil, errStale
	}
	s, err := openSnapshot(o.Text)
	if err != nil {
		return nil, bucket.Damaged(key, err)
	}
	s.snapshot, s.covered = number, int64(len(o.Text))
	return s, nil
}

// openSnapshot returns the state that a snapshot has.
func openSnapshot(text string) (*State, error) {
	snapshot, err := formats.DecodeSnapshot(text)
	if err != nil {
		return nil, err
	}
	s := newState()
	s.number = snapshot.Number
	if s.State, err = repostate.Open(snapshot.State); err != nil {
		return nil, err
	}
	for _, link := range snapshot.Dead {
		s.dead[link.Nonce] = link.Digest
	}
	s.deadBefore = len(s.dead)
	var digests []ociregistry.Digest
	s.EachManifest(func(digest ociregistry.Digest, size int64, _ ociregistry.Digest) {
		digests = append(digests, digest)
		s.bytes += size
	})
	slices.Sort(digests)
	tags := s.AppendTags(nil, "", math.MaxInt)
	if len(digests) != len(snapshot.ManifestTimes) || len(tags) != len(snapshot.TagTimes) {
		return nil, formats.ErrMalformed
	}
	for i, digest := range digests {
		s.manifestTimes[digest] = snapshot.ManifestTimes[i]
	}
	for i, tag := range tags {
		s.tagTimes[tag] = snapshot.TagTimes[i]
	}
	return s, nil
}
