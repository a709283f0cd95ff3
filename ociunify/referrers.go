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

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// referrersList is a list of referrers in the form in which it is kept.
type referrersList struct {
	Repository   string                   `json:"repository"`
	Digest       ociregistry.Digest       `json:"digest"`
	ArtifactType string                   `json:"artifactType"`
	Referrers    []ociregistry.Descriptor `json:"referrers"`
}

const mediaTypeReferrers = "application/vnd.ociunify.referrers+json"

// maxReferrers is the maximum length of a list that is kept.
const maxReferrers = 10_000

// tag returns the tag of the record that has the list.
func (l referrersList) tag() string {
	buf := make([]byte, 0, 512)
	buf = append(append(buf, l.Repository...), 0)
	buf = append(append(buf, l.Digest...), 0)
	sum := sha256.Sum256(append(buf, l.ArtifactType...))
	return string(base64.RawURLEncoding.AppendEncode(append(buf[:0], 'r'), sum[:]))
}

// emptyLists remembers the lists of referrers that were empty when the origin was last
// asked, and are not kept.
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

// forget is called when a list is no longer empty. Then the list of all artifact types
// is not empty either.
func (e *emptyLists) forget(list referrersList) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.tags) > 0 {
		delete(e.tags, list.tag())
		list.ArtifactType = ""
		delete(e.tags, list.tag())
	}
}

// keepReferrers returns seq, and keeps the list when seq is read to its end.
func (c *Cache) keepReferrers(ctx context.Context, list referrersList, seq iter.Seq2[ociregistry.Descriptor, error]) iter.Seq2[ociregistry.Descriptor, error] {
	return func(yield func(ociregistry.Descriptor, error) bool) {
		k := c.key(kindTag, stateRepo, "")
		list := list
		for desc, err := range seq {
			if err == nil && len(list.Referrers) <= maxReferrers {
				if len(list.Referrers) == 0 {
					c.emptyReferrers.forget(list)
				}
				own := desc
				own.Annotations = maps.Clone(desc.Annotations) // the caller may change desc's
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

// storeReferrers keeps a list, unless it is kept already. An empty list is kept too if
// the manifest is, and otherwise remembered: it says that there are no referrers, while
// a missing list says nothing.
func (c *Cache) storeReferrers(ctx context.Context, list referrersList) {
	at := call.New("Referrers", list.Repository, string(list.Digest))
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
			c.emptyReferrers.add(tag) // anyone can ask for digests that do not exist
			return
		}
	}
	if _, err := c.cache.PushManifest(unconditional(ctx), stateRepo, tag, contents, mediaTypeReferrers); err != nil {
		c.warn("cannot keep referrers", at, err)
		return
	}
	if found {
		c.cache.DeleteManifest(ctx, stateRepo, old.Digest) // the tag no longer points at it
	}
}

// keptReferrers returns a list that is kept: that of the artifact type, or those
// elements of the list of all types. It adds the referrers that the cache registry
// knows besides. If no list is kept, it returns an error.
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
	if err != nil && c.emptyReferrers.has(tag) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := readManifest(call.New("GetTag", stateRepo, tag), rd, "")
	if err != nil {
		return nil, err
	}
	err = json.Unmarshal(m.contents, &list)
	return list.Referrers, err
}
