package ociunify

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// ledger knows what the cache registry holds, if there is a limit for that, and what
// to delete first.
type ledger struct {
	cache    *Cache
	max      int64         // bytes; 0 means no limit
	verified bool          // the cache registry returns no damaged content
	ready    chan struct{} // closed when the records have been read

	// latest is the entry that was used most recently, or nil. Reading it once more
	// changes nothing, and takes no lock.
	latest atomic.Pointer[entry]

	mu      sync.Mutex
	entries map[holding]*entry
	blobs   *list.List                 // of *entry, the most recently used first
	others  *list.List                 // the same for manifests
	held    map[ociregistry.Digest]int // the number of entries with a digest
	total   int64                      // bytes, each digest once
}

// holding is a blob or a manifest of a repository.
type holding struct {
	kind   kind
	repo   string
	digest ociregistry.Digest
}

type entry struct {
	holding
	size    int64
	record  string        // the tag of its record
	element *list.Element // nil while the content is not stored
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
				l.cache.warn("cannot read what is kept", call.New("Tags", stateRepo, ""), err)
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
			l.moveToFront(entries[i])
		}
	}
}

// reserve makes room for content, and records it. It reports whether the content
// is to be kept. If so, the caller must call confirm when it has pushed the content,
// or drop if that failed.
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

// stillFits reports whether there is room for an entry. If not, it removes the entry.
func (l *ledger) stillFits(e *entry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total <= l.max {
		return true
	}
	if l.entries[e.holding] == e {
		l.removeEntry(e)
	}
	return false
}

// write records an entry before its content is stored, so that content is known even
// after a crash.
func (l *ledger) write(ctx context.Context, e *entry) bool {
	if err := l.cache.writeRecord(ctx, e); err != nil {
		l.cache.warn("cannot record what is kept", call.New("PushManifest", e.repo, string(e.digest)), err)
		l.remove(e.holding)
		return false
	}
	return true
}

// victims removes entries until there is room for need bytes, or no entry is left, and
// returns them. The lock is held.
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
		l.removeEntry(e)
		victims = append(victims, e)
	}
	return victims
}

// evict deletes the content of an entry from the cache registry. Content that cannot be
// deleted still counts, and becomes the last to be tried again. If it cannot be deleted
// because a manifest names it, manifests are from now on kept under a media type with
// which they name nothing.
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
		l.cache.warn("cannot make room in the cache", call.New("DeleteBlob", e.repo, string(e.digest)), err)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.entries[e.holding] == nil {
			l.add(e)
			l.moveToFront(e)
		}
		return
	}
	l.cache.deleteRecord(ctx, e)
}

// confirm is called when content has been stored.
func (l *ledger) confirm(k kind, repo string, digest ociregistry.Digest) {
	if l.max <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[holding{k, repo, digest}]; e != nil {
		l.moveToFront(e)
	}
}

// drop is called when content has not been stored, or has been deleted.
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
		l.removeEntry(e)
	}
	return e
}

// touch is called when content is read. It returns false if the record has another
// size than the reader.
func (l *ledger) touch(k kind, repo string, digest ociregistry.Digest, rd ociregistry.BlobReader) bool {
	return l.max <= 0 || l.recordUse(k, repo, digest, rd)
}

// recordUse makes an entry the most recently used. Content that was kept when there
// was no limit counts from now on.
func (l *ledger) recordUse(k kind, repo string, digest ociregistry.Digest, rd ociregistry.BlobReader) bool {
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
	if e != nil && e.element != nil {
		l.moveToFront(e)
	}
	l.mu.Unlock()
	if e != nil {
		return l.fits(e, rd)
	}
	size := rd.Descriptor().Size
	if size < 0 || size > l.max || l.cache.startWork() != nil {
		return true
	}
	go func() {
		defer l.cache.working.Done()
		if l.reserve(l.cache.ctx, k, repo, ociregistry.Descriptor{Digest: digest, Size: size}) {
			l.confirm(k, repo, digest)
		}
	}()
	return true
}

// fits reports whether a reader may have the content of an entry, by its size. The
// cache registry need not know the size.
func (l *ledger) fits(e *entry, rd ociregistry.BlobReader) bool {
	if l.verified {
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

// removeEntry removes an entry. The lock is held.
func (l *ledger) removeEntry(e *entry) {
	delete(l.entries, e.holding)
	l.latest.CompareAndSwap(e, nil)
	if e.element != nil {
		l.list(e).Remove(e.element)
		e.element = nil
	}
	if l.held[e.digest]--; l.held[e.digest] == 0 {
		delete(l.held, e.digest)
		l.total -= e.size
	}
}

// moveToFront makes an entry the most recently used. The lock is held.
func (l *ledger) moveToFront(e *entry) {
	l.latest.Store(e)
	if e.element != nil {
		l.list(e).MoveToFront(e.element)
		return
	}
	e.element = l.list(e).PushFront(e)
}

func (l *ledger) list(e *entry) *list.List {
	if e.kind == kindBlob {
		return l.blobs
	}
	return l.others
}
