package ocifs

import (
	"container/list"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

// cacheBytes bounds the memory of the cache of a Registry, in bytes. That of an entry
// is its text and entryBytes.
const (
	cacheBytes = 4 << 20
	entryBytes = 320 // of its digest, its element of the list, and its share of the map
)

// cache has the contents of manifests that were read or written lately. What a
// digest stands for never changes; whether a repository has it is not known here.
type cache struct {
	mu    sync.Mutex
	bytes int
	order list.List // of *cached, the latest first
	items map[ociregistry.Digest]*list.Element
}

type cached struct {
	digest ociregistry.Digest
	text   string
}

func (c *cache) get(digest ociregistry.Digest) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.items[digest]
	if e == nil {
		return "", false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).text, true
}

func (c *cache) add(digest ociregistry.Digest, text string) {
	if len(text) > cacheBytes/16 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.items == nil {
		c.items = make(map[ociregistry.Digest]*list.Element)
	}
	if c.items[digest] != nil {
		return
	}
	c.items[digest] = c.order.PushFront(&cached{digest, text})
	c.bytes += len(text) + entryBytes
	for c.bytes > cacheBytes {
		c.drop(c.order.Back())
	}
}

// remove is for a manifest that was deleted.
func (c *cache) remove(digest ociregistry.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.items[digest]; e != nil {
		c.drop(e)
	}
}

func (c *cache) drop(e *list.Element) {
	x := c.order.Remove(e).(*cached)
	delete(c.items, x.digest)
	c.bytes -= len(x.text) + entryBytes
}
