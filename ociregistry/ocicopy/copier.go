package ocicopy

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// copier is one copy. First it finds out what there is to copy (walk.go), which
// leaves the graph below; then it copies that (transfer.go).
type copier struct {
	opts     Options // with the defaults filled in
	dst, src Place
	dry      bool
	tracker  *tracker

	// sameRegistry says that blobs of the source can be mounted.
	sameRegistry bool
	mountFrom    []string

	// remembered says that the destination's tag points at an index that was made
	// of the source's, for the same platforms. It is the top, then.
	remembered bool

	top   *node
	nodes []*node
	blobs []*blob
	seen  map[ociregistry.Digest]*node // those of nodes
	found map[ociregistry.Digest]*blob // those of blobs
	held  atomic.Int64                 // bytes of manifests

	// levels has the nodes in the order in which they can be pushed. Those of
	// one level need nothing of each other.
	levels [][]*node

	tagged  ociregistry.Descriptor // what the destination's tag points at; zero if nothing
	chosen  []*node                // the manifests that Platforms chose
	partial bool                   // of some index, not all
}

// node is a manifest of the graph.
type node struct {
	digest    ociregistry.Digest
	mediaType string // at the source, as far as it is known
	size      int64

	contents []byte // nil as long as nobody needs them
	info     manifest.Info
	children []*node
	blobs    []*blob
	extras   []extra    // what refers to it
	unlisted []Referrer // what could not be found out of that
	tags     []string   // to be set at the destination

	parents []*node // whose children have n, once for each time that they name it
	waits   int     // how many of its children are not in a level yet

	looked  bool   // there is known
	there   bool   // the destination has it
	stored  string // the media type that the destination has it under
	trusted bool   // and all that it names

	byTag    bool // a tag of the source leads to it, and nothing else
	named    bool // an index names it
	inTree   bool // it was found as the top or below it, not as a referrer
	required bool // it is the top or below it
	optional bool // it may be missing at the source: then it is gone
	gone     bool
	isBlob   bool // it is a blob that an index names
	chosen   bool // it was chosen by its platform
	partial  bool // it is an index, and not all its children are copied
	refused  bool // the destination does not take it without them

	entries []manifest.Entry   // of an index of which platforms are chosen
	cut     bool               // it was decided what becomes of it without the others
	madeOf  ociregistry.Digest // the index of the source that it was made of, or ""

	err  error // why it cannot be copied, and the top can
	item Item
}

// blob is a blob of the graph.
type blob struct {
	ref      manifest.Ref
	required bool // the top or what is below it names it

	err  error // why it cannot be copied, and the top can
	item Item
}

func newCopier(dst, src Place, opts *Options, dry bool) *copier {
	c := &copier{
		dst:   dst,
		src:   src,
		dry:   dry,
		seen:  make(map[ociregistry.Digest]*node),
		found: make(map[ociregistry.Digest]*blob),
	}
	if opts != nil {
		c.opts = *opts
	}
	c.opts.Concurrency = cmp.Or(max(c.opts.Concurrency, 0), DefaultConcurrency)
	c.opts.MaxManifestSize = cmp.Or(max(c.opts.MaxManifestSize, 0), DefaultMaxManifestSize)
	c.opts.MaxManifests = cmp.Or(max(c.opts.MaxManifests, 0), DefaultMaxManifests)
	c.opts.MaxBlobs = cmp.Or(max(c.opts.MaxBlobs, 0), DefaultMaxBlobs)
	c.opts.MaxDepth = cmp.Or(max(c.opts.MaxDepth, 0), DefaultMaxDepth)
	if !dry {
		c.tracker = newTracker(c.opts.Progress)
	}
	if c.dst.Ref == "" {
		c.dst.Ref = src.Ref
	}
	c.sameRegistry = same(dst.Registry, src.Registry)
	if c.sameRegistry {
		c.mountFrom = append(c.mountFrom, src.Repo)
	}
	c.mountFrom = append(c.mountFrom, c.opts.MountFrom...)
	c.mountFrom = slices.DeleteFunc(c.mountFrom, func(repo string) bool { return repo == dst.Repo })
	return c
}

// same reports whether a and b are one registry. An Interface can be of a type
// whose values cannot be compared.
func same(a, b ociregistry.Interface) bool {
	if p, ok := b.(*patient); ok {
		b = p.reg
	}
	return reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

func (c *copier) run(ctx context.Context) error {
	if err := c.resolve(ctx); err != nil {
		return err
	}
	if c.opts.inner.admit != nil && !c.top.there {
		if err := c.opts.inner.admit(ctx); err != nil {
			return err
		}
	}
	if err := c.walk(ctx); err != nil {
		return err
	}
	c.expect()
	if err := each(ctx, c.opts.Concurrency, c.blobs, c.blob); err != nil {
		return err
	}
	return c.manifests(ctx)
}

// expect announces the totals.
func (c *copier) expect() {
	for _, b := range c.blobs {
		c.tracker.expect(b.ref.Size)
	}
	for _, n := range c.nodes {
		c.tracker.expect(n.size)
	}
}

// result gathers what was done so far.
func (c *copier) result() Result {
	var r Result
	for _, b := range c.blobs {
		if b.item.Action != "" {
			r.Items = append(r.Items, b.item)
		}
	}
	for _, n := range c.nodes {
		if n.item.Action != "" {
			r.Items = append(r.Items, n.item)
		}
	}
	if c.top != nil {
		r.Descriptor = c.target().descriptor()
		r.MadeOf = c.top.madeOf
	}
	for _, n := range c.nodes {
		r.Missing = append(r.Missing, c.missing(n)...)
	}
	slices.SortFunc(r.Missing, func(a, b Referrer) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Descriptor.Digest, b.Descriptor.Digest), cmp.Compare(a.Tag, b.Tag))
	})
	return r
}

// missing returns what refers to n and was not copied.
func (c *copier) missing(n *node) []Referrer {
	all := n.unlisted
	for _, e := range n.extras {
		e := e.Referrer
		switch extra := c.seen[e.Descriptor.Digest]; {
		case extra == nil: // the copy failed before
			continue
		case extra.gone:
			e.Err = atSource(ociregistry.ErrManifestUnknown)
		case extra.err != nil:
			e.Err = extra.err
		default:
			continue
		}
		all = append(all, e)
	}
	return all
}

// target returns what the destination's tag is to point at: what was asked for,
// or what was chosen of it if the destination does not take it.
func (c *copier) target() *node {
	if c.top.refused && len(c.chosen) == 1 {
		return c.chosen[0]
	}
	return c.top
}

func (n *node) descriptor() ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: n.mediaType, Digest: n.digest, Size: n.size}
}

func (b *blob) descriptor() ociregistry.Descriptor {
	return ociregistry.Descriptor{
		MediaType: cmp.Or(b.ref.MediaType, "application/octet-stream"),
		Digest:    b.ref.Digest,
		Size:      b.ref.Size,
	}
}

// dstTag returns the tag to set, or "".
func (c *copier) dstTag() string {
	if isDigest(c.dst.Ref) {
		return ""
	}
	return c.dst.Ref
}

// choosing reports whether not all children of n are to be copied.
func (c *copier) choosing(n *node) bool {
	return n.inTree && len(c.opts.Platforms) > 0 && isIndex(n.mediaType) && !c.remembered
}
