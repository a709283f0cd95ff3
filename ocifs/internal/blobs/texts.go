package blobs

import (
	"container/list"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

// maxTexts is the maximum size of [Texts], in bytes of memory. An entry takes the length of
// its text and textBytes.
const (
	maxTexts  = 4 << 20
	textBytes = 320 // the digest, the list element, and the share of the map
)

// Texts holds small contents that were recently read or written. The content of a digest
// never changes; Texts does not know where it is stored. The zero Texts is empty. It is
// safe for concurrent use.
type Texts struct {
	mu    sync.Mutex
	bytes int
	order list.List // of *cached, most recently used first
	items map[ociregistry.Digest]*list.Element
}

type cached struct {
	digest ociregistry.Digest
	text   string
}

// Get returns a text, if it is there.
func (c *Texts) Get(digest ociregistry.Digest) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.items[digest]
	if e == nil {
		return "", false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).text, true
}

// Add adds a text, unless it is large, and drops those that were not used for longest if
// there is no more room.
func (c *Texts) Add(digest ociregistry.Digest, text string) {
	if len(text) > maxTexts/16 {
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
	c.bytes += len(text) + textBytes
	for c.bytes > maxTexts {
		c.drop(c.order.Back())
	}
}

// Remove removes a text.
func (c *Texts) Remove(digest ociregistry.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.items[digest]; e != nil {
		c.drop(e)
	}
}

func (c *Texts) drop(e *list.Element) {
	x := c.order.Remove(e).(*cached)
	delete(c.items, x.digest)
	c.bytes -= len(x.text) + textBytes
}
