package repos

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// A snapshot is written, by who appends, when the log since the last one has a part of its bytes, so that what
// snapshots cost does not grow with the repository. That part is small, because who knows nothing reads it: of a
// snapshot of up to 4 MiB, which has some 130,000 tags, it is what one record carries; of a larger one, another record
// carries the rest. When a snapshot is late, such a record carries no more than twice as much.
const (
	tailPart = 32
	maxWhole = 2
)

// writers is how many objects are written at a time, for a snapshot.
const writers = 8

// snapshot is one that is being written.
type snapshot struct {
	formats.Snapshot
	pending map[ociregistry.Digest]text // what it makes objects of
	dead    map[string]ociregistry.Digest
	seen    []string // the nonces of those that were seen dead
}

// maySnapshot begins to write a snapshot if it is time, and nobody else here does. The caller is
// the only one who changes the state.
func (r *Repository) maySnapshot() {
	if r.set.opts.ReadOnly || !r.isSnapshotDue() || !r.snapshotting.CompareAndSwap(false, true) {
		return
	}
	shot, err := r.prepare()
	if err != nil {
		r.snapshotting.Store(false)
		r.warn("a snapshot cannot be made", err)
		return
	}
	err = r.set.start(func() {
		defer r.snapshotting.Store(false)
		if err := r.writeSnapshot(r.set.ctx, shot); err != nil {
			r.warn("a snapshot was not written", err)
		}
	})
	if err != nil {
		r.snapshotting.Store(false)
	}
}

func (r *Repository) isSnapshotDue() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.state != nil && r.state.appended && r.state.tail > r.maxTail(r.state)
}

// maxTail is how many bytes of records there are before a snapshot is due.
func (r *Repository) maxTail(s *State) int64 { return max(r.set.opts.MinTail, s.covered/tailPart) }

// prepare returns a snapshot of the state.
func (r *Repository) prepare() (*snapshot, error) {
	encoded, err := r.state.State.Snapshot(repostate.IndexSum{}, r.mu.RLocker())
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := r.state
	shot := &snapshot{pending: maps.Clone(s.pending), dead: maps.Clone(s.dead)}
	shot.Number, shot.State = s.number, string(encoded.Text)
	for _, digest := range slices.Sorted(maps.Keys(s.manifestTimes)) {
		shot.ManifestTimes = append(shot.ManifestTimes, s.manifestTimes[digest])
	}
	for _, tag := range slices.Sorted(maps.Keys(s.tagTimes)) {
		shot.TagTimes = append(shot.TagTimes, s.tagTimes[tag])
	}
	return shot, nil
}

// writeSnapshot writes a snapshot, and before it what only the records have that it covers.
func (r *Repository) writeSnapshot(ctx context.Context, shot *snapshot) error {
	number, size, err := r.newest(ctx)
	if err != nil {
		return err
	}
	if number >= shot.Number {
		r.covered(number, size, shot)
		return nil
	}
	digests := slices.Collect(maps.Keys(shot.pending))
	err = parallel.Each(ctx, writers, digests, func(ctx context.Context, digest ociregistry.Digest) error {
		return r.keepManifest(ctx, digest, shot.pending[digest].text)
	})
	if err != nil {
		return err
	}
	if err := r.forgetDead(ctx, shot); err != nil {
		return err
	}
	for nonce, digest := range shot.dead {
		shot.Dead = append(shot.Dead, formats.DeadLink{Nonce: nonce, Digest: digest})
	}
	slices.SortFunc(shot.Dead, func(a, b formats.DeadLink) int { return cmp.Compare(a.Nonce, b.Nonce) })
	body := shot.Encode()
	_, err = r.bucket.Write(ctx, keys.Snapshot(r.name, shot.Number), body, objstore.Condition{IfAbsent: true})
	if err != nil && !errors.Is(err, bucket.ErrLost) {
		return err
	}
	r.covered(shot.Number, int64(len(body)), shot)
	return nil
}

// covered notes what is known from writing a snapshot.
func (r *Repository) covered(number uint64, size int64, shot *snapshot) {
	r.mu.RLock()
	s := r.state
	r.mu.RUnlock()
	if s == nil {
		return
	}
	r.cover(s, number)
	r.mu.Lock()
	defer r.mu.Unlock()
	s.covered = size
	for _, nonce := range shot.seen {
		delete(s.dead, nonce)
	}
}

// forgetDead forgets deleted links that are seen to be dead, or others.
func (r *Repository) forgetDead(ctx context.Context, shot *snapshot) error {
	nonces := slices.Collect(maps.Keys(shot.dead))
	alive := make([]bool, len(nonces))
	err := parallel.Do(writers, len(nonces), func(i int) error {
		o, err := r.bucket.Read(ctx, keys.Link(r.name, shot.dead[nonces[i]]), formats.MaxLink)
		if err != nil || !o.Found {
			return err
		}
		link, err := formats.DecodeLink(o.Text)
		alive[i] = err != nil || link.Nonce == nonces[i] && link.Status != formats.Dead
		return nil
	})
	for i, nonce := range nonces {
		if err == nil && !alive[i] {
			delete(shot.dead, nonce)
			shot.seen = append(shot.seen, nonce)
		}
	}
	return err
}

// keepManifest makes sure that a manifest's bytes are an object of their own.
func (r *Repository) keepManifest(ctx context.Context, digest ociregistry.Digest, text string) error {
	key := keys.Manifest(r.name, digest)
	cond := objstore.Condition{IfAbsent: true}
	for range loadAttempts {
		live := formats.Manifest{Status: formats.Live, Text: text}
		there, err := r.bucket.Write(ctx, key, live.Encode(), cond)
		if !errors.Is(err, bucket.ErrLost) {
			return err
		}
		if !there.Found {
			cond = objstore.Condition{IfAbsent: true}
			continue
		}
		if m, err := formats.DecodeManifest(there.Text); err == nil && m.Status == formats.Live && m.Text == text {
			return nil
		}
		cond = objstore.Condition{IfMatch: there.ETag}
	}
	return bucket.ErrLost
}

// ReadManifest returns the text of a manifest that is an object of its own, and whether there is one.
func (r *Repository) ReadManifest(ctx context.Context, digest ociregistry.Digest, size int64) (text string, found bool, err error) {
	key := keys.Manifest(r.name, digest)
	o, err := r.bucket.Read(ctx, key, size+maxHeader)
	if err != nil || !o.Found {
		return "", false, err
	}
	m, err := formats.DecodeManifest(o.Text)
	if err != nil {
		return "", false, bucket.Damaged(key, err)
	}
	return m.Text, m.Status != formats.Dead, nil
}

// maxHeader is more than what a manifest's object has beside the text, in bytes.
const maxHeader = 128
