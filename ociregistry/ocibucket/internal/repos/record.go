package repos

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// A record is what one record of a log says.
type record struct {
	operations []formats.Operation // none if it is void
	text       string              // their encoded form
	modified   time.Time
}

// An answer is what was read for the number of a record.
type answer struct {
	record
	found   bool
	date    time.Time
	base    uint64 // the newest snapshot that its writer knew
	carried []formats.Carried
}

// newRecord returns a record of which an object, or another record, has the operations.
func newRecord(text string, modified time.Time) (record, error) {
	text = strings.Clone(text) // the state keeps parts of it
	operations, err := formats.DecodeOperations(text)
	return record{operations, text, modified}, err
}

func (r *Repository) readRecord(ctx context.Context, number uint64) (answer, error) {
	key := keys.Record(r.name, number)
	o, err := r.bucket.Read(ctx, key, formats.MaxRecord)
	if err != nil || !o.Found {
		return answer{date: o.Date}, err
	}
	decoded, err := formats.DecodeRecord(o.Text)
	if err == nil && uint64(len(decoded.Carried)) >= number {
		err = formats.ErrMalformed
	}
	if err != nil {
		return answer{}, bucket.Damaged(key, err)
	}
	if r.bucket.IsVoid(decoded.T0, o.Modified) {
		decoded.Text = ""
	}
	rec, err := newRecord(decoded.Text, o.Modified)
	if err != nil {
		return answer{}, bucket.Damaged(key, err)
	}
	return answer{rec, true, o.Date, decoded.Base, decoded.Carried}, nil
}

// last returns the number of the newest record, or 0 if there is none, and the Date when it was that.
func (r *Repository) last(ctx context.Context) (number uint64, date time.Time, err error) {
	page, err := r.bucket.List(ctx, objstore.ListOptions{Prefix: keys.Records(r.name), Limit: 1})
	if err != nil {
		return 0, time.Time{}, err
	}
	if len(page.Objects) > 0 {
		if k, ok := keys.Parse(page.Objects[0].Key); ok {
			number = k.Number
		}
	}
	return number, page.Date, nil
}

// A backward reader reads a log from its end, with few requests: most records carry those before them.
type backward struct {
	r     *Repository
	began time.Time // the Date before anything was read
	next  uint64    // the number of the record to be read next

	base    uint64 // the newest snapshot that is known by a record
	records []record
}

// read reads the next record, and takes what it carries. It is errStale if the record is not there.
func (b *backward) read(ctx context.Context) error {
	a, err := b.r.readRecord(ctx, b.next)
	switch {
	case err != nil:
		return err
	case !a.found, a.date.Sub(b.began) > b.r.bucket.Grace()/2:
		return errStale
	}
	b.base = max(b.base, a.base)
	b.records = append(b.records, a.record)
	for _, c := range slices.Backward(a.carried) {
		rec, err := newRecord(c.Text, c.Modified)
		if err != nil {
			return bucket.Damaged(keys.Record(b.r.name, b.next), err)
		}
		b.records = append(b.records, rec)
	}
	b.next -= uint64(len(a.carried)) + 1
	return nil
}

// readTo reads until it has all records after one.
func (b *backward) readTo(ctx context.Context, number uint64) error {
	for b.next > number {
		if err := b.read(ctx); err != nil {
			return err
		}
	}
	return nil
}

// apply applies those records that come after a state, of which it has read all.
func (b *backward) apply(s *State) {
	number := b.next
	for _, rec := range slices.Backward(b.records) {
		if number++; number > s.number {
			b.r.apply(s, &rec)
		}
	}
	b.r.cover(s, b.base)
}

// stepsBeforeList is how many records are read one after the other before the newest is looked for.
const stepsBeforeList = 2

// follow applies the records after a state, to the end of the log. errStale means that the state
// has to be loaded anew: if the last two validations are too far apart, a record that is not there
// may have been removed; and the newest snapshot knows which of many dead links were seen dead.
func (r *Repository) follow(ctx context.Context, s *State) error {
	if len(s.dead) > 2*s.deadBefore+maxDead {
		return errStale
	}
	began := s.validated
	for range stepsBeforeList {
		if more, err := r.next(ctx, s, began); !more || err != nil {
			return err
		}
	}
	last, date, err := r.last(ctx)
	if err != nil {
		return err
	}
	if date.Sub(began) > r.bucket.Grace()/2 {
		return errStale
	}
	b := &backward{r: r, began: began, next: last}
	if err := b.readTo(ctx, s.number); err != nil {
		return err
	}
	b.apply(s)
	r.validate(s, date)
	return nil
}

// next applies the record after a state, or notes that there is none. The state was validated last at
// a Date.
func (r *Repository) next(ctx context.Context, s *State, began time.Time) (more bool, err error) {
	a, err := r.readRecord(ctx, s.number+1)
	switch {
	case err != nil:
		return false, err
	case a.date.Sub(began) > r.bucket.Grace()/2:
		return false, errStale
	case a.found:
		r.apply(s, &a.record)
		r.cover(s, a.base)
	default:
		r.validate(s, a.date)
	}
	return a.found, nil
}

// apply applies the record after a state, which may be the repository's.
func (r *Repository) apply(s *State, rec *record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.apply(rec.operations, rec.modified)
	s.carry(rec, r.set.opts.MaxCarried, maxWhole*r.maxTail(s))
	if s == r.state {
		r.set.opts.Manifests(r.name, s.number, s.bytes)
	}
	if len(s.recent) > maxKnown {
		clear(s.recent)
		r.forgetLinks()
	}
}

// cover notes that a state knows of a snapshot. The texts of manifests that it covers are forgotten: they are
// objects.
func (r *Repository) cover(s *State, snapshot uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !s.cover(snapshot) {
		return
	}
	for digest, p := range s.pending {
		if p.number <= snapshot {
			r.set.opts.Keep(digest, p.text)
			delete(s.pending, digest)
		}
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
