package ocimem

import (
	"context"
	"strings"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

var _ ociregistry.UsageReporter = (*Registry)(nil)

// Usage implements [ociregistry.UsageReporter].
func (r *Registry) Usage(ctx context.Context, prefix string) (int64, error) {
	if prefix != "" {
		if err := ociregistry.CheckRepository(prefix); err != nil {
			return 0, opError(err, "Usage", prefix, "")
		}
	}
	if err := ctx.Err(); err != nil {
		return 0, opError(err, "Usage", prefix, "")
	}
	r.usage.mu.Lock()
	defer r.usage.mu.Unlock()
	return r.usage.below[prefix], nil
}

// usage has the bytes of repositories.
type usage struct {
	mu    sync.Mutex
	below map[string]int64 // by prefix, if there are any
}

// add adds n bytes to a repository and all above it.
func (u *usage) add(repo string, n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for end := len(repo); ; end = max(strings.LastIndexByte(repo[:end], '/'), 0) {
		prefix := repo[:end]
		if u.below[prefix] += n; u.below[prefix] == 0 {
			delete(u.below, prefix)
		}
		if end == 0 {
			return
		}
	}
}
