package blobs

import (
	"context"
	"io"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/seed-40b21970/oci/internal/ctxio"
)

// bufferSize is the maximum number of bytes that are written at a time. It bounds the
// memory for incoming content, which is two buffers.
const bufferSize = 256 << 10

// Buffer is a reusable buffer.
type Buffer = [bufferSize]byte

var buffers = sync.Pool{New: func() any { return new(Buffer) }}

// GetBuffer returns a buffer of 256 KiB. The caller should pass it to PutBuffer.
func GetBuffer() *Buffer { return buffers.Get().(*Buffer) }

// PutBuffer makes b, which must no longer be used, available to GetBuffer.
func PutBuffer(b *Buffer) { buffers.Put(b) }

// firstSize is the number of bytes that must arrive before content uses a buffer:
// content that stalls at its beginning takes little more memory than its bytes.
const firstSize = 64 << 10

var firsts = sync.Pool{New: func() any { return new([firstSize]byte) }}

// ReadPieces reads up to most bytes from r, or until r ends, and passes them to sink
// in pieces. All pieces but the last have the size of a buffer. ReadPieces returns
// the number of bytes that sink accepted. If r fails, sink still receives the piece
// before the error.
//
// Content longer than a few buffers is read while sink works, if there are enough
// processors. sink then runs in another goroutine, which has ended when ReadPieces
// returns; r is always read by the caller's goroutine.
func ReadPieces(ctx context.Context, r io.Reader, most int64, sink func([]byte) error) (n int64, err error) {
	const few = 2 // buffers
	if most <= 0 {
		return 0, nil
	}
	first := firsts.Get().(*[firstSize]byte)
	m, err := ctxio.ReadFull(ctx, r, first[:min(firstSize, most)])
	if err != nil || int64(m) == most {
		defer firsts.Put(first)
		return sinkLast(first[:m], err, sink)
	}
	buf := GetBuffer()
	copy(buf[:], first[:])
	firsts.Put(first)
	for i := 0; err == nil && n < most; i++ {
		if i == few && ahead.enter() {
			defer ahead.leave()
			var m int64
			m, err = readAhead(ctx, r, most-n, buf, sink)
			return n + m, err
		}
		var more int
		more, err = ctxio.ReadFull(ctx, r, buf[m:min(bufferSize, most-n)])
		if m += more; m > 0 {
			if err := sink(buf[:m]); err != nil {
				PutBuffer(buf)
				return n, err
			}
			n += int64(m)
		}
		m = 0
	}
	PutBuffer(buf)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// sinkLast passes the last bytes of content to sink. err has ended the content.
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

// ahead counts the calls that read ahead. More of them than there are pairs of
// processors would only move bytes between the caches of processors, because each
// stream then keeps one processor busy anyway.
var ahead pairs

type pairs struct{ n atomic.Int64 }

func (p *pairs) enter() bool {
	if p.n.Add(1) <= int64(max(1, runtime.GOMAXPROCS(0)/2)) {
		return true
	}
	p.leave()
	return false
}

func (p *pairs) leave() { p.n.Add(-1) }

// readAhead is ReadPieces for the rest of long content. It puts buf back.
func readAhead(ctx context.Context, r io.Reader, most int64, buf *Buffer, sink func([]byte) error) (n int64, err error) {
	pieces, results := make(chan []byte), make(chan error, 1)
	defer close(pieces) // even if r panics
	go func() {
		for p := range pieces {
			results <- sink(p)
		}
	}()
	other := GetBuffer()
	pending := 0 // bytes that sink is processing
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
		m, err = ctxio.ReadFull(ctx, r, buf[:min(bufferSize, left)])
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
	PutBuffer(buf)
	PutBuffer(other)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// NoLimit is the limit for reading everything.
const NoLimit = math.MaxInt64
