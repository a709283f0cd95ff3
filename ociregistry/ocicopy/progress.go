package ocicopy

import (
	"io"
	"sync"

	"github.com/seed-40b21970/oci/internal/verified"
)

// Progress is how far a copy is. Sums are over all blobs and manifests that have
// been found so far; the totals are complete when the first blob is begun. Items
// that need no copying count as done when that is known.
type Progress struct {
	Item  Item  // what this call is about; its Action is empty until it is known
	Bytes int64 // how many bytes of the item are done

	ItemsDone, ItemsTotal int
	BytesDone, BytesTotal int64
}

// progressStep is how many bytes of a blob go by between two calls.
const progressStep = 256 << 10

// tracker adds up progress. A nil tracker does nothing.
type tracker struct {
	mu     sync.Mutex
	report func(Progress)
	sums   Progress
}

func newTracker(report func(Progress)) *tracker {
	if report == nil {
		return nil
	}
	return &tracker{report: report}
}

// expect adds an item to the totals.
func (t *tracker) expect(size int64) {
	if t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.sums.ItemsTotal++
		t.sums.BytesTotal = addSizes(t.sums.BytesTotal, size)
	}
}

// move tells that an item has come from one byte to another.
func (t *tracker) move(item Item, from, to int64) {
	if t != nil {
		t.tell(item, from, to, 0)
	}
}

// finish tells that an item, of which from bytes have been told, is done.
func (t *tracker) finish(item Item, from int64) {
	if t != nil {
		t.tell(item, from, item.Descriptor.Size, 1)
	}
}

func (t *tracker) tell(item Item, from, to int64, items int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sums.ItemsDone += items
	t.sums.BytesDone = addSizes(t.sums.BytesDone, to-from)
	now := t.sums
	now.Item, now.Bytes = item, to
	t.report(now)
}

// meter counts the bytes that are read of a blob.
type meter struct {
	r       io.Reader
	tracker *tracker
	item    Item
	read    int64
	told    int64
}

// metered returns r such that t is told of what is read from it, and a function
// that returns how many bytes that were. A reader that can seek stays one, so
// that a failed push can begin again.
func metered(r io.Reader, t *tracker, item Item) (io.Reader, func() int64) {
	if t == nil {
		return r, func() int64 { return 0 }
	}
	t.move(item, 0, 0)
	m := &meter{r: r, tracker: t, item: item}
	told := func() int64 { return m.told }
	if s, ok := r.(io.Seeker); ok {
		return &seekingMeter{meter: m, s: s}, told
	}
	return m, told
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.read += int64(n)
	if m.read-m.told >= progressStep {
		m.tell(m.read)
	}
	return n, err
}

// Verified implements [verified.Reader].
func (m *meter) Verified() verified.State { return verified.By(m.r) }

func (m *meter) tell(read int64) {
	m.tracker.move(m.item, m.told, read)
	m.told = read
}

type seekingMeter struct {
	*meter
	s io.Seeker
}

func (m *seekingMeter) Seek(offset int64, whence int) (int64, error) {
	at, err := m.s.Seek(offset, whence)
	if err == nil {
		m.read = at
		if at < m.told {
			m.tell(at)
		}
	}
	return at, err
}
