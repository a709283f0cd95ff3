package ocicopy

import (
	"bytes"
	"context"
	"sync"

	"github.com/seed-40b21970/oci/internal/flight"
	"github.com/seed-40b21970/oci/ociregistry"
)

// makesIndex reports whether the mirror may make a new index of a manifest.
func (o Origin) makesIndex(desc ociregistry.Descriptor) bool {
	return o.rule.rule.DropOthers && isIndex(desc.MediaType)
}

// newIndex returns what the mirror makes of an index. It makes it once for all callers
// that ask at the same time.
func (v *onDemand) newIndex(ctx context.Context, o Origin, desc ociregistry.Descriptor) (*node, error) {
	of := indexKey{o.Repository, desc.Digest}
	if n := v.indexes.lookup(of); n != nil {
		return n, nil
	}
	return v.indexes.building.Do(ctx, of, func(ctx context.Context) (*node, error) {
		if n := v.indexes.lookup(of); n != nil { // made since
			return n, nil
		}
		return v.buildIndex(ctx, o, desc)
	})
}

// buildIndex makes what the mirror makes of an index, and remembers it and the new
// indexes that it names.
func (v *onDemand) buildIndex(ctx context.Context, o Origin, desc ociregistry.Descriptor) (*node, error) {
	opts := v.mirror.opts.Copy // for the limits
	opts.Referrers, opts.CosignTags = false, false
	opts.Platforms, opts.DropOthers = o.rule.platforms, true
	opts.inner = inner{onlyIndexes: true, resolved: desc}
	c := newCopier(Place{Registry: emptyRegistry, Repository: o.Repository}, Place{o.Registry, o.Repository, string(desc.Digest)}, true, &opts)
	err := c.resolve(ctx)
	if err == nil {
		err = c.walk(ctx)
	}
	if err != nil {
		return nil, err
	}
	for _, n := range c.nodes {
		if n.madeOf != "" {
			v.indexes.add(indexKey{o.Repository, n.digest}, n)
		}
	}
	v.indexes.add(indexKey{o.Repository, desc.Digest}, c.top)
	return c.top, nil
}

// emptyRegistry is a registry that has nothing.
var emptyRegistry = &ociregistry.Funcs{
	ResolveManifest_: func(context.Context, string, ociregistry.Digest) (ociregistry.Descriptor, error) {
		return ociregistry.Descriptor{}, ociregistry.ErrManifestUnknown
	},
	ResolveBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.Descriptor, error) {
		return ociregistry.Descriptor{}, ociregistry.ErrBlobUnknown
	},
}

// indexKey names an index: one of the source, or a new one.
type indexKey struct {
	repo   string
	digest ociregistry.Digest
}

// indexCache remembers new indexes, by their own key and by that of the index of which
// they were made.
type indexCache struct {
	building flight.Group[indexKey, *node]

	mu    sync.Mutex
	nodes map[indexKey]*node
	bytes int64
}

// maxIndexes is the maximum size in bytes of the indexes to remember. When there is
// more, all are forgotten, which costs the source some requests.
const maxIndexes = 16 << 20

// lookup returns an index that is remembered, or nil.
func (r *indexCache) lookup(of indexKey) *node {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nodes[of]
}

func (r *indexCache) add(of indexKey, n *node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	const overhead = 1 << 10
	r.bytes += n.size + overhead
	if r.nodes == nil || r.bytes > maxIndexes {
		r.nodes, r.bytes = make(map[indexKey]*node), n.size+overhead
	}
	r.nodes[of] = &node{digest: n.digest, mediaType: n.mediaType, size: n.size, contents: n.contents}
}

// reader returns a reader of the contents of n.
func (n *node) reader() ociregistry.BlobReader {
	return &nodeReader{bytes.NewReader(n.contents), n.descriptor()}
}

// nodeReader reads a manifest in memory.
type nodeReader struct {
	*bytes.Reader
	desc ociregistry.Descriptor
}

func (r *nodeReader) Close() error                       { return nil }
func (r *nodeReader) Descriptor() ociregistry.Descriptor { return r.desc }
