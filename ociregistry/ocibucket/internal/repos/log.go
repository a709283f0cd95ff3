package repos

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

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
	return err
}

func (r *Repository) loadState(ctx context.Context) (*State, error) {
	for range loadAttempts {
		s, began, err := r.loadSnapshot(ctx)
		if err != nil {
			return nil, err
		}
		s.validated = began
		if err = r.follow(ctx, s); err == nil {
			return s, nil
		}
		if !errors.Is(err, errStale) {
			return nil, err
		}
	}
	return nil, errStale
}

// newest returns the number of the newest snapshot and its size, or false if there is none.
func (r *Repository) newest(ctx context.Context) (number uint64, size int64, date time.Time, err error) {
	page, err := r.bucket.List(ctx, objstore.ListOptions{Prefix: keys.Snapshots(r.name), Limit: 1})
	if err != nil {
		return 0, 0, time.Time{}, err
	}
	if len(page.Objects) > 0 {
		if k, ok := keys.Parse(page.Objects[0].Key); ok {
			number, size = k.Number, page.Objects[0].Size
		}
	}
	return number, size, page.Date, nil
}

// loadSnapshot returns the state of the newest snapshot, and the Date before it was read.
func (r *Repository) loadSnapshot(ctx context.Context) (s *State, began time.Time, err error) {
	for range loadAttempts {
		number, _, date, err := r.newest(ctx)
		if err != nil || number == 0 {
			return newState(), date, err
		}
		key := keys.Snapshot(r.name, number)
		o, err := r.bucket.Read(ctx, key, formats.MaxSnapshot)
		if err != nil {
			return nil, date, err
		}
		if !o.Found {
			continue // a newer one has replaced it
		}
		if s, err = openSnapshot(o.Text); err != nil {
			return nil, date, bucket.Damaged(key, err)
		}
		s.snapshot, s.covered = number, int64(len(o.Text))
		return s, date, nil
	}
	return nil, time.Time{}, errStale
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
	var digests []ociregistry.Digest
	s.EachManifest(func(digest ociregistry.Digest, _ int64, _ ociregistry.Digest) { digests = append(digests, digest) })
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

// A record is one as it was read.
type record struct {
	formats.Record
	size           int64
	found          bool
	modified, date time.Time
}

func (r *Repository) readRecord(ctx context.Context, number uint64) (record, error) {
	key := keys.Record(r.name, number)
	o, err := r.bucket.Read(ctx, key, formats.MaxRecord)
	if err != nil || !o.Found {
		return record{date: o.Date}, err
	}
	decoded, err := formats.DecodeRecord(o.Text)
	if err != nil {
		return record{}, bucket.Damaged(key, err)
	}
	if r.bucket.IsVoid(decoded.T0, o.Modified) {
		decoded.Operations = nil
	}
	return record{decoded, int64(len(o.Text)), true, o.Modified, o.Date}, nil
}

const (
	// stepsBeforeList is how many records are read one after the other before the others are listed.
	stepsBeforeList = 2
	// readers is how many records are read at a time.
	readers = 16
)

// follow applies the records after a state, to the end of the log. errStale means that the state
// has to be loaded anew: if the last two validations are too far apart, a record that is not there
// may have been removed.
func (r *Repository) follow(ctx context.Context, s *State) error {
	began := s.validated
	for steps := 0; ; steps++ {
		if steps == stepsBeforeList {
			if err := r.catchUp(ctx, s, began); err != nil {
				return err
			}
		}
		if more, err := r.next(ctx, s, began); !more || err != nil {
			return err
		}
	}
}

// next applies the record after a state, or notes that there is none. The state was validated last at
// a Date.
func (r *Repository) next(ctx context.Context, s *State, began time.Time) (more bool, err error) {
	rec, err := r.readRecord(ctx, s.number+1)
	switch {
	case err != nil:
		return false, err
	case rec.date.Sub(began) > r.bucket.Grace()/2:
		return false, errStale
	case rec.found:
		r.apply(s, &rec)
	default:
		r.validate(s, rec.date)
	}
	return rec.found, nil
}

// catchUp applies all records that a list has, for one that is far behind.
func (r *Repository) catchUp(ctx context.Context, s *State, began time.Time) error {
	for {
		after := s.number
		page, err := r.bucket.List(ctx, objstore.ListOptions{Prefix: keys.Records(r.name), StartAfter: keys.Record(r.name, after)})
		if err != nil {
			return err
		}
		count := 0
		for _, o := range page.Objects {
			if k, ok := keys.Parse(o.Key); ok && k.Number == after+uint64(count)+1 {
				count++
			}
		}
		if count == 0 && len(page.Objects) > 0 {
			return errStale // those in between were removed
		}
		records := make([]record, count)
		err = parallel.Do(readers, count, func(i int) (err error) {
			records[i], err = r.readRecord(ctx, after+uint64(i)+1)
			return err
		})
		if err != nil {
			return err
		}
		for i := range records {
			if !records[i].found || records[i].date.Sub(began) > r.bucket.Grace()/2 {
				return errStale
			}
			r.apply(s, &records[i])
		}
		if page.Next == "" || count < len(page.Objects) {
			return nil
		}
	}
}

// apply applies the record after a state, which may be the repository's.
func (r *Repository) apply(s *State, rec *record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.apply(rec.Operations, rec.modified)
	s.tail += rec.size
	if len(s.recent) > maxKnown {
		clear(s.recent)
		r.forgetLinks()
	}
}

// forgetLinks makes all links unknown, those that are being read included. The caller has the lock.
func (r *Repository) forgetLinks() {
	r.known = map[ociregistry.Digest]Known{}
	r.epoch++
}

// validate notes that a state was the end of the log at a Date.
func (r *Repository) validate(s *State, date time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.validated, s.checked = date, time.Now().Round(0)
}
