package ocimem

import (
	"sort"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

// content is the bytes of a blob. They never change.
type content struct {
	digest ociregistry.Digest
	chunks [][]byte
	starts []int64 // the offset of each chunk
	size   int64
	refs   int // repositories that hold it; guarded by store.mu
}

func newContent(digest ociregistry.Digest, chunks [][]byte) *content {
	c := &content{digest: digest, chunks: chunks, starts: make([]int64, len(chunks))}
	for i, chunk := range chunks {
		c.starts[i] = c.size
		c.size += int64(len(chunk))
	}
	return c
}

// chunk returns the bytes from offset to the end of their chunk, but not beyond end.
func (c *content) chunk(offset, end int64) []byte {
	if offset >= end {
		return nil
	}
	i := sort.Search(len(c.starts), func(i int) bool { return c.starts[i] > offset }) - 1
	chunk := c.chunks[i][offset-c.starts[i]:]
	return chunk[:min(int64(len(chunk)), end-offset)]
}

// store holds each blob once.
type store struct {
	mu    sync.Mutex
	blobs map[ociregistry.Digest]*content
}

// add adds a blob, or finds the one that is there, and counts a reference to it. It
// reports whether c is a duplicate, which is not needed.
func (s *store) add(c *content) (kept *content, dup bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.blobs[c.digest]; old != nil {
		old.refs++
		return old, true
	}
	c.refs = 1
	s.blobs[c.digest] = c
	return c, false
}

// get finds a blob and counts a reference to it.
func (s *store) get(digest ociregistry.Digest) (*content, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.blobs[digest]
	if c == nil {
		return nil, false
	}
	c.refs++
	return c, true
}

// release removes a reference, and reports whether it was the last.
func (s *store) release(c *content) (freed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.refs--
	if c.refs > 0 {
		return false
	}
	delete(s.blobs, c.digest)
	return true
}
