package repos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// A call waits in a repository's queue.
type call struct {
	*Change   // nil for one that wants the state alone
	ctx       context.Context
	validated bool // the state was the end of the log at some time since the call came
	unclear   int  // how many appends of it got no clear answer
	done      chan error
}

const (
	// maxUnclear is how many unclear appends a call survives.
	maxUnclear = 5
	// maxAge is how old, by the clock of the process, a validation may be that an append relies on. A
	// record whose T0 is too old would be void.
	maxAge = 10 * time.Minute
)

// Refresh reads the state to the end of the log.
func (r *Repository) Refresh(ctx context.Context) error { return r.enqueue(ctx, nil) }

// Commit makes a change, in one record with the changes of others. Errors: those of Check, of
// the store, and of the context. An error that wraps objstore.ErrUnclear means that the change
// may have been made, or may be later.
func (r *Repository) Commit(ctx context.Context, c *Change) error {
	if c.id == "" {
		c.id = formats.Nonce()
	}
	for {
		err := r.enqueue(ctx, c)
		if !errors.Is(err, errMark) {
			return err
		}
		c.t0 = r.bucket.Seen().Unix()
		if _, err := r.writeMark(ctx); err != nil {
			return c.unclearError(err)
		}
		c.mark = true
	}
}

// Pending reports whether an append of the change may still be carried out.
func (r *Repository) Pending(c *Change) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return c.tried > 0 && (r.state == nil || c.tried > r.state.number)
}

// unclearError returns err, as that of a change which may have been made.
func (c *Change) unclearError(err error) error {
	if c != nil && c.tried > 0 && !objstore.Unclear(err) {
		return errors.Join(objstore.ErrUnclear, err)
	}
	return err
}

func (r *Repository) enqueue(ctx context.Context, change *Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &call{Change: change, ctx: ctx, done: make(chan error, 1)}
	r.mu.Lock()
	if !r.running {
		if err := r.set.start(r.run); err != nil {
			r.mu.Unlock()
			return change.unclearError(err)
		}
		r.running = true
	}
	r.queue = append(r.queue, c)
	r.mu.Unlock()
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
	}
	r.mu.Lock()
	if i := slices.Index(r.queue, c); i >= 0 {
		r.queue = slices.Delete(r.queue, i, i+1)
		r.mu.Unlock()
		return change.unclearError(ctx.Err())
	}
	r.mu.Unlock()
	if change == nil {
		return ctx.Err()
	}
	return errors.Join(objstore.ErrUnclear, ctx.Err())
}

// run answers the calls in the queue, until there are none.
func (r *Repository) run() {
	var batch []*call
	for {
		r.mu.Lock()
		batch = append(batch, r.queue...)
		r.queue = nil
		if len(batch) == 0 {
			r.running = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		batch = r.step(batch)
		r.maySnapshot()
	}
}

// answer ends a call.
func (c *call) answer(err error) {
	if err != nil {
		err = c.Change.unclearError(err)
	}
	c.done <- err
}

func answerAll(batch []*call, err error) {
	for _, c := range batch {
		c.answer(err)
	}
}

// step makes the next record, or reads on. It returns the calls that have no answer yet.
func (r *Repository) step(batch []*call) []*call {
	ctx := r.set.ctx
	if r.state == nil {
		if err := r.load(ctx); err != nil {
			answerAll(batch, fmt.Errorf("loading repository: %w", err))
			return nil
		}
		validateAll(batch)
	}
	batch = r.settle(ctx, batch)
	b, included, waiting := r.check(batch)
	switch {
	case len(included) == 0 && len(waiting) == 0:
		return nil
	case len(included) == 0 || time.Now().Round(0).Sub(r.state.checked) > maxAge:
		return r.readOn(ctx, append(waiting, included...))
	}
	r.pace.giveWay(ctx)
	if r.append(ctx, b, included, waiting) {
		return waiting
	}
	batch = append(waiting, included...)
	if r.pace.losses > 0 && r.readAhead(ctx) == nil {
		return batch
	}
	return r.readOn(ctx, batch)
}

// maxAhead is how many records are asked for at once of which nobody knows whether they are there.
const maxAhead = 8

// readAhead reads several records at once, for one who lost. It does not read to the end of the log: if there is
// more, the next append tells.
func (r *Repository) readAhead(ctx context.Context) error {
	s, began := r.state, r.state.validated
	records := make([]answer, min(1+r.pace.losses, maxAhead))
	err := parallel.Do(len(records), len(records), func(i int) (err error) {
		records[i], err = r.readRecord(ctx, s.number+1+uint64(i))
		return err
	})
	if err != nil {
		return err
	}
	for i := range records {
		if records[i].date.Sub(began) > r.bucket.Grace()/2 {
			return errStale
		}
	}
	for i := range records {
		if !records[i].found {
			break
		}
		r.apply(s, &records[i].record)
		r.cover(s, records[i].base)
		r.pace.others++
	}
	return nil
}

func validateAll(batch []*call) {
	for _, c := range batch {
		c.validated = true
	}
}

// readOn reads to the end of the log, for calls that wait.
func (r *Repository) readOn(ctx context.Context, batch []*call) []*call {
	err := r.follow(ctx, r.state)
	if errors.Is(err, errStale) {
		err = r.load(ctx)
	}
	if err != nil {
		answerAll(batch, fmt.Errorf("reading repository: %w", err))
		return nil
	}
	validateAll(batch)
	return batch
}

// settle answers calls whose earlier appends turn out to have happened. It returns the others.
func (r *Repository) settle(ctx context.Context, batch []*call) []*call {
	rest := batch[:0]
	for _, c := range batch {
		if c.Change == nil || c.tried == 0 || c.tried > r.state.number {
			rest = append(rest, c)
			continue
		}
		made, known := r.state.made(c.tried, c.id)
		if !known {
			rec, err := r.readRecord(ctx, c.tried)
			if err == nil && !rec.found {
				err = errStale
			}
			if err != nil {
				c.answer(err)
				continue
			}
			made = slices.ContainsFunc(rec.operations, func(o formats.Operation) bool { return o.ID == c.id })
		}
		if made {
			c.answer(nil)
			continue
		}
		c.tried = 0
		rest = append(rest, c)
	}
	return rest
}

// check returns a record of those changes that can be made, and the calls that have to wait: for
// the next record, or for the end of the log. The others have their answer.
func (r *Repository) check(batch []*call) (b *Batch, included, waiting []*call) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	b = &Batch{state: r.state, known: r.known, epoch: r.epoch, written: map[string]bool{}, pushed: map[ociregistry.Digest]string{}}
	b.t0 = r.state.validated
	for _, c := range batch {
		if c.Change == nil {
			if c.validated {
				c.answer(nil)
			} else {
				waiting = append(waiting, c)
			}
			continue
		}
		if c.unclear > maxUnclear {
			c.answer(errors.Join(objstore.ErrUnclear, errors.New("appends get no answer")))
			continue
		}
		operations := len(b.operations)
		taken, err := b.try(c.Change)
		switch {
		case !taken:
			waiting = append(waiting, c)
		case len(b.operations) > operations:
			included = append(included, c)
			if c.mark {
				b.t0 = earlier(b.t0, time.Unix(c.t0, 0))
			}
		case c.validated || errors.Is(err, ErrAgain) || errors.Is(err, errMark):
			r.refuse(c, err)
		default:
			waiting = append(waiting, c)
		}
	}
	return b, included, waiting
}

// refuse answers a call with the error of its check, or without one if there is nothing to do. A
// change that may still be made is not refused.
func (r *Repository) refuse(c *call, err error) {
	switch {
	case errors.Is(err, ErrAgain), errors.Is(err, errMark):
		c.done <- err
	case c.tried > r.state.number && err != nil:
		c.done <- errors.Join(objstore.ErrUnclear, err)
	default:
		c.done <- err
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// append creates the next record. If it reports false, the log says what has become of it.
func (r *Repository) append(ctx context.Context, b *Batch, included, waiting []*call) bool {
	number := r.state.number + 1
	rec := &record{operations: b.operations, text: formats.EncodeOperations(b.operations)}
	r.mu.RLock()
	encoded := formats.Record{T0: b.t0, Text: rec.text, Base: r.state.snapshot, Carried: r.state.carried()}
	r.mu.RUnlock()
	began := time.Now()
	info, err := r.bucket.Store.Put(ctx, r.bucket.Key(keys.Record(r.name, number)), encoded.Encode(), objstore.Condition{IfAbsent: true})
	r.pace.took(time.Since(began))
	r.set.opts.Appended(r.name)
	if err == nil && !r.bucket.MayBeVoid(b.t0, info.Date) {
		if rec.modified = info.LastModified; rec.modified.IsZero() {
			rec.modified = info.Date
		}
		r.apply(r.state, rec)
		r.state.appended = true
		r.validate(r.state, info.Date)
		r.pace.won()
		if r.state.Count() > 0 {
			r.ContentCame()
		}
		validateAll(waiting)
		answerAll(included, nil)
		return true
	}
	lost := errors.Is(err, objstore.ErrPrecondition)
	if err != nil && !lost && !objstore.Unclear(err) {
		answerAll(included, err)
		return true
	}
	if lost {
		r.pace.lost()
	}
	for _, c := range included {
		c.tried = number
		if !lost {
			c.unclear++
		}
	}
	return false
}
