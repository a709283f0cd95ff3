package ociunify

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/seed-40b21970/oci/ociregistry"
)

// ledger knows what the cache registry holds, if that is to be bounded, and what
// goes first.
type ledger struct {
	cache *Cache
	max   int64         // bytes; 0 is no bound
	sound bool          // nothing that is kept can be damaged
	ready chan struct{} // closed when the records have been read

	// latest is what was used most recently, if it is not nil. Reading it once
	// more changes nothing.
	latest atomic.Pointer[entry]

	mu      sync.Mutex
	entries map[holding]*entry
	blobs   *list.List // of *entry, the most recently used first
	others  *list.List // the same of manifests
	held    map[ociregistry.Digest]int
	total   int64 // bytes, each digest once
}

// holding is a blob or a manifest of a repository.
type holding struct {
	kind   kind
	repo   string
	digest ociregistry.Digest
}

type entry struct {
	holding
	size   int64
	record string        // its tag among the records
	place  *list.Element // nil as long as the content is not there
}

func (l *ledger) init(c *Cache) {
	l.cache, l.max = c, c.opts.MaxBytes
	if l.max <= 0 {
		return
	}
	l.ready = make(chan struct{})
	l.entries = make(map[holding]*entry)
	l.blobs, l.others = list.New(), list.New()
	l.held = make(map[ociregistry.Digest]int)
	c.working.Add(1)
	go func() {
		defer c.working.Done()
		defer close(l.ready)
		l.load(c.ctx)
	}()
}

// load reads the records.
func (l *ledger) load(ctx context.Context) {
	var entries []*entry
	var times []string
	repos := make(map[string]string)
	for tag, err := range l.cache.cache.Tags(ctx, stateRepo, "") {
		if err != nil {
			if !notFound(err) {
				l.cache.warn("cannot read what is kept", target{"Tags", stateRepo, ""}, err)
			}
			break
		}
		if e, time, ok := l.parseRecord(ctx, tag, repos); ok {
			entries, times = append(entries, e), append(times, time)
		}
	}
	order := make([]int, len(entries))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		return cmp.Or(cmp.Compare(len(times[i]), len(times[j])), cmp.Compare(times[i], times[j]))
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range order {
		if l.entries[entries[i].holding] == nil {
			l.add(entries[i])
			l.place(entries[i])
		}
	}
}

// reserve makes room for content, and records it. It reports whether the content
// is to be kept; if so, keep or drop has to be called when it was pushed.
func (l *ledger) reserve(ctx context.Context, k kind, repo string, desc ociregistry.Descriptor) bool {
	if l.max <= 0 {
		return true
	}
	if desc.Size > l.max {
		return false
	}
	select {
	case <-l.ready:
	case <-ctx.Done():
		return false
	}
	h := holding{k, repo, desc.Digest}
	l.mu.Lock()
	if l.entries[h] != nil {
		l.mu.Unlock()
		return true
	}
	need := desc.Size
	if l.held[desc.Digest] > 0 {
		need = 0
	}
	victims := l.victims(need)
	fits := l.total+need <= l.max
	var e *entry
	if fits {
		e = &entry{holding: h, size: desc.Size, record: recordTag(h, desc.Size)}
		l.add(e)
	}
	l.mu.Unlock()
	for _, victim := range victims {
		l.evict(ctx, victim)
	}
	return fits && l.stillFits(e) && l.write(ctx, e)
}

// stillFits takes out an entry for which no room could be made.
func (l *ledger) stillFits(e *entry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total <= l.max {
		return true
	}
	if l.entries[e.holding] == e {
		l.take(e)
	}
	return false
}

// write records an entry before there is content for it: what a crash leaves is
// known.
func (l *ledger) write(ctx context.Context, e *entry) bool {
	if err := l.cache.writeRecord(ctx, e); err != nil {
		l.cache.warn("cannot record what is kept", target{"PushManifest", e.repo, string(e.digest)}, err)
		l.remove(e.holding)
		return false
	}
	return true
}

// victims takes entries out until there is room for more bytes, or no entry is
// left. The lock is held.
func (l *ledger) victims(need int64) (victims []*entry) {
	for l.total+need > l.max {
		last := l.blobs.Back()
		if last == nil {
			last = l.others.Back()
		}
		if last == nil {
			break
		}
		e := last.Value.(*entry)
		l.take(e)
		victims = append(victims, e)
	}
	return victims
}

// evict removes content from the cache registry. What cannot be removed still
// counts, and is tried again when everything else has gone. If that is because a
// manifest names it, manifests are kept from now on so that they name nothing.
func (l *ledger) evict(ctx context.Context, e *entry) {
	ctx = ociregistry.AllowInUse(context.WithoutCancel(ctx))
	var err error
	if e.kind == kindBlob {
		err = l.cache.cache.DeleteBlob(ctx, e.repo, e.digest)
	} else {
		err = l.cache.cache.DeleteManifest(ctx, e.repo, e.digest)
	}
	if errors.Is(err, ociregistry.ErrInUse) {
		l.cache.private.Store(true)
	}
	if err != nil && !notFound(err) {
		l.cache.warn("cannot make room in the cache", target{"DeleteBlob", e.repo, string(e.digest)}, err)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.entries[e.holding] == nil {
			l.add(e)
			l.place(e)
		}
		return
	}
	l.cache.deleteRecord(ctx, e)
}

// keep is called when the content is there.
func (l *ledger) keep(k kind, repo string, digest ociregistry.Digest) {
	if l.max <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[holding{k, repo, digest}]; e != nil {
		l.place(e)
	}
}

// drop is called when the content is not there.
func (l *ledger) drop(ctx context.Context, k kind, repo string, digest ociregistry.Digest) {
	if l.max <= 0 {
		return
	}
	if e := l.remove(holding{k, repo, digest}); e != nil {
		l.cache.deleteRecord(context.WithoutCancel(ctx), e)
	}
}

func (l *ledger) remove(h holding) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[h]
	if e != nil {
		l.take(e)
	}
	return e
}

// touch is called when content was read. It reports whether that has the size that is
// recorded, as far as there is a record, and the cache registry tells the size.
func (l *ledger) touch(k kind, repo string, digest ociregistry.Digest, rd ociregistry.BlobReader) bool {
	return l.max <= 0 || l.used(k, repo, digest, rd)
}

// used makes an entry the most recently used. What was kept before there was a
// bound is counted from now on.
func (l *ledger) used(k kind, repo string, digest ociregistry.Digest, rd ociregistry.BlobReader) bool {
	if e := l.latest.Load(); e != nil && e.digest == digest && e.repo == repo && e.kind == k {
		return l.fits(e, rd)
	}
	select {
	case <-l.ready:
	default:
		return true
	}
	l.mu.Lock()
	e := l.entries[holding{k, repo, digest}]
	if e != nil && e.place != nil {
		l.place(e)
	}
	l.mu.Unlock()
	if e != nil {
		return l.fits(e, rd)
	}
	size := rd.Descriptor().Size
	if size < 0 || size > l.max || l.cache.begin() != nil {
		return true
	}
	go func() {
		defer l.cache.working.Done()
		if l.reserve(l.cache.ctx, k, repo, ociregistry.Descriptor{Digest: digest, Size: size}) {
			l.keep(k, repo, digest)
		}
	}()
	return true
}

// fits reports whether what is read may be what was recorded.
func (l *ledger) fits(e *entry, rd ociregistry.BlobReader) bool {
	if l.sound {
		return true
	}
	size := rd.Descriptor().Size
	return size < 0 || e.size == size
}

// add counts an entry. The lock is held.
func (l *ledger) add(e *entry) {
	l.entries[e.holding] = e
	if l.held[e.digest]++; l.held[e.digest] == 1 {
		l.total += e.size
	}
}

// take takes an entry out. The lock is held.
func (l *ledger) take(e *entry) {
	delete(l.entries, e.holding)
	l.latest.CompareAndSwap(e, nil)
	if e.place != nil {
		l.list(e).Remove(e.place)
		e.place = nil
	}
	if l.held[e.digest]--; l.held[e.digest] == 0 {
		delete(l.held, e.digest)
		l.total -= e.size
	}
}

// place makes an entry the most recently used. The lock is held.
func (l *ledger) place(e *entry) {
	l.latest.Store(e)
	if e.place != nil {
		l.list(e).MoveToFront(e.place)
		return
	}
	e.place = l.list(e).PushFront(e)
}

func (l *ledger) list(e *entry) *list.List {
	if e.kind == kindBlob {
		return l.blobs
	}
	return l.others
}
