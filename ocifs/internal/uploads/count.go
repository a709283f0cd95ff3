package uploads

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// sessionCount limits the number of sessions with bytes. It counts those that begin
// and end in this process, and from time to time those that have files.
type sessionCount struct {
	max   int                 // the limit; none if it is not positive
	files func() (int, error) // returns the number of sessions with files

	mu      sync.Mutex
	n       int       // sessions with bytes, as far as is known
	memory  int       // those of them that are in this process and have no files
	counted time.Time // when files was last called
}

// The files are counted at these intervals: usually, and while the limit is reached.
const (
	countEvery = time.Minute
	countFull  = time.Second
)

// admit counts one more session, which has no files yet.
//
// Errors: [ociregistry.ErrTooManyRequests], and those of files.
func (c *sessionCount) admit(now time.Time) error {
	if c.max <= 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	age := now.Sub(c.counted)
	if c.counted.IsZero() || age < 0 || age >= countEvery || c.n >= c.max && age >= countFull {
		n, err := c.files()
		if err != nil {
			return err
		}
		c.n, c.counted = n+c.memory, now
	}
	if c.n >= c.max {
		return fmt.Errorf("%w: there are %d upload sessions with content, and no more are allowed", ociregistry.ErrTooManyRequests, c.n)
	}
	c.n++
	c.memory++
	return nil
}

// filed records that a session has got files.
func (c *sessionCount) filed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.memory--
}

// lost records that a session without files is gone.
func (c *sessionCount) lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.memory--
	c.n--
}

// removed records that the files of a session are gone.
func (c *sessionCount) removed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n = max(c.n-1, c.memory) // another process may have created them since the last count
}

// countFiles returns the number of sessions with files.
func (u *Sessions) countFiles() (n int, err error) {
	entries, err := u.work.FS.ReadDir(u.dir, -1)
	if err != nil && !disk.IsAbsent(err) {
		return 0, err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), stateSuffix) {
			n++
		}
	}
	return n, nil
}
