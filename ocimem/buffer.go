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

	"github.com/seed-40b21970/oci/internal/verified"
)

// The sizes of chunks, in bytes. After the first, a chunk is never larger than
// what has come before it, so that nobody's claim makes memory be allocated. Nor
// are chunks larger than what is good for the system call that sends them.
const (
	minChunk   = 4 << 10
	firstChunk = 32 << 10
	maxChunk   = 512 << 10
)

// scratch has buffers of firstChunk bytes, for the beginning of content whose
// size is unknown: most is shorter, and is stored in as much memory as it needs.
var scratch = sync.Pool{New: func() any { return new([firstChunk]byte) }}

// buffer collects the content of a blob and hashes it as it comes.
type buffer struct {
	registry  *Registry // accounts for the bytes
	algorithm digest.Algorithm
	hash      hash.Hash
	chunks    [][]byte
	size      int64
}

func newBuffer(r *Registry, alg digest.Algorithm) *buffer {
	if !alg.Available() {
		alg = digest.SHA256 // it was a hint
	}
	return &buffer{registry: r, algorithm: alg, hash: alg.Hash()}
}

// append adds a chunk, which then belongs to the buffer. One that is small is
// copied to where the others are.
func (b *buffer) append(chunk []byte) error {
	if len(chunk) < minChunk && len(b.chunks) > 0 {
		return b.write(chunk)
	}
	if err := b.registry.take(int64(len(chunk))); err != nil {
		return err
	}
	b.chunks = append(b.chunks, trim(chunk))
	b.add(chunk)
	return nil
}

// write adds a copy of p. It fills the room that the last chunk has.
func (b *buffer) write(p []byte) error {
	if err := b.registry.take(int64(len(p))); err != nil {
		return err
	}
	for rest := p; len(rest) > 0; {
		last := len(b.chunks) - 1
		if last < 0 || len(b.chunks[last]) == cap(b.chunks[last]) {
			// A sixteenth of what is there bounds what a last chunk wastes.
			room := max(int64(min(len(rest), maxChunk)), min(b.size/16, maxChunk), 512)
			b.chunks = append(b.chunks, make([]byte, 0, room))
			last++
		}
		chunk := b.chunks[last]
		n := min(len(rest), cap(chunk)-len(chunk))
		b.chunks[last] = append(chunk, rest[:n]...)
		rest = rest[n:]
	}
	b.add(p)
	return nil
}

func (b *buffer) add(p []byte) {
	b.hash.Write(p)
	b.size += int64(len(p))
}

// is reports whether a digest, which is well formed, is that of the content. It
// reads the content once more if it was hashed by another algorithm as it came.
func (b *buffer) is(digest digest.Digest) bool {
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

// content returns what was collected, whose digest was checked. The buffer must
// not be used any more.
func (b *buffer) content(digest digest.Digest) *content {
	if n := len(b.chunks); n > 0 {
		b.chunks[n-1] = trim(b.chunks[n-1])
	}
	return newContent(digest, slices.Clip(b.chunks))
}

// free gives back what was collected. The buffer must not be used any more.
func (b *buffer) free() {
	b.registry.give(b.size)
	b.chunks = nil
}

// trim returns chunk without much unused room behind it.
func trim(chunk []byte) []byte {
	if cap(chunk)-len(chunk) > len(chunk)/32 {
		return slices.Clip(append(make([]byte, 0, len(chunk)), chunk...))
	}
	return chunk
}

// readChunks reads r to its end, straight into chunks that it passes on to
// sink, and returns how many bytes sink took. If hint is not negative, it reads
// no more than that many bytes.
//
// When reading fails, what was read before still goes to sink.
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

// readChunk reads size bytes, or as many as there are.
func readChunk(ctx context.Context, r io.Reader, size int64) ([]byte, error) {
	chunk := make([]byte, size)
	n, err := readFull(ctx, r, chunk)
	return chunk[:n], err
}

// readFirstChunk reads as readChunk does, by way of scratch.
func readFirstChunk(ctx context.Context, r io.Reader, _ int64) ([]byte, error) {
	buf := scratch.Get().(*[firstChunk]byte)
	defer scratch.Put(buf)
	n, err := readFull(ctx, r, buf[:])
	return append(make([]byte, 0, n), buf[:n]...), err
}

// readFull is io.ReadFull, but says io.EOF whenever r ended, and stops when ctx
// does.
func readFull(ctx context.Context, r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
		if err == nil && ctx.Err() != nil {
			err = ctx.Err()
		}
	}
	return n, err
}
