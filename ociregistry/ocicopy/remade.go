package ocicopy

import (
	"bytes"
	"context"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

// remakes reports whether the mirror makes a new manifest of one.
func (o Origin) remakes(desc ociregistry.Descriptor) bool {
	return o.rule.rule.DropOthers && isIndex(desc.MediaType)
}

// remake returns what the mirror makes of an index.
func (v *onDemand) remake(ctx context.Context, o Origin, desc ociregistry.Descriptor) (*node, error) {
	of := remadeKey{o.Repo, desc.Digest}
	if n := v.remade.get(of); n != nil {
		return n, nil
	}
	opts := v.mirror.opts.Copy // for its limits
	opts.Referrers, opts.CosignTags = false, false
	opts.Platforms, opts.DropOthers = o.rule.platforms, true
	opts.inner = inner{onlyIndexes: true, resolved: desc}
	c := newCopier(Place{Registry: nothing, Repo: o.Repo}, Place{o.Registry, o.Repo, string(desc.Digest)}, &opts, true)
	err := c.resolve(ctx)
	if err == nil {
		err = c.walk(ctx)
	}
	if err != nil {
		return nil, err
	}
	for _, n := range c.nodes {
		if n.madeOf != "" {
			v.remade.add(remadeKey{o.Repo, n.digest}, n)
		}
	}
	v.remade.add(of, c.top)
	return c.top, nil
}

// nothing is a registry that has nothing.
var nothing = &ociregistry.Funcs{
	ResolveManifest_: func(context.Context, string, ociregistry.Digest) (ociregistry.Descriptor, error) {
		return ociregistry.Descriptor{}, ociregistry.ErrManifestUnknown
	},
	ResolveBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.Descriptor, error) {
		return ociregistry.Descriptor{}, ociregistry.ErrBlobUnknown
	},
}

// remadeKey is a manifest: one of the source of which another was made, or one that
// was made.
type remadeKey struct {
	repo   string
	digest ociregistry.Digest
}

// remade are the indexes that are remembered, by both keys.
type remade struct {
	mu    sync.Mutex
	nodes map[remadeKey]*node
	bytes int64
}

// maxRemade bounds the bytes of what is remembered. Beyond it all is forgotten,
// which costs the source some requests.
const maxRemade = 16 << 20

func (r *remade) get(of remadeKey) *node {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nodes[of]
}

func (r *remade) add(of remadeKey, n *node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	const overhead = 1 << 10
	r.bytes += n.size + overhead
	if r.nodes == nil || r.bytes > maxRemade {
		r.nodes, r.bytes = make(map[remadeKey]*node), n.size+overhead
	}
	r.nodes[of] = &node{digest: n.digest, mediaType: n.mediaType, size: n.size, contents: n.contents}
}

// reader returns a reader of the contents of n.
func (n *node) reader() ociregistry.BlobReader {
	return &nodeReader{bytes.NewReader(n.contents), n.descriptor()}
}

// nodeReader is the reader of a manifest that is in memory.
type nodeReader struct {
	*bytes.Reader
	desc ociregistry.Descriptor
}

func (r *nodeReader) Close() error                       { return nil }
func (r *nodeReader) Descriptor() ociregistry.Descriptor { return r.desc }
