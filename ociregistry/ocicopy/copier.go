package ocicopy

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/ociregistry"
)

// copier is one copy. It first finds out what there is to copy (walk.go), which builds
// the graph below, and then copies it (transfer.go).
type copier struct {
	opts     Options // with the defaults filled in
	dst, src Place
	dry      bool
	tracker  *tracker

	// sameRegistry is set if blobs of the source can be mounted.
	sameRegistry bool
	mountFrom    []string

	// remembered is set if the destination's tag points at an index that was made of
	// the source's for the same platforms. That index is the top, then.
	remembered bool

	top           *node
	nodes         []*node
	blobs         []*blob
	nodeOf        map[ociregistry.Digest]*node
	blobOf        map[ociregistry.Digest]*blob
	manifestBytes atomic.Int64 // that are in memory

	// levels has the nodes in the order in which they can be pushed. Nodes of one level
	// do not depend on each other.
	levels [][]*node

	tagged  ociregistry.Descriptor // what the destination's tag points at; zero if it does not exist
	chosen  []*node                // the manifests that Platforms chose
	partial bool                   // only a part of some index was chosen
}

// node is a manifest of the graph.
type node struct {
	digest    ociregistry.Digest
	mediaType string // at the source; "" while it is not known
	size      int64

	contents []byte // nil if they have not been read
	info     manifest.Info
	children []*node
	blobs    []*blob
	extras   []extra    // its referrers
	unlisted []Referrer // the lists of referrers that could not be read
	tags     []string   // the tags to set at the destination

	parents []*node // the manifests that name it, once for each time
	waits   int     // the number of its children that are not in a level yet

	checked    bool   // present is known
	present    bool   // the destination has it
	storedType string // its media type at the destination
	trusted    bool   // the destination is trusted to have everything that it names

	byTag    bool // it was found only by a tag of the source
	named    bool // an index names it
	inTree   bool // it is the top or was found below it, not as a referrer
	required bool // it is the top or below it
	optional bool // it may be missing at the source, and is gone then
	gone     bool
	isBlob   bool // it is a blob that an index names
	chosen   bool // Platforms chose it
	partial  bool // it is an index of which not all children are copied
	refused  bool // the destination refuses it without the others

	entries []manifest.Entry   // the entries of an index from which platforms are chosen
	isCut   bool               // cut was called
	madeOf  ociregistry.Digest // the index of the source that it was made of, or ""

	err  error // why it cannot be copied, while the top can
	item Item
}

// blob is a blob of the graph.
type blob struct {
	ref      manifest.Ref
	required bool // the top, or a manifest below it, names it

	err  error // why it cannot be copied, while the top can
	item Item
}

func newCopier(dst, src Place, dry bool, opts *Options) *copier {
	c := &copier{
		dst:    dst,
		src:    src,
		dry:    dry,
		nodeOf: make(map[ociregistry.Digest]*node),
		blobOf: make(map[ociregistry.Digest]*blob),
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
		c.mountFrom = append(c.mountFrom, src.Repository)
	}
	c.mountFrom = append(c.mountFrom, c.opts.MountFrom...)
	c.mountFrom = slices.DeleteFunc(c.mountFrom, func(repo string) bool { return repo == dst.Repository })
	return c
}

// same reports whether a and b are the same registry. The type of an Interface need not
// be comparable.
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
	if c.opts.inner.admit != nil && !c.top.present {
		if err := c.opts.inner.admit(ctx); err != nil {
			return err
		}
	}
	if err := c.walk(ctx); err != nil {
		return err
	}
	c.expect()
	if err := parallel.Each(ctx, c.opts.Concurrency, c.blobs, c.blob); err != nil {
		return err
	}
	return c.manifests(ctx)
}

// expect reports the totals.
func (c *copier) expect() {
	for _, b := range c.blobs {
		c.tracker.expect(b.ref.Size)
	}
	for _, n := range c.nodes {
		c.tracker.expect(n.size)
	}
}

// result returns what was done so far.
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

// missing returns the referrers of n that were not copied.
func (c *copier) missing(n *node) []Referrer {
	all := n.unlisted
	for _, e := range n.extras {
		e := e.Referrer
		switch extra := c.nodeOf[e.Descriptor.Digest]; {
		case extra == nil: // the copy failed before it was examined
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

// target returns the manifest at which the destination's tag should point: the top, or
// the chosen manifest if the destination refuses the top.
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
	if call.IsDigest(c.dst.Ref) {
		return ""
	}
	return c.dst.Ref
}

// choosing reports whether Platforms choose among the children of n.
func (c *copier) choosing(n *node) bool {
	return n.inTree && len(c.opts.Platforms) > 0 && isIndex(n.mediaType) && !c.remembered
}
