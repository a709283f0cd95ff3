package ocifs

import (
	"context"
	"crypto/sha512"
	"hash"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// staged is content that is no blob yet: a file below the private directory,
// and the hash of its bytes, which were hashed as they were written. It is for
// one goroutine at a time.
type staged struct {
	store *store
	file  file // nil after close
	name  string
	alg   digest.Algorithm
	hash  hash.Hash // of all bytes, by alg
	size  int64
	begun int64 // how much of it is on its way to the disk

	// reserved is how many bytes were taken from the limit for this content.
	// discard gives them back.
	reserved int64

	// pinned is the digest of content whose file is the pool's, else empty.
	pinned ociregistry.Digest

	// durable is whether the bytes were made so. If that failed, broken is set:
	// the system may have forgotten bytes that it still shows, so that content
	// must be written anew.
	durable, broken bool
}

// stage returns new, empty content in the process's staging directory. It is to
// be hashed by alg.
func (s *store) stage(alg digest.Algorithm) (*staged, error) {
	f, name, err := s.staging.create()
	if err != nil {
		return nil, err
	}
	return &staged{store: s, file: f, name: name, alg: alg, hash: alg.Hash()}, nil
}

// Write appends p, once the limit allows it.
func (st *staged) Write(p []byte) (int, error) {
	if err := st.reserve(int64(len(p))); err != nil {
		return 0, err
	}
	if err := st.append(p); err != nil {
		st.release(int64(len(p)))
		return 0, err
	}
	return len(p), nil
}

// append adds p, or nothing.
func (st *staged) append(p []byte) error {
	if _, err := st.file.WriteAt(p, st.size); err != nil {
		return err
	}
	st.hash.Write(p)
	st.size += int64(len(p))
	st.durable = false
	st.store.syncs.begin(st)
	return nil
}

func (st *staged) reserve(n int64) error {
	if err := st.store.reserve(n); err != nil {
		return err
	}
	st.reserved += n
	return nil
}

func (st *staged) release(n int64) {
	st.store.release(n)
	st.reserved -= n
}

// readFrom appends the bytes of r, up to its end or to most bytes, and returns
// how many it appended. It does not read on after most bytes. When r fails, what
// came before stays. When the context ends, it reads no more.
func (st *staged) readFrom(ctx context.Context, r io.Reader, most int64) (int64, error) {
	return readBuffers(ctx, r, most, func(p []byte) error {
		_, err := st.Write(p)
		return err
	})
}

// ReadAt reads content that was not closed.
func (st *staged) ReadAt(p []byte, off int64) (int, error) { return st.file.ReadAt(p, off) }

// is reports whether a digest, which is well formed, is that of the content. It
// reads the content once more if it was hashed by another algorithm.
func (st *staged) is(ctx context.Context, d ociregistry.Digest) (bool, error) {
	h := st.hash
	if d.Algorithm() != st.alg {
		h = d.Algorithm().Hash()
		err := hashFile(ctx, h, st.file, st.size)
		if err != nil {
			return false, err
		}
	}
	return hasSum(h, d), nil
}

// hasSum reports whether a hash has the sum that a digest of its algorithm says.
func hasSum(h hash.Hash, d ociregistry.Digest) bool {
	var sum [sha512.Size]byte
	return verified.IsSum(d, h.Sum(sum[:0]))
}

// hashFile adds the first size bytes of f to h.
func hashFile(ctx context.Context, h hash.Hash, f io.ReaderAt, size int64) error {
	n, err := readBuffers(ctx, io.NewSectionReader(f, 0, size), size, func(p []byte) error {
		h.Write(p)
		return nil
	})
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// settle makes the content durable and closes the file.
func (st *staged) settle() error {
	if st.broken {
		return errBroken
	}
	if !st.durable {
		if err := st.store.syncs.file(st.file, st.size); err != nil {
			st.broken = true
			return err
		}
		st.durable = true
	}
	return st.close()
}

func (st *staged) close() error {
	if st.file == nil {
		return nil
	}
	err := st.file.Close()
	st.file = nil
	return err
}

// discard removes the file and gives back the bytes that were reserved. Content
// that became a blob meanwhile is not touched. It may be called again.
func (st *staged) discard() {
	st.close()
	if st.name != "" {
		st.store.fs.Remove(st.name)
		st.name = ""
	}
	st.release(st.reserved)
	if st.pinned != "" {
		st.store.dropUnused(st.pinned) // whoever removed the blob meanwhile could not
	}
}

// bufferSize is how many bytes are written at a time, if there are as many. It
// bounds the memory of an upload: two buffers.
const bufferSize = 256 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// firstSize is how many bytes must have come before content takes a buffer: what
// stalls at its beginning has not much more memory than its bytes.
const firstSize = 64 << 10

var firsts = sync.Pool{New: func() any { return new([firstSize]byte) }}

// readBuffers reads r up to its end or to most bytes and passes the bytes on to
// sink, in pieces that are as large as a buffer but for the last. It returns how
// many bytes sink took. The piece that precedes an error of r goes to sink, too.
//
// Content that is longer than a few buffers is read while sink works, which is
// then called in another goroutine, if there are processors for both. That has
// ended when readBuffers returns; r is read by the caller's.
func readBuffers(ctx context.Context, r io.Reader, most int64, sink func([]byte) error) (n int64, err error) {
	const alone = 2 // buffers
	if most <= 0 {
		return 0, nil
	}
	first := firsts.Get().(*[firstSize]byte)
	m, err := readFull(ctx, r, first[:min(firstSize, most)])
	if err != nil || int64(m) == most {
		defer firsts.Put(first)
		return sinkLast(first[:m], err, sink)
	}
	buf := buffers.Get().(*[bufferSize]byte)
	copy(buf[:], first[:])
	firsts.Put(first)
	for i := 0; err == nil && n < most; i++ {
		if i == alone && ahead.begin() {
			defer ahead.end()
			var m int64
			m, err = readAhead(ctx, r, most-n, buf, sink)
			return n + m, err
		}
		var more int
		more, err = readFull(ctx, r, buf[m:min(bufferSize, most-n)])
		if m += more; m > 0 {
			if err := sink(buf[:m]); err != nil {
				buffers.Put(buf)
				return n, err
			}
			n += int64(m)
		}
		m = 0
	}
	buffers.Put(buf)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// sinkLast passes the last bytes of content on, which err has ended.
func sinkLast(p []byte, err error, sink func([]byte) error) (n int64, _ error) {
	if err == io.EOF {
		err = nil
	}
	if len(p) == 0 {
		return 0, err
	}
	if sinkErr := sink(p); sinkErr != nil {
		return 0, sinkErr
	}
	return int64(len(p)), err
}

// ahead counts those who read ahead. More of them than there are pairs of
// processors would only have bytes go from the cache of one processor to that of
// another: then each stream has a processor busy by itself.
var ahead pairs

type pairs struct{ n atomic.Int64 }

func (p *pairs) begin() bool {
	if p.n.Add(1) <= int64(max(1, runtime.GOMAXPROCS(0)/2)) {
		return true
	}
	p.end()
	return false
}

func (p *pairs) end() { p.n.Add(-1) }

// readAhead is readBuffers for the rest of content that is long. It returns buf
// to where it is from.
func readAhead(ctx context.Context, r io.Reader, most int64, buf *[bufferSize]byte, sink func([]byte) error) (n int64, err error) {
	pieces, results := make(chan []byte), make(chan error, 1)
	defer close(pieces) // also when r panics
	go func() {
		for p := range pieces {
			results <- sink(p)
		}
	}()
	other := buffers.Get().(*[bufferSize]byte)
	pending := 0 // bytes that sink is at work on
	wait := func() error {
		if pending == 0 {
			return nil
		}
		err := <-results
		if err == nil {
			n += int64(pending)
		}
		pending = 0
		return err
	}
	for left := most; left > 0 && err == nil; {
		var m int
		m, err = readFull(ctx, r, buf[:min(bufferSize, left)])
		if sinkErr := wait(); sinkErr != nil {
			err, m = sinkErr, 0
		}
		if m > 0 {
			pieces <- buf[:m]
			pending = m
			left -= int64(m)
			buf, other = other, buf
		}
	}
	if sinkErr := wait(); sinkErr != nil {
		err = sinkErr
	}
	buffers.Put(buf)
	buffers.Put(other)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// readFull is io.ReadFull, but says io.EOF whenever r ended, and stops when ctx
// does.
func readFull(ctx context.Context, r io.Reader, p []byte) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
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
