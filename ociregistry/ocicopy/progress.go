package ocicopy

import (
	"io"
	"sync"

	"github.com/seed-40b21970/oci/internal/verified"
)

// Progress says how far a copy has come. Sums are over all blobs and manifests that
// have been found so far; the totals are complete when the first blob starts. Items
// that need not be copied count as done as soon as that is known.
type Progress struct {
	Item  Item  // its Action is empty until it is known
	Bytes int64 // the number of bytes of the item that are done

	ItemsDone, ItemsTotal int
	BytesDone, BytesTotal int64
}

// progressStep is the number of bytes of a blob between two calls.
const progressStep = 256 << 10

// tracker sums up progress. A nil tracker does nothing.
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

// advance reports that an item has progressed from one byte to another.
func (t *tracker) advance(item Item, from, to int64) {
	if t != nil {
		t.add(item, from, to, 0)
	}
}

// finish reports that an item is done, of which from bytes were reported before.
func (t *tracker) finish(item Item, from int64) {
	if t != nil {
		t.add(item, from, item.Descriptor.Size, 1)
	}
}

func (t *tracker) add(item Item, from, to int64, items int) {
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
	r        io.Reader
	tracker  *tracker
	item     Item
	read     int64
	reported int64
}

// metered returns a reader that reports to t what is read from r, and a function that
// returns how many bytes were reported. The reader implements [io.Seeker] if r does, so
// that a failed push can start again.
func metered(r io.Reader, t *tracker, item Item) (io.Reader, func() int64) {
	if t == nil {
		return r, func() int64 { return 0 }
	}
	t.advance(item, 0, 0)
	m := &meter{r: r, tracker: t, item: item}
	reported := func() int64 { return m.reported }
	if s, ok := r.(io.Seeker); ok {
		return &seekingMeter{meter: m, s: s}, reported
	}
	return m, reported
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.read += int64(n)
	if m.read-m.reported >= progressStep {
		m.reportAt(m.read)
	}
	return n, err
}

// Verified implements [verified.Reader].
func (m *meter) Verified() verified.State { return verified.By(m.r) }

func (m *meter) reportAt(read int64) {
	m.tracker.advance(m.item, m.reported, read)
	m.reported = read
}

type seekingMeter struct {
	*meter
	s io.Seeker
}

func (m *seekingMeter) Seek(offset int64, whence int) (int64, error) {
	at, err := m.s.Seek(offset, whence)
	if err == nil {
		m.read = at
		if at < m.reported {
			m.reportAt(at)
		}
	}
	return at, err
}
