package ociunify

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

const (
	// wholeConcurrency is how many blobs of whole images are fetched at a time.
	wholeConcurrency = 4

	// maxWholes is how many whole images are brought at a time, maxWhole how many
	// manifests can belong to one, and maxParts how many manifests and blobs.
	maxWholes = 256
	maxWhole  = 4096
	maxParts  = 1 << 16
)

// wholes are the images that are brought as a whole, in the background.
type wholes struct {
	slots chan struct{} // each holds a value while a blob is fetched

	mu     sync.Mutex
	jobs   int
	active map[holding]bool // the manifests
}

// isPart is the key of a context of which all that is fetched is part of an image
// that is being brought.
type isPart struct{}

// bringWhole brings the image with a manifest, unless that is under way.
func (c *Cache) bringWhole(ctx context.Context, repo string, d ociregistry.Digest) {
	if ctx.Value(isPart{}) != nil {
		return
	}
	w := &whole{cache: c, repo: repo, seen: make(map[ociregistry.Digest]bool)}
	if !w.claim(d) {
		return
	}
	if !c.wholes.begin() {
		w.release()
		w.warn(d, fmt.Errorf("%d other images are being brought", maxWholes))
		return
	}
	if c.begin() != nil {
		c.wholes.end()
		w.release()
		return
	}
	t := c.detach(context.WithValue(ctx, isPart{}, true))
	go func() {
		defer c.working.Done()
		defer c.wholes.end()
		defer w.release()
		defer t.end()
		w.run(t, d)
	}()
}

func (ws *wholes) begin() bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.jobs == maxWholes {
		return false
	}
	ws.jobs++
	return true
}

func (ws *wholes) end() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.jobs--
}

// whole is an image that is being brought.
type whole struct {
	cache  *Cache
	repo   string
	seen   map[ociregistry.Digest]bool
	claims []holding
	size   int64 // bytes of the blobs that are brought, if they are bounded
	blobs  sync.WaitGroup
}

// claim reports whether a manifest is new to the image, and nobody else's.
func (w *whole) claim(d ociregistry.Digest) bool {
	if w.seen[d] {
		return false
	}
	w.seen[d] = true
	ws, h := &w.cache.wholes, holding{kindManifest, w.repo, d}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.active[h] {
		return false
	}
	if ws.active == nil {
		ws.active = make(map[holding]bool)
	}
	ws.active[h] = true
	w.claims = append(w.claims, h)
	return true
}

// release gives back what was claimed.
func (w *whole) release() {
	ws := &w.cache.wholes
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, h := range w.claims {
		delete(ws.active, h)
	}
}

// run brings all that belongs to a manifest, which was claimed. What cannot be
// brought does not keep the rest from coming.
func (w *whole) run(ctx context.Context, d ociregistry.Digest) {
	defer w.blobs.Wait()
	queue := []manifest.Ref{{Digest: d}}
	for len(queue) > 0 && ctx.Err() == nil {
		ref := queue[0]
		queue = queue[1:]
		for _, more := range w.visit(ctx, ref) {
			if len(w.claims) == maxWhole || len(w.seen) > maxParts {
				w.warn(more.Digest, fmt.Errorf("more than %d manifests belong to the image, or %d blobs", maxWhole, maxParts))
				return
			}
			if w.claim(more.Digest) {
				queue = append(queue, more)
			}
		}
	}
}

// visit brings a manifest and its blobs. It returns the manifests that it names, and
// those that refer to it.
func (w *whole) visit(ctx context.Context, ref manifest.Ref) []manifest.Ref {
	rd, err := w.cache.GetManifest(ctx, w.repo, ref.Digest)
	if _, known := manifest.Known(ref.MediaType); notFound(err) && !known && ref.MediaType != "" {
		w.bringBlob(ctx, ref) // as an index of BuildKit names them
		return nil
	}
	var m manifestContent
	if err == nil {
		m, err = readManifest(target{"GetManifest", w.repo, string(ref.Digest)}, rd, ref.Digest)
	}
	var info manifest.Info
	if err == nil {
		info, err = manifest.Parse(m.desc.MediaType, string(m.contents))
	}
	children := info.Manifests
	if platforms := w.cache.opts.Platforms; err == nil && platforms != nil && manifest.IsIndex(m.desc.MediaType) {
		var entries []manifest.Entry
		entries, err = manifest.Choose(m.contents, children, platforms)
		children = nil
		for _, e := range entries {
			if e.Kept {
				children = append(children, e.Ref)
			}
		}
	}
	if err != nil {
		w.warn(ref.Digest, err)
		return nil
	}
	for _, blob := range info.Blobs {
		if !blob.Elsewhere && !w.seen[blob.Digest] {
			w.seen[blob.Digest] = true
			w.bringBlob(ctx, blob)
		}
	}
	return append(w.referrers(ctx, ref.Digest), children...)
}

// referrers returns what refers to a manifest.
func (w *whole) referrers(ctx context.Context, d ociregistry.Digest) (refs []manifest.Ref) {
	for desc, err := range w.cache.Referrers(ctx, w.repo, d, "") {
		if err == nil {
			err = ociregistry.CheckDigest(desc.Digest)
		}
		if errors.Is(err, ociregistry.ErrUnsupported) || notFound(err) {
			break
		}
		if err != nil {
			w.warn(d, err)
			break
		}
		if refs = append(refs, manifest.Ref{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}); len(refs) > maxWhole {
			break
		}
	}
	return refs
}

// bringBlob begins to fetch a blob, if it is not there, when its turn comes.
func (w *whole) bringBlob(ctx context.Context, ref manifest.Ref) {
	c := w.cache
	if limit := c.opts.MaxBytes; limit > 0 {
		if ref.Size > limit-w.size {
			w.warn(ref.Digest, fmt.Errorf("the image has more than %d bytes, which are the bound", limit))
			return
		}
		w.size += ref.Size
	}
	if _, err := c.kept.ResolveBlob(ctx, w.repo, ref.Digest); err == nil {
		return
	}
	select {
	case c.wholes.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	w.blobs.Go(func() {
		defer func() { <-c.wholes.slots }()
		if _, err := c.read(ctx, c.key(kindBlob, w.repo, string(ref.Digest))); err != nil && ctx.Err() == nil {
			w.warn(ref.Digest, err)
		}
	})
}

func (w *whole) warn(d ociregistry.Digest, err error) {
	w.cache.warn("cannot bring all of an image", target{"Get", w.repo, string(d)}, err)
}
