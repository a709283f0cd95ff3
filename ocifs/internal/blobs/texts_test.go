package blobs

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
)

// Texts does not exceed its limit of memory, even with many small texts.
func TestTexts_CountsWhatAnEntryCosts(t *testing.T) {
	// It looks at all of the memory.
	const size = 40
	live := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := live()
	c := new(Texts)
	for i := range 60_000 {
		text := fmt.Sprintf("%0*d", size, i)
		c.Add(digest.FromString(text), text)
	}
	qt.Check(t, qt.IsTrue(int64(live())-int64(before) < maxTexts*5/4), qt.Commentf("%d bytes", int64(live())-int64(before)))
	qt.Check(t, qt.IsTrue(c.bytes <= maxTexts && len(c.items) == c.bytes/(size+textBytes)))
	last := fmt.Sprintf("%0*d", size, 59_999)
	_, ok := c.Get(digest.FromString(last))
	qt.Check(t, qt.IsTrue(ok))
	c.Remove(digest.FromString(last))
	c.Remove(digest.FromString(last))
	_, ok = c.Get(digest.FromString(last))
	qt.Check(t, qt.IsFalse(ok))
	qt.Check(t, qt.Equals(len(c.items), c.bytes/(size+textBytes)))
	runtime.KeepAlive(c)
}
