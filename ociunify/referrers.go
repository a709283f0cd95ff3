package ociunify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// referrersList is a list of referrers as it is kept.
type referrersList struct {
	Repository   string                   `json:"repository"`
	Digest       ociregistry.Digest       `json:"digest"`
	ArtifactType string                   `json:"artifactType"`
	Referrers    []ociregistry.Descriptor `json:"referrers"`
}

const mediaTypeReferrers = "application/vnd.ociunify.referrers+json"

// maxReferrers is how long a list can be that is kept.
const maxReferrers = 10_000

// tag returns the tag that the list has among the records.
func (l referrersList) tag() string {
	buf := make([]byte, 0, 512)
	buf = append(append(buf, l.Repository...), 0)
	buf = append(append(buf, l.Digest...), 0)
	sum := sha256.Sum256(append(buf, l.ArtifactType...))
	return string(base64.RawURLEncoding.AppendEncode(append(buf[:0], 'r'), sum[:]))
}

// emptyLists has the lists of referrers that were empty when the origin was last asked,
// and are not kept.
type emptyLists struct {
	mu   sync.Mutex
	tags map[string]bool
}

func (e *emptyLists) add(tag string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.tags == nil || len(e.tags) >= maxRemembered {
		e.tags = make(map[string]bool)
	}
	e.tags[tag] = true
}

func (e *emptyLists) has(tag string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.tags[tag]
}

// forget is called when a list turned out not to be empty any more, and so the list of all.
func (e *emptyLists) forget(list referrersList) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.tags) > 0 {
		delete(e.tags, list.tag())
		list.ArtifactType = ""
		delete(e.tags, list.tag())
	}
}

// keepReferrers returns seq, of which it keeps a list when it comes to its end.
func (c *Cache) keepReferrers(ctx context.Context, list referrersList, seq iter.Seq2[ociregistry.Descriptor, error]) iter.Seq2[ociregistry.Descriptor, error] {
	return func(yield func(ociregistry.Descriptor, error) bool) {
		k := c.key(kindTag, stateRepo, "")
		list := list
		for desc, err := range seq {
			if err == nil && len(list.Referrers) <= maxReferrers {
				if len(list.Referrers) == 0 {
					c.none.forget(list)
				}
				own := desc
				own.Annotations = maps.Clone(desc.Annotations) // the caller can change its own
				list.Referrers = append(list.Referrers, own)
			}
			if !yield(desc, err) || err != nil {
				return
			}
		}
		if len(list.Referrers) <= maxReferrers && !c.changed(k) {
			c.storeReferrers(ctx, list)
		}
	}
}

// storeReferrers keeps a list, unless it is kept already. That there are no referrers
// is kept too, of a manifest that is kept, and else remembered: it is not the same as to
// know of none.
func (c *Cache) storeReferrers(ctx context.Context, list referrersList) {
	at := target{"Referrers", list.Repository, string(list.Digest)}
	contents, err := json.Marshal(list)
	if err != nil {
		c.warn("cannot keep referrers", at, err)
		return
	}
	tag := list.tag()
	old, err := c.kept.ResolveTag(ctx, stateRepo, tag)
	if err == nil && ociregistry.CheckDigest(old.Digest) == nil && verified.IsOf(old.Digest, contents) {
		return
	}
	found := err == nil
	if !found && len(list.Referrers) == 0 {
		if _, err := c.kept.ResolveManifest(ctx, list.Repository, list.Digest); err != nil {
			c.none.add(tag) // there may be any number of what is not there
			return
		}
	}
	if _, err := c.cache.PushManifest(unconditional(ctx), stateRepo, tag, contents, mediaTypeReferrers); err != nil {
		c.warn("cannot keep referrers", at, err)
		return
	}
	if found {
		c.cache.DeleteManifest(ctx, stateRepo, old.Digest) // the tag has left it
	}
}

// keptReferrers returns a list that was kept: that of the artifact type, or what
// the list of all has of it; and what the cache registry knows beyond that. Without a
// list it returns an error.
func (c *Cache) keptReferrers(ctx context.Context, list referrersList) iter.Seq2[ociregistry.Descriptor, error] {
	return func(yield func(ociregistry.Descriptor, error) bool) {
		referrers, err := c.loadReferrers(ctx, list)
		if err != nil && list.ArtifactType != "" {
			all := list
			all.ArtifactType = ""
			referrers, err = c.loadReferrers(ctx, all)
		}
		if err != nil {
			yield(ociregistry.Descriptor{}, err)
			return
		}
		referrers = slices.DeleteFunc(referrers, func(desc ociregistry.Descriptor) bool {
			return list.ArtifactType != "" && desc.ArtifactType != list.ArtifactType
		})
		slices.SortFunc(referrers, byDescriptor)
		pushed := c.cache.Referrers(ctx, list.Repository, list.Digest, list.ArtifactType)
		merge(ociregistry.SliceSeq(referrers), pushed, byDescriptor)(yield)
	}
}

func byDescriptor(a, b ociregistry.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) }

func (c *Cache) loadReferrers(ctx context.Context, list referrersList) ([]ociregistry.Descriptor, error) {
	tag := list.tag()
	rd, err := c.kept.GetTag(ctx, stateRepo, tag)
	if err != nil && c.none.has(tag) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := readManifest(target{"GetTag", stateRepo, tag}, rd, "")
	if err != nil {
		return nil, err
	}
	err = json.Unmarshal(m.contents, &list)
	return list.Referrers, err
}
