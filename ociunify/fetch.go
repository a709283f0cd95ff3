package ociunify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// fetch is a blob on its way from the origin. Its bytes are spooled, and followed
// there by those who want them, and by the push to the cache registry.
type fetch struct {
	cache  *Cache
	key    key
	task   task // the first caller's, which need not be there to the end
	spool  spool
	window window

	// Of these Cache.mu takes care.
	readers int // who wants the blob
	refs    int // who uses the spool: the readers and the fetch itself

	mu      sync.Mutex
	state   progress
	changed chan struct{} // closed when those who wait should look again
	awaited int64         // the fewest visible bytes that anyone waits for
}

// progress says how far a fetch is.
type progress struct {
	open    bool                   // the origin has answered
	desc    ociregistry.Descriptor // the size is -1 as long as it is not known
	visible int64                  // how many bytes can be read
	done    bool                   // err is final; if it is nil, all bytes are visible
	err     error
}

var (
	// errFound ends a fetch that turned out not to be needed.
	errFound = errors.New("the blob is in the cache")

	// errSpool ends a fetch whose bytes cannot be kept anywhere.
	errSpool = errors.New("cannot spool")
)

// fetchBlob returns a reader of a blob that is not in the cache, from the fetch
// that is under way or from a new one.
func (c *Cache) fetchBlob(ctx context.Context, at target) (ociregistry.BlobReader, error) {
	k := c.key(kindBlob, at.repo, at.ref)
	digest := ociregistry.Digest(at.ref)
	if err := c.absent.get(k); err != nil {
		return nil, err
	}
	for {
		f, begins, err := c.join(ctx, k, true)
		if err != nil {
			return nil, at.fail(err)
		}
		if begins {
			// One may have ended since the cache was asked.
			rd, err := c.cachedBlob(ctx, at.repo, digest)
			if err == nil {
				c.forget(f)
				f.finish(errFound)
				c.leave(f)
				f.end()
				return rd, nil
			}
			go f.run()
		}
		rd, err := f.follow(ctx, at, 0, -1)
		if err != errFound {
			return rd, err
		}
		if rd, err := c.cachedBlob(ctx, at.repo, digest); err == nil {
			return rd, nil
		}
	}
}

// join returns the fetch of a blob, for one reader. If there is none, it returns
// a new one that the caller has to run, or nil.
func (c *Cache) join(ctx context.Context, k key, begin bool) (f *fetch, begins bool, err error) {
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
		f = &fetch{cache: c, key: k, refs: 1, changed: make(chan struct{}), awaited: nobody, spool: spool{dir: c.opts.TempDir}}
		c.watch.detach(ctx, &f.task)
		c.fetches[k] = f
		c.fetching.Store(int64(len(c.fetches)))
		c.working.Add(1)
		begins = true
	}
	f.readers++
	f.refs++
	return f, begins, nil
}

// leave is called by a reader that wants no more.
func (c *Cache) leave(f *fetch) {
	p := f.progress()
	c.mu.Lock()
	f.readers--
	abandoned := f.readers == 0 && !p.done && !c.opts.FinishFetches
	if abandoned {
		c.remove(f) // who asks now asks anew
	}
	c.mu.Unlock()
	if abandoned {
		f.task.stop(nil)
	}
	f.window.look()
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

func (c *Cache) forget(f *fetch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(f)
}

// remove makes f be found no more. The lock is held.
func (c *Cache) remove(f *fetch) {
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
		store := f.storing()
		storing.Go(func() { f.store(store) })
	})
	switch {
	case err != nil && c.ctx.Err() != nil:
		err = errClosed
	case err != nil && (f.task.Err() == nil || errors.Is(err, errStalled)):
		c.failed(&f.task, f.key, err)
	}
	if err != nil {
		c.forget(f) // who asks after this error asks anew
	}
	f.finish(err)
	storing.Wait()
	c.forget(f)
}

// end lets go of what the fetch itself has.
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
		return target{"GetBlob", f.key.repo, f.key.ref}.stalledOr(&f.task, err)
	}
	f.task.reads(rd)
	defer rd.Close()
	defer f.task.reads(nil)
	size := plausibleSize(rd.Descriptor().Size, d)
	limit := f.cache.spoolSize(size)
	f.spool.begin(size, limit)
	f.window.begin(size, limit)
	f.opened(ociregistry.Descriptor{MediaType: mediaTypeBlob, Digest: d, Size: size})
	opened()
	return f.receive(rd, size)
}

// receive reads all that the origin sends, which must have size bytes unless size
// is negative.
func (f *fetch) receive(rd io.Reader, size int64) error {
	at := target{"GetBlob", f.key.repo, f.key.ref}
	d := ociregistry.Digest(f.key.ref)
	h := verified.Hash(rd, d)
	k := &keeper{fetch: f}
	defer k.close()
	for {
		if err := f.makeRoom(&f.task, k.n+pieceSize); err != nil {
			return err
		}
		before := f.task.wait(originIdle) // not while nobody takes what has come
		p, err := k.read(rd)
		f.task.waited(before)
		if size >= 0 && k.n > size {
			return at.fail(fmt.Errorf("%w: the origin sent more", ociregistry.ErrSizeInvalid))
		}
		h.Write(p)
		if err := k.keep(p); err != nil {
			return f.unkept(at, err)
		}
		switch {
		case err == io.EOF && k.n < size:
			return at.fail(io.ErrUnexpectedEOF)
		case err == io.EOF && !verified.IsSum(d, h.Sum(nil)):
			return at.fail(fmt.Errorf("%w: the origin sent something else", ociregistry.ErrDigestInvalid))
		case err == io.EOF:
			if err := k.settle(); err != nil {
				return f.unkept(at, err)
			}
			f.complete(k.n)
			return nil
		case err != nil:
			return at.stalledOr(&f.task, at.fail(err))
		case f.task.Err() != nil:
			return at.stalledOr(&f.task, f.task.Err())
		}
	}
}

// unkept is the end of a fetch whose bytes could not be written.
func (f *fetch) unkept(at target, err error) error {
	f.cache.warn("cannot keep a blob while it is fetched", at, err)
	return errSpool
}

// mediaTypeBlob is the media type of blobs, which registries do not keep.
const mediaTypeBlob = "application/octet-stream"

// storing returns a follower for store. It can be stopped if it may have to be.
func (f *fetch) storing() *follower {
	r := &follower{fetch: f, ctx: context.WithoutCancel(&f.task), whole: true, end: -1, behind: storeBehind}
	if f.window.size > 0 {
		r.ctx, r.stop = context.WithCancel(r.ctx)
		r.behind = min(storeBehind, f.window.size/4)
	}
	if f.progress().desc.Size >= 0 {
		f.window.enter(r)
	}
	return r
}

// store pushes the blob to the cache registry as it comes. What was not verified
// has no end, and is not stored. Nor is a blob of unknown size that does not fit in
// the spool.
func (f *fetch) store(r *follower) {
	if r.stop != nil {
		defer r.stop()
		defer f.window.leave(r)
	}
	c, at, ctx := f.cache, target{"PushBlob", f.key.repo, f.key.ref}, r.ctx
	p := f.await(ctx, nobody, func(p progress) bool { return p.desc.Size >= 0 || p.done })
	if r.desc = p.desc; r.at == 0 {
		f.window.enter(r) // now that the size is known
	}
	h := holding{kindBlob, at.repo, p.desc.Digest}
	if p.err != nil || !c.purge(ctx, h) || !c.ledger.reserve(ctx, kindBlob, at.repo, p.desc) {
		return
	}
	if _, err := c.cache.PushBlob(ctx, at.repo, p.desc, r); err != nil {
		if p := f.progress(); p.err == nil {
			c.warn("cannot keep a blob", at, err)
		}
		c.ledger.drop(ctx, kindBlob, at.repo, p.desc.Digest)
		return
	}
	c.ledger.keep(kindBlob, at.repo, p.desc.Digest)
	if c.changed(f.key) {
		c.dropBlob(ctx, at.repo, p.desc.Digest)
	}
}

// storeBehind is how many bytes the push to the cache registry stays behind what was
// fetched: those who wait for the blob come first.
const storeBehind = 32 << 20

func (f *fetch) progress() progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// update changes the state, and wakes those who wait.
func (f *fetch) update(change func(*progress)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.state)
	f.wake()
}

func (f *fetch) wake() {
	close(f.changed)
	f.changed, f.awaited = make(chan struct{}), nobody
}

// nobody is what is awaited if nobody waits for bytes.
const nobody = math.MaxInt64

func (f *fetch) opened(desc ociregistry.Descriptor) {
	f.update(func(p *progress) { p.open, p.desc = true, desc })
}

// advance makes n bytes visible, but for the last: whatever a caller has of a blob,
// without that it is nothing. Who waits for more is not woken, for that takes the
// processor from those who have something to do.
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

// await waits until the fetch is as far as wanted, and returns how far it is. The
// error is that of the fetch or that of the context. When more bytes are visible, it
// looks again only if they are as many as it is told.
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
