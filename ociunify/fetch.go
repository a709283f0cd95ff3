package ociunify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// fetch is the transfer of a blob from the origin. Its bytes are spooled. The readers
// of callers, and the push to the cache registry, follow the spool.
type fetch struct {
	cache  *Cache
	key    key
	task   task // with the values of the first caller's context
	spool  spool
	window window

	// Guarded by Cache.mu.
	readers int // the number of callers that read the blob
	refs    int // the number of users of the spool: the readers and the fetch itself

	mu      sync.Mutex
	state   progress
	changed chan struct{} // closed when waiters should look again
	awaited int64         // the smallest number of visible bytes that anyone waits for
}

// progress says how far a fetch has come.
type progress struct {
	open    bool                   // the origin has answered
	desc    ociregistry.Descriptor // the size is -1 while it is not known
	visible int64                  // the number of bytes that can be read
	done    bool                   // err is final; if it is nil, all bytes are visible
	err     error
}

var (
	// errFound ends a fetch of a blob that turned out to be kept.
	errFound = errors.New("the blob is in the cache")

	// errSpool ends a fetch whose bytes cannot be spooled.
	errSpool = errors.New("the blob cannot be spooled")
)

// fetchBlob returns a reader of a blob that is not kept, from the fetch that is under
// way or from a new one.
func (c *Cache) fetchBlob(ctx context.Context, at call.Call) (ociregistry.BlobReader, Outcome, error) {
	k := c.key(kindBlob, at.Repository, at.Ref)
	digest := ociregistry.Digest(at.Ref)
	if err := c.absent.get(k); err != nil {
		return nil, OutcomeAbsent, err
	}
	for {
		f, isNew, err := c.join(ctx, k, true)
		if err != nil {
			return nil, OutcomeFailed, at.Wrap(err)
		}
		f.window.expect()
		if isNew {
			// Another fetch may have ended since the cache registry was asked.
			rd, err := c.cachedBlob(ctx, at.Repository, digest)
			if err == nil {
				c.unlist(f)
				f.finish(errFound)
				c.leave(f)
				f.end()
				return rd, OutcomeHit, nil
			}
			go f.run()
		}
		rd, err := f.follow(ctx, at, 0, -1)
		f.window.arrived()
		if err != errFound {
			return rd, OutcomeFetched, err
		}
		if rd, err := c.cachedBlob(ctx, at.Repository, digest); err == nil {
			return rd, OutcomeHit, nil
		}
	}
}

// join returns the fetch of a blob, for one more reader. If there is none, it returns
// nil or, if begin is true, a new fetch that the caller must run.
func (c *Cache) join(ctx context.Context, k key, begin bool) (f *fetch, isNew bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f = c.fetches[k]
	if f == nil && !begin {
		return nil, false, nil
	}
	if f == nil && c.closed {
		return nil, false, errClosed
	}
	if f == nil {
		f = &fetch{cache: c, key: k, refs: 1, changed: make(chan struct{}), awaited: noWaiter, spool: spool{dir: c.opts.TempDir}}
		c.watch.detach(ctx, &f.task)
		c.fetches[k] = f
		c.fetching.Store(int64(len(c.fetches)))
		c.working.Add(1)
		isNew = true
	}
	f.readers++
	f.refs++
	return f, isNew, nil
}

// leave is called by a reader that needs the fetch no longer.
func (c *Cache) leave(f *fetch) {
	p := f.progress()
	c.mu.Lock()
	f.readers--
	abandoned := f.readers == 0 && !p.done && !c.opts.FinishFetches
	if abandoned {
		c.unlistLocked(f) // later callers ask anew
	}
	c.mu.Unlock()
	if abandoned {
		f.task.stop(nil)
	}
	f.window.recheck()
	c.unref(f)
}

func (c *Cache) unref(f *fetch) {
	c.mu.Lock()
	f.refs--
	unused := f.refs == 0
	c.mu.Unlock()
	if unused {
		f.spool.free()
	}
}

func (c *Cache) unlist(f *fetch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unlistLocked(f)
}

// unlistLocked removes f from the fetches that join returns. The lock is held.
func (c *Cache) unlistLocked(f *fetch) {
	if c.fetches[f.key] == f {
		delete(c.fetches, f.key)
		c.fetching.Store(int64(len(c.fetches)))
	}
}

// run fetches the blob.
func (f *fetch) run() {
	defer f.end()
	c := f.cache
	var storing sync.WaitGroup
	err := f.transfer(func() {
		store := f.newStoreFollower()
		storing.Go(func() { f.store(store) })
	})
	switch {
	case err != nil && c.ctx.Err() != nil:
		err = errClosed
	case err != nil && (f.task.Err() == nil || errors.Is(err, errStalled)):
		c.failed(&f.task, f.key, err)
	}
	if err != nil {
		c.unlist(f) // callers after this error ask anew
	}
	f.finish(err)
	storing.Wait()
	c.unlist(f)
}

// end releases what the fetch itself uses.
func (f *fetch) end() {
	f.task.end()
	f.cache.unref(f)
	f.cache.working.Done()
}

// transfer gets the bytes from the origin, and verifies them. It calls opened
// when the origin has answered.
func (f *fetch) transfer(opened func()) error {
	d := ociregistry.Digest(f.key.ref)
	before := f.task.wait(originIdle)
	rd, err := f.cache.origin.GetBlob(&f.task, f.key.repo, d)
	f.task.waited(before)
	if err != nil {
		return stalledOr(&f.task, call.New("GetBlob", f.key.repo, f.key.ref), err)
	}
	f.task.reads(rd)
	defer rd.Close()
	defer f.task.reads(nil)
	size := plausibleSize(rd.Descriptor().Size, d)
	limit := f.cache.spoolSize(size)
	f.spool.init(size, limit)
	f.window.init(size, limit)
	f.opened(ociregistry.Descriptor{MediaType: mediaTypeBlob, Digest: d, Size: size})
	opened()
	return f.receive(rd, size)
}

// receive reads what the origin sends. This must be size bytes, unless size is
// negative.
func (f *fetch) receive(rd io.Reader, size int64) error {
	at := call.New("GetBlob", f.key.repo, f.key.ref)
	d := ociregistry.Digest(f.key.ref)
	h := verified.Hash(rd, d)
	s := &spooler{fetch: f}
	defer s.close()
	for {
		if err := f.makeRoom(&f.task, s.n+pieceSize); err != nil {
			return err
		}
		before := f.task.wait(originIdle) // the time in makeRoom does not count
		p, err := s.read(rd)
		f.task.waited(before)
		if size >= 0 && s.n > size {
			return at.Wrap(fmt.Errorf("%w: the origin sent more than %d bytes", ociregistry.ErrSizeInvalid, size))
		}
		h.Write(p)
		if err := s.store(p); err != nil {
			return f.spoolFailed(at, err)
		}
		switch {
		case err == io.EOF && s.n < size:
			return at.Wrap(io.ErrUnexpectedEOF)
		case err == io.EOF && !verified.IsSum(d, h.Sum(nil)):
			return at.Wrap(fmt.Errorf("%w: the origin sent other content", ociregistry.ErrDigestInvalid))
		case err == io.EOF:
			if err := s.flush(); err != nil {
				return f.spoolFailed(at, err)
			}
			f.complete(s.n)
			return nil
		case err != nil:
			return stalledOr(&f.task, at, at.Wrap(err))
		case f.task.Err() != nil:
			return stalledOr(&f.task, at, f.task.Err())
		}
	}
}

// spoolFailed logs why bytes cannot be spooled, and returns errSpool.
func (f *fetch) spoolFailed(at call.Call, err error) error {
	f.cache.warn("cannot keep a blob while it is fetched", at, err)
	return errSpool
}

// mediaTypeBlob is the media type of blobs: registries do not store their own.
const mediaTypeBlob = "application/octet-stream"

// newStoreFollower returns a follower for store. It can be stopped if the blob does not
// fit in the spool.
func (f *fetch) newStoreFollower() *follower {
	r := &follower{fetch: f, ctx: context.WithoutCancel(&f.task), whole: true, end: -1, lag: storeLag}
	if f.window.size > 0 {
		r.ctx, r.stop = context.WithCancel(r.ctx)
		r.lag = min(storeLag, f.window.size/4)
	}
	if f.progress().desc.Size >= 0 {
		f.window.enter(r)
	}
	return r
}

// store pushes the blob to the cache registry while it is fetched. Content that is not
// verified does not end, and so is not stored. Neither is a blob of unknown size that
// does not fit in the spool.
func (f *fetch) store(r *follower) {
	if r.stop != nil {
		defer r.stop()
		defer f.window.leave(r)
	}
	c, at, ctx := f.cache, call.New("PushBlob", f.key.repo, f.key.ref), r.ctx
	p := f.await(ctx, noWaiter, func(p progress) bool { return p.desc.Size >= 0 || p.done })
	if r.desc = p.desc; r.passed == 0 {
		f.window.enter(r) // now that the size is known
	}
	h := holding{kindBlob, at.Repository, p.desc.Digest}
	if p.err != nil || !c.purge(ctx, h) || !c.ledger.reserve(ctx, kindBlob, at.Repository, p.desc) {
		return
	}
	if _, err := c.cache.PushBlob(ctx, at.Repository, p.desc, r); err != nil {
		if p := f.progress(); p.err == nil {
			c.warn("cannot keep a blob", at, err)
		}
		c.ledger.drop(ctx, kindBlob, at.Repository, p.desc.Digest)
		return
	}
	c.ledger.confirm(kindBlob, at.Repository, p.desc.Digest)
	if c.changed(f.key) {
		c.dropBlob(ctx, at.Repository, p.desc.Digest)
	}
}

// storeLag is how many bytes the push to the cache registry stays behind the fetch, in
// favour of callers that wait for the blob.
const storeLag = 32 << 20

func (f *fetch) progress() progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// update changes the state, and wakes the waiters.
func (f *fetch) update(change func(*progress)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.state)
	f.wake()
}

func (f *fetch) wake() {
	close(f.changed)
	f.changed, f.awaited = make(chan struct{}), noWaiter
}

// noWaiter is the value of awaited if nobody waits for bytes.
const noWaiter = math.MaxInt64

func (f *fetch) opened(desc ociregistry.Descriptor) {
	f.update(func(p *progress) { p.open, p.desc = true, desc })
}

// advance makes all of n bytes visible but the last, without which nobody takes the
// blob for complete. It wakes no waiters that need more bytes: that would cost
// processor time which hashing and writing need.
func (f *fetch) advance(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.visible = n - 1
	if n > f.awaited {
		f.wake()
	}
}

// complete makes all n bytes visible.
func (f *fetch) complete(n int64) {
	f.update(func(p *progress) { p.visible, p.desc.Size, p.done = n, n, true })
}

// finish ends the fetch with an error, or does nothing if it is complete.
func (f *fetch) finish(err error) {
	if err != nil {
		f.update(func(p *progress) { p.done, p.err = true, err })
	}
}

// await waits until enough returns true, and returns the state of the fetch. The error
// in it is that of the fetch or that of the context. As long as only the number of
// visible bytes changes, await calls enough again only from visible bytes on.
func (f *fetch) await(ctx context.Context, visible int64, enough func(progress) bool) progress {
	for {
		f.mu.Lock()
		p, changed := f.state, f.changed
		if enough(p) {
			f.mu.Unlock()
			return p
		}
		f.awaited = min(f.awaited, visible)
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			p.err = ctx.Err()
			return p
		}
	}
}
