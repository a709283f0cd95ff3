package ocicopy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/ociregistry"
)

// blob copies b to the destination in the cheapest way that works.
func (c *copier) blob(ctx context.Context, b *blob) error {
	done, err := c.opts.inner.shared.acquire(ctx, c.opts.inner.sharer, b.ref.Digest)
	if err != nil {
		return err
	}
	item := Item{Kind: Blob, Descriptor: b.descriptor()}
	reported, err := c.moveBlob(ctx, b, &item)
	if err != nil || item.Action == Skipped {
		done("")
	} else {
		c.opts.inner.confirmed.add(c.confirmedKey(b))
		done(c.dst.Repository)
	}
	if err != nil {
		err = fmt.Errorf("blob %s: %w", b.ref.Digest, err)
		if b.required || !c.maySkip(ctx, err) {
			return err
		}
		b.err, item.Action = err, Skipped
	}
	b.item = item
	c.tracker.finish(item, reported)
	return nil
}

// moveBlob completes item, and returns how many of the blob's bytes the tracker
// has been reported of.
func (c *copier) moveBlob(ctx context.Context, b *blob, item *Item) (reported int64, err error) {
	if manifest.NonDistributable(b.ref.MediaType) && !c.opts.NonDistributable {
		item.Action = Skipped
		return 0, nil
	}
	there, err := c.has(ctx, b)
	if err != nil {
		return 0, atDestination(err)
	}
	if there {
		item.Action = Present
		return 0, nil
	}
	for _, repo := range c.mountable(b) {
		mounted, err := c.mount(ctx, repo, b)
		if err != nil {
			return 0, err
		}
		if mounted {
			item.Action, item.From = Mounted, repo
			return 0, nil
		}
	}
	return c.sendBlob(ctx, b, item)
}

func (c *copier) confirmedKey(b *blob) confirmedKey {
	return confirmedKey{c.dst.Repository, b.ref.Digest, b.ref.Size}
}

// has reports whether the destination has b, with the right size if it says any. If the
// size is another one, the blob is incomplete or the manifest is wrong, which the push
// finds out. A page does not prove that there is a blob.
func (c *copier) has(ctx context.Context, b *blob) (bool, error) {
	if c.opts.inner.confirmed.has(c.confirmedKey(b)) {
		return true, nil
	}
	desc, err := c.dst.Registry.ResolveBlob(ctx, c.dst.Repository, b.ref.Digest)
	switch {
	case absent(err):
		return false, nil
	case err != nil:
		return false, err
	case desc.Digest != b.ref.Digest:
		return false, nil
	case desc.Size > 0:
		return desc.Size == b.ref.Size, nil
	}
	return !manifest.IsPage(desc.MediaType), nil
}

// mountable returns the repositories of the destination from which b may be mounted.
func (c *copier) mountable(b *blob) []string {
	repo := c.opts.inner.shared.where(b.ref.Digest)
	if repo == "" || repo == c.dst.Repository || slices.Contains(c.mountFrom, repo) {
		return c.mountFrom
	}
	return append([]string{repo}, c.mountFrom...)
}

// mount reports whether the destination mounted b from another of its repositories. A
// registry may refuse that for any reason, and the blob is copied then. Only the end
// of ctx is an error.
func (c *copier) mount(ctx context.Context, repo string, b *blob) (bool, error) {
	desc, err := b.descriptor(), error(nil)
	switch {
	case !c.dry:
		desc, err = c.dst.Registry.MountBlob(ctx, repo, c.dst.Repository, b.ref.Digest)
	case !c.sameRegistry || repo != c.src.Repository:
		desc, err = c.dst.Registry.ResolveBlob(ctx, repo, b.ref.Digest)
	}
	return err == nil && desc.Digest == b.ref.Digest, ctx.Err()
}

func (c *copier) sendBlob(ctx context.Context, b *blob, item *Item) (reported int64, err error) {
	item.Action = Copied
	if c.dry {
		return 0, nil
	}
	r, err := c.src.Registry.GetBlob(ctx, c.src.Repository, b.ref.Digest)
	if b.ref.Elsewhere && absent(err) {
		item.Action = Skipped
		return 0, nil
	}
	if err != nil {
		return 0, atSource(err)
	}
	defer r.Close()
	begun := *item
	begun.Action = ""
	body, counted := metered(r, c.tracker, begun)
	from := &recorder{Reader: body}
	if c.opts.SkipBrokenReferrers && !b.required {
		body = from // the blob can be skipped if the source failed
	}
	_, err = c.dst.Registry.PushBlob(ctx, c.dst.Repository, item.Descriptor, body)
	if from.failed || damaged(err) {
		err = atSource(err)
	}
	return counted(), err
}

// recorder remembers that a reader failed.
type recorder struct {
	io.Reader
	failed bool
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.failed = r.failed || err != nil && err != io.EOF
	return n, err
}

// manifests pushes the manifests, level by level.
func (c *copier) manifests(ctx context.Context) error {
	if len(c.chosen) == 1 && c.tagged.Digest == c.chosen[0].digest {
		c.refusePartial() // as when it got that tag
	}
	for _, level := range c.levels {
		if err := parallel.Each(ctx, c.opts.Concurrency, level, c.push); err != nil {
			return err
		}
	}
	if c.top.refused {
		return c.pushChosen(ctx)
	}
	return nil
}

func (c *copier) refusePartial() {
	for _, n := range c.nodes {
		n.refused = n.partial && !n.present
	}
}

// push pushes n, and sets its tags, unless the destination has both.
func (c *copier) push(ctx context.Context, n *node) error {
	item := Item{Kind: Manifest, Action: Copied, Descriptor: n.descriptor(), Tags: n.tags, MadeOf: n.madeOf}
	if n.madeOf != "" {
		item.Action = Made
	}
	n.inheritFailures()
	stored := n.present && n.storedType == n.mediaType
	if stored {
		item.Action = Present
	}
	if n == c.top && len(n.tags) > 0 && c.lacksSignature() {
		return fmt.Errorf("%w: %w: all signatures are broken", ociregistry.ErrDenied, ErrUnsigned)
	}
	if !n.refused && n.err == nil && (!stored || len(n.tags) > 0) {
		err := c.put(ctx, n)
		n.refused = c.partial && n.required && isIndex(n.mediaType) && errors.Is(err, ociregistry.ErrManifestBlobUnknown)
		if err != nil && !n.refused {
			err = fmt.Errorf("manifest %s: %w", n.digest, err)
			if n.required || !c.maySkip(ctx, err) {
				return err
			}
			n.err = err
		}
	}
	if n.refused || n.err != nil {
		item.Action, item.Tags = Skipped, nil
	}
	n.item = item
	c.tracker.finish(item, 0)
	return nil
}

// inheritFailures refuses n, or sets its error, if that happened to what it names.
func (n *node) inheritFailures() {
	for _, child := range n.children {
		n.refused = n.refused || child.refused
		n.err = cmp.Or(n.err, child.err)
		if child.madeOf != "" && !n.required {
			n.err = fmt.Errorf("%w: it names %s, whose platforms were dropped", ociregistry.ErrManifestBlobUnknown, child.madeOf)
		}
	}
	for _, b := range n.blobs {
		n.err = cmp.Or(n.err, b.err)
	}
}

func (c *copier) put(ctx context.Context, n *node) error {
	if c.dry {
		return nil
	}
	if n.contents == nil {
		if err := c.fetch(ctx, n); err != nil {
			return err
		}
	}
	if n.contents == nil { // the source had it a moment ago
		return ociregistry.ErrManifestUnknown
	}
	// Every registry understands a tag as the ref, but the registry then chooses the
	// algorithm of the digest.
	ref, tags := string(n.digest), n.tags
	if len(tags) > 0 && n.digest.Algorithm() == digest.SHA256 {
		ref, tags = tags[0], tags[1:]
	}
	desc, err := c.dst.Registry.PushManifest(ctx, c.dst.Repository, ref, n.contents, n.mediaType, tags...)
	if err == nil && desc.Digest != n.digest {
		return fmt.Errorf("%w: the destination returned another digest", ociregistry.ErrDigestInvalid)
	}
	if err != nil {
		return atDestination(err)
	}
	return nil
}

// pushChosen sets the tag to the manifest that was chosen from an index that the
// destination refuses.
func (c *copier) pushChosen(ctx context.Context) error {
	n := c.target()
	if n.refused {
		return fmt.Errorf("%w: the destination refuses partial indexes, and %d manifests of this one were chosen",
			ociregistry.ErrManifestBlobUnknown, len(c.chosen))
	}
	if c.dstTag() == "" || c.tagged.Digest == n.digest {
		return nil
	}
	n.tags = append(n.tags, c.dstTag())
	if err := c.put(ctx, n); err != nil {
		return fmt.Errorf("manifest %s: %w", n.digest, err)
	}
	n.item.Tags = n.tags
	return nil
}
