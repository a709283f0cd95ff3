// Package texts keeps the texts of manifests in memory, those that were used last.
package texts

import (
	"container/list"
	"strings"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

// A Cache has texts by digest. It is safe for concurrent use.
type Cache struct {
	max int64

	mu       sync.Mutex
	size     int64
	byDigest map[ociregistry.Digest]*list.Element
	used     *list.List // of entries, the last used first
}

type entry struct {
	digest ociregistry.Digest
	text   string
}

// New returns a cache for max bytes of texts.
func New(max int64) *Cache {
	return &Cache{max: max, byDigest: map[ociregistry.Digest]*list.Element{}, used: list.New()}
}

// Add adds a text, of which it keeps a copy.
func (c *Cache) Add(digest ociregistry.Digest, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.byDigest[digest]; there || int64(len(text)) > c.max {
		return
	}
	e := entry{ociregistry.Digest(strings.Clone(string(digest))), strings.Clone(text)}
	c.byDigest[e.digest] = c.used.PushFront(e)
	for c.size += int64(len(text)); c.size > c.max; {
		last := c.used.Remove(c.used.Back()).(entry)
		c.size -= int64(len(last.text))
		delete(c.byDigest, last.digest)
	}
}

// Get returns a text.
func (c *Cache) Get(digest ociregistry.Digest) (text string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byDigest[digest]
	if e == nil {
		return "", false
	}
	c.used.MoveToFront(e)
	return e.Value.(entry).text, true
}
