package repos

import (
	"context"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
)

// writeMark says that somebody should look whether the repository is empty. It returns the key of what says that.
func (r *Repository) writeMark(ctx context.Context) (string, error) {
	key := keys.Mark(r.name, formats.Nonce())
	_, err := r.bucket.Put(ctx, key, nil)
	return key, err
}

// Catalog makes sure that the repository is in the catalog before it has content. A new name is
// marked to be looked at, because the content may never come.
func (r *Repository) Catalog(ctx context.Context) error {
	if r.cataloged.Load() {
		return nil
	}
	o, err := r.bucket.Read(ctx, keys.Catalog(r.name), 0)
	if err == nil && !o.Found {
		if err = r.markNew(ctx); err == nil {
			_, err = r.bucket.Put(ctx, keys.Catalog(r.name), nil)
		}
	}
	if err == nil {
		r.cataloged.Store(true)
	}
	return err
}

func (r *Repository) markNew(ctx context.Context) error {
	key, err := r.writeMark(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.markedNew = append(r.markedNew, key)
	return nil
}

// ContentCame tells that content has come, which was there for sure. So the new name needs no mark any more: who may
// leave the repository empty writes one of his own. If it is not removed here, a collection does it.
func (r *Repository) ContentCame() {
	r.mu.Lock()
	marks := r.markedNew
	r.markedNew = nil
	r.mu.Unlock()
	if len(marks) == 0 {
		return
	}
	r.set.start(func() {
		for _, key := range marks {
			r.bucket.Remove(r.set.ctx, key)
		}
	})
}
