package ocimem

import (
	"context"
	"crypto/sha512"
	"hash"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/ctxio"
	"github.com/seed-40b21970/oci/internal/verified"
)

// The sizes of chunks in bytes. After the first, a chunk is never larger than all that
// has arrived before it, so that a claimed size allocates nothing. Larger chunks than
// maxChunk would not make the system calls that send them more efficient.
const (
	minChunk   = 4 << 10
	firstChunk = 32 << 10
	maxChunk   = 512 << 10
)

// scratch has buffers of firstChunk bytes for the start of content of unknown size. Most
// content is shorter, and is then copied to memory of its size.
var scratch = sync.Pool{New: func() any { return new([firstChunk]byte) }}

// buffer collects the content of a blob and hashes it as it arrives.
type buffer struct {
	registry  *Registry // counts the bytes
	algorithm digest.Algorithm
	hash      hash.Hash
	chunks    [][]byte
	size      int64
}

func newBuffer(r *Registry, alg digest.Algorithm) *buffer {
	if !alg.Available() {
		alg = digest.SHA256 // alg is only a hint
	}
	return &buffer{registry: r, algorithm: alg, hash: alg.Hash()}
}

// append adds a chunk, which then belongs to the buffer. A small chunk is copied to the
// end of the last one.
func (b *buffer) append(chunk []byte) error {
	if len(chunk) < minChunk && len(b.chunks) > 0 {
		return b.write(chunk)
	}
	if err := b.registry.acquireBytes(int64(len(chunk))); err != nil {
		return err
	}
	b.chunks = append(b.chunks, trim(chunk))
	b.addToHash(chunk)
	return nil
}

// write adds a copy of p. It fills the capacity of the last chunk first.
func (b *buffer) write(p []byte) error {
	if err := b.registry.acquireBytes(int64(len(p))); err != nil {
		return err
	}
	for rest := p; len(rest) > 0; {
		last := len(b.chunks) - 1
		if last < 0 || len(b.chunks[last]) == cap(b.chunks[last]) {
			// A last chunk wastes at most a sixteenth of the content.
			room := max(int64(min(len(rest), maxChunk)), min(b.size/16, maxChunk), 512)
			b.chunks = append(b.chunks, make([]byte, 0, room))
			last++
		}
		chunk := b.chunks[last]
		n := min(len(rest), cap(chunk)-len(chunk))
		b.chunks[last] = append(chunk, rest[:n]...)
		rest = rest[n:]
	}
	b.addToHash(p)
	return nil
}

// addToHash hashes and counts bytes that were added.
func (b *buffer) addToHash(p []byte) {
	b.hash.Write(p)
	b.size += int64(len(p))
}

// hasDigest reports whether the content has the given well-formed digest. It reads the
// content once more if that was hashed with another algorithm as it arrived.
func (b *buffer) hasDigest(digest digest.Digest) bool {
	h := b.hash
	if digest.Algorithm() != b.algorithm {
		h = digest.Algorithm().Hash()
		for _, chunk := range b.chunks {
			h.Write(chunk)
		}
	}
	var sum [sha512.Size]byte
	return verified.IsSum(digest, h.Sum(sum[:0]))
}

// content returns the collected content, whose digest the caller has checked. The buffer
// must not be used after it.
func (b *buffer) content(digest digest.Digest) *content {
	if n := len(b.chunks); n > 0 {
		b.chunks[n-1] = trim(b.chunks[n-1])
	}
	return newContent(digest, slices.Clip(b.chunks))
}

// free discards the content. The buffer must not be used after it.
func (b *buffer) free() {
	b.registry.releaseBytes(b.size)
	b.chunks = nil
}

// trim returns chunk with little unused capacity.
func trim(chunk []byte) []byte {
	if cap(chunk)-len(chunk) > len(chunk)/32 {
		return slices.Clip(append(make([]byte, 0, len(chunk)), chunk...))
	}
	return chunk
}

// readChunks reads r to its end into new chunks, which it passes to sink. It returns the
// number of bytes that sink accepted. If hint is not negative, it reads at most that
// many bytes.
//
// When reading fails, the bytes that were read before are still passed to sink.
func readChunks(ctx context.Context, r io.Reader, hint int64, sink func(chunk []byte) error) (n int64, err error) {
	read := readChunk
	if hint < 0 {
		hint, read = math.MaxInt64, readFirstChunk
	}
	for n < hint && err == nil {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		var chunk []byte
		chunk, err = read(ctx, r, min(max(n, firstChunk), maxChunk, hint-n))
		if len(chunk) > 0 {
			if err := sink(chunk); err != nil {
				return n, err
			}
			n += int64(len(chunk))
		}
		read = readChunk
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// readChunk reads size bytes, or all that are left.
func readChunk(ctx context.Context, r io.Reader, size int64) ([]byte, error) {
	chunk := make([]byte, size)
	n, err := ctxio.ReadFull(ctx, r, chunk)
	return chunk[:n], err
}

// readFirstChunk is like readChunk, but reads into a buffer of scratch first.
func readFirstChunk(ctx context.Context, r io.Reader, _ int64) ([]byte, error) {
	buf := scratch.Get().(*[firstChunk]byte)
	defer scratch.Put(buf)
	n, err := ctxio.ReadFull(ctx, r, buf[:])
	return append(make([]byte, 0, n), buf[:n]...), err
}
