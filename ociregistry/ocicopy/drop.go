package ocicopy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/ociregistry"
)

// The annotations of an index that was made of another one. See the DropOthers field of
// [Options].
const (
	AnnotationMadeOf    = "com.github.seed-40b21970.oci.made-of"   // the digest of the other index
	AnnotationPlatforms = "com.github.seed-40b21970.oci.platforms" // the platforms that were chosen
)

// remember returns the manifest to copy: n, or the index at which the destination's tag
// points if that was made of n before.
func (c *copier) remember(ctx context.Context, n *node) (*node, error) {
	if !c.opts.DropOthers || len(c.opts.Platforms) == 0 || c.opts.inner.ignoreMadeOf || !isIndex(c.tagged.MediaType) || n.digest == c.tagged.Digest {
		return n, nil
	}
	made := &node{digest: c.tagged.Digest}
	made.markPresent(c.tagged)
	switch err := c.fetchFromDestination(ctx, made); {
	case absent(err), damaged(err), errors.Is(err, ociregistry.ErrManifestInvalid), errors.Is(err, ErrLimit):
		return n, nil
	case err != nil:
		return nil, err
	}
	if made.readMadeOf(c.opts.Platforms); made.madeOf != n.digest {
		return n, nil
	}
	c.remembered = true
	return made, nil
}

// readMadeOf sets n.madeOf, if n was made for the same platforms.
func (n *node) readMadeOf(platforms []ocispec.Platform) {
	var index struct {
		Annotations map[string]string `json:"annotations"`
	}
	err := json.Unmarshal(n.contents, &index)
	if err == nil && index.Annotations[AnnotationPlatforms] == platformList(platforms) {
		n.madeOf = ociregistry.Digest(index.Annotations[AnnotationMadeOf])
	}
}

// platformList returns platforms as text, sorted and without duplicates.
func platformList(platforms []ocispec.Platform) string {
	var list []string
	for _, p := range platforms {
		text := strings.Join([]string{p.OS, p.Architecture, manifest.Variant(p), p.OSVersion}, "/")
		list = append(list, strings.TrimRight(text, "/"))
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), ",")
}

// mayChange reports whether n is an index that may have another digest at the
// destination. Its referrers are looked up later, if it turns out to keep its digest.
func (c *copier) mayChange(n *node) bool {
	if c.remembered && n.inTree && isIndex(n.mediaType) {
		n.readMadeOf(c.opts.Platforms)
		return n.madeOf != ""
	}
	return c.opts.DropOthers && c.choosing(n)
}

// dropOthers makes the new indexes, and finds the referrers of the indexes that do not
// change.
func (c *copier) dropOthers(ctx context.Context) error {
	var made, stay []*node
	for _, n := range c.nodes {
		if !c.choosing(n) {
			continue
		}
		if err := c.cut(n); err != nil {
			return fmt.Errorf("manifest %s: %w", n.digest, err)
		}
		switch {
		case n.madeOf != "":
			made = append(made, n)
		case n.isManifest():
			stay = append(stay, n)
		}
	}
	if err := parallel.Each(ctx, c.opts.Concurrency, made, c.checkMade); err != nil {
		return err
	}
	if err := parallel.Each(ctx, c.opts.Concurrency, stay, c.findExtras); err != nil {
		return err
	}
	var next []*node
	for _, n := range stay {
		next = append(next, c.followExtras(n)...)
	}
	return c.explore(ctx, next)
}

// cut drops the entries of an index that were not chosen, after it has done so for the
// indexes in it. If that changes the index, cut makes a new one, or marks it as gone if
// nothing is left.
func (c *copier) cut(n *node) error {
	if n.isCut || !c.choosing(n) {
		return nil
	}
	n.isCut = true
	changed := false
	kept := []json.RawMessage{}
	var children []*node
	for _, e := range n.entries {
		child := c.nodeOf[e.Ref.Digest]
		if !e.Kept {
			changed = true
			continue
		}
		if err := c.cut(child); err != nil {
			return err
		}
		switch {
		case child.gone && child.isCut:
			changed = true
			continue
		case child.madeOf != "":
			changed = true
			var err error
			if e.Text, err = withFields(e.Text, map[string]any{"digest": child.digest, "size": child.size}); err != nil {
				return err
			}
		}
		kept = append(kept, e.Text)
		children = append(children, child)
	}
	if !changed {
		return nil
	}
	n.children, n.gone = children, len(kept) == 0
	if n.gone {
		return nil
	}
	return n.remake(kept, c.opts.Platforms)
}

// remake makes n a new index with the given entries.
func (n *node) remake(entries []json.RawMessage, platforms []ocispec.Platform) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(n.contents, &fields); err != nil {
		return err
	}
	annotations, err := withFields(fields["annotations"], map[string]any{
		AnnotationMadeOf:    n.digest,
		AnnotationPlatforms: platformList(platforms),
	})
	if err != nil {
		return err
	}
	n.contents, err = withFields(n.contents, map[string]any{"manifests": entries, "annotations": annotations})
	if err != nil {
		return err
	}
	n.madeOf, n.digest = n.digest, n.digest.Algorithm().FromBytes(n.contents)
	n.size = int64(len(n.contents))
	n.checked, n.present, n.trusted = false, false, false
	return n.parse(n.mediaType)
}

// withFields returns a JSON object with some fields set. Other fields keep their
// values. The fields are sorted, so that the result is always the same.
func withFields(object json.RawMessage, set map[string]any) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if len(object) > 0 {
		if err := json.Unmarshal(object, &fields); err != nil {
			return nil, err
		}
	}
	all := make(map[string]any)
	for name, value := range fields {
		all[name] = value
	}
	maps.Copy(all, set)
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(all)
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), err
}

// checkMade finds out whether the destination has a new index.
func (c *copier) checkMade(ctx context.Context, n *node) error {
	if n == c.top && n.digest == c.tagged.Digest {
		n.markPresent(c.tagged)
		n.tags = nil
		return nil
	}
	if err := c.checkDestination(ctx, n); err != nil {
		return fmt.Errorf("manifest %s: %w", n.digest, atDestination(err))
	}
	return nil
}
