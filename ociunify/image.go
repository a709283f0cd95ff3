package ociunify

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

const (
	// imageConcurrency is the maximum number of blobs of whole images that are fetched
	// at the same time.
	imageConcurrency = 4

	// maxImages is the maximum number of whole images that are fetched at the same time,
	// maxImageManifests that of the manifests of one image, and maxImageParts that of its
	// manifests and blobs.
	maxImages         = 256
	maxImageManifests = 4096
	maxImageParts     = 1 << 16
)

// imageFetches keeps track of the whole images that are fetched in the background.
type imageFetches struct {
	slots chan struct{} // each holds a value while a blob is fetched

	mu     sync.Mutex
	jobs   int
	active map[holding]bool // the manifests of all of them
}

// isImagePart is a key of the contexts with which parts of a whole image are fetched.
type isImagePart struct{}

// fetchImage fetches the rest of the image with a manifest in the background, unless
// that is under way.
func (c *Cache) fetchImage(ctx context.Context, repo string, d ociregistry.Digest) {
	if ctx.Value(isImagePart{}) != nil {
		return
	}
	f := &imageFetch{cache: c, repo: repo, seen: make(map[ociregistry.Digest]bool)}
	if !f.claim(d) {
		return
	}
	if !c.images.start() {
		f.release()
		f.warn(d, fmt.Errorf("%d other images are being fetched", maxImages))
		return
	}
	if c.startWork() != nil {
		c.images.end()
		f.release()
		return
	}
	t := c.detach(context.WithValue(ctx, isImagePart{}, true))
	go func() {
		defer c.working.Done()
		defer c.images.end()
		defer f.release()
		defer t.end()
		f.run(t, d)
	}()
}

func (fs *imageFetches) start() bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.jobs == maxImages {
		return false
	}
	fs.jobs++
	return true
}

func (fs *imageFetches) end() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.jobs--
}

// imageFetch fetches all of an image.
type imageFetch struct {
	cache  *Cache
	repo   string
	seen   map[ociregistry.Digest]bool
	claims []holding
	size   int64 // the bytes of its blobs, if there is a limit
	blobs  sync.WaitGroup
}

// claim adds a manifest to the image. It returns false if the image already has the
// manifest, or if it belongs to another image that is being fetched.
func (f *imageFetch) claim(d ociregistry.Digest) bool {
	if f.seen[d] {
		return false
	}
	f.seen[d] = true
	fs, h := &f.cache.images, holding{kindManifest, f.repo, d}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.active[h] {
		return false
	}
	if fs.active == nil {
		fs.active = make(map[holding]bool)
	}
	fs.active[h] = true
	f.claims = append(f.claims, h)
	return true
}

// release releases the manifests that were claimed.
func (f *imageFetch) release() {
	fs := &f.cache.images
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, h := range f.claims {
		delete(fs.active, h)
	}
}

// run fetches everything that belongs to a manifest, which has been claimed. It logs
// what cannot be fetched, and fetches the rest.
func (f *imageFetch) run(ctx context.Context, d ociregistry.Digest) {
	defer f.blobs.Wait()
	queue := []manifest.Ref{{Digest: d}}
	for len(queue) > 0 && ctx.Err() == nil {
		ref := queue[0]
		queue = queue[1:]
		for _, more := range f.visit(ctx, ref) {
			if len(f.claims) == maxImageManifests || len(f.seen) > maxImageParts {
				f.warn(more.Digest, fmt.Errorf("the image has more than %d manifests, or more than %d manifests and blobs", maxImageManifests, maxImageParts))
				return
			}
			if f.claim(more.Digest) {
				queue = append(queue, more)
			}
		}
	}
}

// visit fetches a manifest and its blobs. It returns the manifests that it names and
// those that refer to it.
func (f *imageFetch) visit(ctx context.Context, ref manifest.Ref) []manifest.Ref {
	at := call.New("GetManifest", f.repo, string(ref.Digest))
	rd, _, err := f.cache.getManifest(ctx, at)
	if _, known := manifest.Known(ref.MediaType); notFound(err) && !known && ref.MediaType != "" {
		f.fetchBlob(ctx, ref) // an index of BuildKit can name blobs
		return nil
	}
	var m manifestContent
	if err == nil {
		m, err = readManifest(at, rd, ref.Digest)
	}
	var info manifest.Info
	if err == nil {
		info, err = manifest.Parse(m.desc.MediaType, string(m.contents))
	}
	children := info.Manifests
	if platforms := f.cache.opts.Platforms; err == nil && platforms != nil && manifest.IsIndex(m.desc.MediaType) {
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
		f.warn(ref.Digest, err)
		return nil
	}
	for _, blob := range info.Blobs {
		if !blob.Elsewhere && !f.seen[blob.Digest] {
			f.seen[blob.Digest] = true
			f.fetchBlob(ctx, blob)
		}
	}
	return append(f.referrers(ctx, ref.Digest), children...)
}

// referrers returns the referrers of a manifest.
func (f *imageFetch) referrers(ctx context.Context, d ociregistry.Digest) (refs []manifest.Ref) {
	for desc, err := range f.cache.Referrers(ctx, f.repo, d, "") {
		if err == nil {
			err = ociregistry.CheckDigest(desc.Digest)
		}
		if errors.Is(err, ociregistry.ErrUnsupported) || notFound(err) {
			break
		}
		if err != nil {
			f.warn(d, err)
			break
		}
		if refs = append(refs, manifest.Ref{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}); len(refs) > maxImageManifests {
			break
		}
	}
	return refs
}

// fetchBlob fetches a blob in the background, unless it is kept. It waits until fewer than
// imageConcurrency blobs are being fetched.
func (f *imageFetch) fetchBlob(ctx context.Context, ref manifest.Ref) {
	c := f.cache
	if limit := c.opts.MaxBytes; limit > 0 {
		if ref.Size > limit-f.size {
			f.warn(ref.Digest, fmt.Errorf("the image has more than %d bytes, the limit of the cache", limit))
			return
		}
		f.size += ref.Size
	}
	if _, err := c.kept.ResolveBlob(ctx, f.repo, ref.Digest); err == nil {
		return
	}
	select {
	case c.images.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	f.blobs.Go(func() {
		defer func() { <-c.images.slots }()
		if _, err := c.read(ctx, c.key(kindBlob, f.repo, string(ref.Digest))); err != nil && ctx.Err() == nil {
			f.warn(ref.Digest, err)
		}
	})
}

func (f *imageFetch) warn(d ociregistry.Digest, err error) {
	f.cache.warn("cannot fetch all of an image", call.New("Get", f.repo, string(d)), err)
}
