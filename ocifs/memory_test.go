package ocifs_test

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
)

// TestMemoryOfUploads uploads many blobs at once, all of them in part before the
// first is complete, and checks the memory of the server. The blobs have 2 MiB, and
// with OCIFS_FULL 64 MiB.
func TestMemoryOfUploads(t *testing.T) {
	t.Parallel()
	const (
		uploads = 64
		bar     = 40 << 20 // bytes above what the idle server has
	)
	size := int64(2 << 20)
	if os.Getenv("OCIFS_FULL") != "" {
		size = 64 << 20
	}
	for _, way := range blobPushes {
		t.Run(way.name, func(t *testing.T) {
			dir := scratch.Kept(t)
			p := startServer(t, dir)
			c := newContents(size)
			goOn := make(chan struct{})
			resume := sync.OnceFunc(func() { close(goOn) })
			var wg sync.WaitGroup
			defer wg.Wait()
			defer resume()
			for range uploads {
				d, content := c.next(t)
				pause := readerFunc(func([]byte) (int, error) { <-goOn; return 0, io.EOF })
				body := io.MultiReader(io.LimitReader(content, size/2), pause, content)
				wg.Go(func() { qt.Check(t, qt.IsNil(way.push(p.site, d, body, size))) })
			}
			eventually(t, "all uploads are under way", func() bool {
				return filesFrom(dir, size/4) == uploads || t.Failed()
			})
			resume()
			wg.Wait()
			u := p.stop()
			t.Logf("%d uploads of %d MiB took %.1f MiB of heap, %.1f MiB of resident memory", uploads, size>>20, mebibytes(u.Heap), mebibytes(u.Resident))
			qt.Check(t, qt.IsTrue(u.Heap < bar))
			qt.Check(t, qt.IsTrue(u.Resident < bar))
		})
	}
}

// filesFrom returns how many files below dir have size bytes or more. Some may go
// meanwhile.
func filesFrom(dir string, size int64) (n int) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Size() >= size {
			n++
		}
		return nil
	})
	return n
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }
