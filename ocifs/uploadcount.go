package ocifs

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// sessionCount bounds how many sessions with bytes there are. It counts those that
// begin and end in this process, and from time to time those that have files.
type sessionCount struct {
	max   int                 // none if it is not positive
	files func() (int, error) // how many sessions have files

	mu      sync.Mutex
	n       int       // with bytes, as far as is known
	memory  int       // of these, those of this process that have no files
	counted time.Time // when files was called last
}

// How often the files are counted: while there are fewer sessions than may be, and
// when there are as many.
const (
	countEvery = time.Minute
	countFull  = time.Second
)

// admit counts one more session, which has no files yet.
//
// Errors: [ociregistry.ErrTooManyRequests].
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

// filed tells that a session has got files.
func (c *sessionCount) filed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.memory--
}

// lost tells that a session without files is gone.
func (c *sessionCount) lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.memory--
	c.n--
}

// removed tells that the files of a session are gone.
func (c *sessionCount) removed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n = max(c.n-1, c.memory) // another process may have made them, since the last count
}

// countFiles returns how many sessions have files.
func (u *uploads) countFiles() (n int, err error) {
	entries, err := u.store.fs.ReadDir(u.dir, -1)
	if err != nil && !isAbsent(err) {
		return 0, err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), stateSuffix) {
			n++
		}
	}
	return n, nil
}
