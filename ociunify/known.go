package ociunify

import (
	"slices"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// knownTags remembers where tags point, as far as the origin has said so. It is all
// that is kept of a tag whose manifest is not.
type knownTags struct {
	mu    sync.Mutex
	tags  map[key]knownTag
	await map[key][]string // the tags that point at a manifest that is not kept
}

// knownTag says where a tag points. If kept is set, the cache registry has that tag,
// and the other fields are empty.
type knownTag struct {
	since     time.Time
	kept      bool
	mediaType string
	digest    ociregistry.Digest
	size      int64
}

func (t knownTag) desc() ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: t.mediaType, Digest: t.digest, Size: t.size}
}

func tagKey(repo, tag string) key { return key{kind: kindTag, repo: repo, ref: tag} }

func manifestKey(repo string, d ociregistry.Digest) key {
	return key{kind: kindManifest, repo: repo, ref: string(d)}
}

// set notes that a tag points at the same manifest in the cache registry as at the
// origin. It does nothing if ttl is zero: then the note would be of no use.
func (k *knownTags) set(repo, tag string, ttl time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remove(repo, tag)
	if ttl > 0 {
		k.put(tagKey(repo, tag), knownTag{since: time.Now(), kept: true})
	}
}

// expect notes where a tag points at the origin whose manifest is not kept.
func (k *knownTags) expect(repo, tag string, desc ociregistry.Descriptor) {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, is := tagKey(repo, tag), knownTag{since: time.Now(), mediaType: desc.MediaType, digest: desc.Digest, size: desc.Size}
	if was, ok := k.tags[at]; ok && !was.kept && was.digest == is.digest {
		k.tags[at] = is // already in await
		return
	}
	k.remove(repo, tag)
	k.put(at, is)
	m := manifestKey(repo, desc.Digest)
	k.await[m] = append(k.await[m], tag)
}

// put adds a tag. The lock is held.
func (k *knownTags) put(at key, t knownTag) {
	if k.tags == nil || len(k.tags) >= maxRemembered {
		k.tags, k.await = make(map[key]knownTag), make(map[key][]string)
	}
	k.tags[at] = t
}

// get returns where a tag points, if the origin has said so less than ttl ago.
func (k *knownTags) get(repo, tag string, ttl time.Duration) (t knownTag, ok bool) {
	if ttl <= 0 {
		return t, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	t, ok = k.tags[tagKey(repo, tag)]
	return t, ok && time.Since(t.since) < ttl
}

// awaiting returns the tags that point at a manifest that is not kept.
func (k *knownTags) awaiting(repo string, d ociregistry.Digest) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.await[manifestKey(repo, d)])
}

func (k *knownTags) forget(repo, tag string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remove(repo, tag)
}

// remove removes a tag. The lock is held.
func (k *knownTags) remove(repo, tag string) {
	at := tagKey(repo, tag)
	t, ok := k.tags[at]
	if !ok {
		return
	}
	delete(k.tags, at)
	if t.kept {
		return
	}
	m := manifestKey(repo, t.digest)
	k.await[m] = slices.DeleteFunc(k.await[m], func(s string) bool { return s == tag })
	if len(k.await[m]) == 0 {
		delete(k.await, m)
	}
}
