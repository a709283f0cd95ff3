package ocitest

import (
	"bytes"
	"io"
	"math"
	"runtime"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// No method buffers a blob, or allocates memory because of a claimed size. The clauses
// measure the allocations of the process, to which other tests add. So a clause fails only
// if each of many attempts fails.

var memoryClauses = []clause{
	{name: "ReadsDoNotBuffer", run: memoryReads},
	{name: "PushBlobDoesNotBuffer", needs: PushBlobs, run: memoryPushBlob},
	{name: "UploadsDoNotBuffer", needs: PushChunks, run: memoryUpload},
	{name: "ClaimsAllocateNothing", needs: PushBlobs | PushChunks, run: memoryClaims},
	{name: "EndedUploadsAreFreed", needs: PushChunks, run: memoryUploads},
	{name: "DeletedBlobsAreFreed", needs: PushBlobs | DeleteBlobs, run: memoryDeletes},
}

// wantAllocated checks that f allocates less than limit bytes, freed or not.
func (t *test) wantAllocated(limit uint64, what string, f func(attempt int)) {
	t.Helper()
	t.wantLess(limit, what+": bytes allocated", func(attempt int) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f(attempt)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	})
}

// wantRetained checks that f makes the heap grow by less than limit bytes.
func (t *test) wantRetained(limit uint64, what string, f func(attempt int) (keep any)) {
	t.Helper()
	t.wantLess(limit, what+": bytes retained", func(attempt int) uint64 {
		before := heap()
		keep := f(attempt)
		after := heap()
		runtime.KeepAlive(keep)
		return after - min(before, after)
	})
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // frees what the first collection finalized, and the victims of sync.Pool
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (t *test) wantLess(limit uint64, what string, measure func(attempt int) uint64) {
	t.Helper()
	least := uint64(math.MaxUint64)
	start := time.Now()
	for attempt := 0; attempt < 5 || attempt < 50 && time.Since(start) < t.opts.Patience/10; attempt++ {
		least = min(least, measure(attempt))
		if least < limit {
			return
		}
	}
	t.Errorf("%s: got %d at least, want less than %d", what, least, limit)
}

func memoryReads(t *test) {
	const size = 4 << 20
	desc := t.mustPushBlob("foo", content(1, size))
	ctx := t.Context()
	t.wantAllocated(size/2, "reading a blob of 4 MiB", func(int) {
		for range 10 {
			_, err := t.reg.ResolveBlob(ctx, "foo", desc.Digest)
			t.must(err, "ResolveBlob")
		}
		for _, offset0 := range []int64{0, size / 2, size - 10} {
			_, _, err := read(t.reg.GetBlobRange(ctx, "foo", desc.Digest, offset0, offset0+10))
			t.must(err, "GetBlobRange")
		}
		r, err := t.reg.GetBlob(ctx, "foo", desc.Digest)
		t.must(err, "GetBlob")
		_, err = io.Copy(io.Discard, r)
		t.must(err, "reading a blob")
		t.must(r.Close(), "Close")
	})
}

// A registry in memory allocates once what it stores. No registry allocates it three times.
func memoryPushBlob(t *test) {
	const size = 4 << 20
	t.wantAllocated(size*5/2, "PushBlob of 4 MiB", func(attempt int) {
		blob := NewBlob(uint64(attempt), size)
		t.must(t.pushBlob("foo", blob.Descriptor, blob.NewReader()), "PushBlob")
	})
}

func memoryUpload(t *test) {
	const size = 4 << 20
	t.wantAllocated(size*5/2, "an upload of 4 MiB", func(attempt int) {
		blob := NewBlob(uint64(attempt), size)
		w := t.mustStart("foo", 0)
		for r, buf := blob.NewReader(), make([]byte, 32<<10); ; {
			n, err := r.Read(buf)
			if err != nil {
				break
			}
			t.mustWrite(w, buf[:n])
		}
		_, err := w.Commit(blob.Descriptor.Digest)
		t.must(err, "Commit")
	})
}

func memoryClaims(t *test) {
	const claim, limit = 64 << 20, 16 << 20
	t.wantAllocated(limit, "PushBlob of 5 bytes as 64 MiB", func(int) {
		err := t.pushBlob("foo", ociregistry.Descriptor{Digest: other, Size: claim}, struct{ io.Reader }{bytes.NewReader([]byte("hello"))})
		if err == nil {
			t.Errorf("PushBlob of 5 bytes as 64 MiB: got no error")
		}
	})
	t.wantAllocated(limit, "an upload of 5 bytes in chunks of 64 MiB", func(int) {
		w := t.mustStart("foo", claim)
		t.mustWrite(w, []byte("hello"))
		t.mustCommit(w, []byte("hello"), describe([]byte("hello")).Digest)
	})
}

func memoryUploads(t *test) {
	const n, size = 8, 1 << 20
	data := content(1, size)
	t.wantRetained(n*size/4, "after 8 uploads of 1 MiB that came to nothing", func(int) any {
		var writers []ociregistry.BlobWriter
		for i := range n {
			w := t.mustStart("foo", 0)
			t.mustWrite(w, data)
			if i%2 == 0 {
				t.must(w.Cancel(), "Cancel")
			} else if _, err := w.Commit(other); err == nil {
				t.Errorf("Commit with the digest of other content: got no error")
			}
			writers = append(writers, w)
		}
		return writers
	})
}

func memoryDeletes(t *test) {
	const n, size = 8, 1 << 20
	t.wantRetained(n*size/4, "after 8 blobs of 1 MiB were pushed and deleted", func(int) any {
		for i := range n {
			blob := NewBlob(uint64(i), size)
			t.must(t.pushBlob("foo", blob.Descriptor, blob.NewReader()), "PushBlob")
			t.must(t.reg.DeleteBlob(t.Context(), "foo", blob.Descriptor.Digest), "DeleteBlob")
		}
		return nil
	})
}
