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

// remake returns what the mirror makes of an index. For those who ask at the same time
// it is made once.
func (v *onDemand) remake(ctx context.Context, o Origin, desc ociregistry.Descriptor) (*node, error) {
	of := remadeKey{o.Repo, desc.Digest}
	for {
		n, m, begins := v.remade.get(of)
		if n != nil {
			return n, nil
		}
		if begins {
			m.node, m.err = v.makeOf(ctx, o, desc)
			m.left = ctx.Err() != nil
			v.remade.made(of, m)
			return m.node, m.err
		}
		select {
		case <-m.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if m.err == nil || !m.left {
			return m.node, m.err
		}
	}
}

// makeOf makes a new index of one, and remembers it, and those that it names.
func (v *onDemand) makeOf(ctx context.Context, o Origin, desc ociregistry.Descriptor) (*node, error) {
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
	v.remade.add(remadeKey{o.Repo, desc.Digest}, c.top)
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
	mu     sync.Mutex
	nodes  map[remadeKey]*node
	bytes  int64
	making map[remadeKey]*making
}

// making is an index that is being made.
type making struct {
	done chan struct{} // closed when the rest is there
	node *node
	err  error
	left bool // who made it has not waited for the end
}

// maxRemade bounds the bytes of what is remembered. Beyond it all is forgotten,
// which costs the source some requests.
const maxRemade = 16 << 20

// known returns the index that is remembered, or nil.
func (r *remade) known(of remadeKey) *node {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nodes[of]
}

// get returns the index that is remembered, or else the one that is being made: by
// the caller, if it begins, who must call made.
func (r *remade) get(of remadeKey) (n *node, m *making, begins bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.nodes[of]; n != nil {
		return n, nil, false
	}
	if m := r.making[of]; m != nil {
		return nil, m, false
	}
	if r.making == nil {
		r.making = make(map[remadeKey]*making)
	}
	m = &making{done: make(chan struct{})}
	r.making[of] = m
	return nil, m, true
}

// made is called when an index was made, or could not be.
func (r *remade) made(of remadeKey, m *making) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.making, of)
	close(m.done)
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
