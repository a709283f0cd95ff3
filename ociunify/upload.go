package ociunify

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// PushBlobChunked implements [ociregistry.Writer.PushBlobChunked].
func (u *union) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	at := call.New("PushBlobChunked", repo, "")
	if err := at.CheckRepository(); err != nil {
		return nil, err
	}
	return u.openUpload(ctx, at, func(i int) (ociregistry.BlobWriter, error) {
		return u.r[i].PushBlobChunked(ctx, repo, chunkSize)
	})
}

// PushBlobChunkedResume implements [ociregistry.Writer.PushBlobChunkedResume].
func (u *union) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	at := call.New("PushBlobChunkedResume", repo, id)
	if err := at.CheckRepository(); err != nil {
		return nil, err
	}
	if u.opts.WritePolicy == WriteFirst {
		return u.r[0].PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
	}
	ids, ok := splitID(id)
	if !ok {
		return nil, at.Wrap(ociregistry.ErrBlobUploadUnknown)
	}
	// While another writer writes, the two sessions have different offsets.
	unlock, err := u.locks.Lock(ctx, uploadKey(repo, id))
	if err != nil {
		return nil, at.Wrap(err)
	}
	defer unlock()
	w, err := u.openUpload(ctx, at, func(i int) (ociregistry.BlobWriter, error) {
		return u.r[i].PushBlobChunkedResume(ctx, repo, ids[i], -1, chunkSize)
	})
	if err != nil {
		return nil, err
	}
	if offset != -1 && offset != w.Size() {
		w.Close()
		return nil, at.Wrap(fmt.Errorf("%w: the upload is at byte %d", ociregistry.ErrRangeInvalid, w.Size()))
	}
	return w, nil
}

// openUpload opens a session in each registry that is written to.
func (u *union) openUpload(ctx context.Context, at call.Call, open func(i int) (ociregistry.BlobWriter, error)) (ociregistry.BlobWriter, error) {
	w0, err := open(0)
	if err != nil || u.opts.WritePolicy == WriteFirst {
		return w0, err
	}
	w1, err := open(1)
	if err != nil {
		if at.Op == "PushBlobChunked" {
			w0.Cancel() // nobody else knows its ID
		} else {
			w0.Close()
		}
		return nil, at.Wrap(inRegistry(1, err))
	}
	return &writer{ctx: ctx, union: u, repo: at.Repository, w: [2]ociregistry.BlobWriter{w0, w1}, offset: min(w0.Size(), w1.Size())}, nil
}

var idEncoding = base64.RawURLEncoding.Strict()

// joinID makes one ID of those of two sessions: the length of the first, the first, and
// the second.
func joinID(id0, id1 string) string {
	b := binary.AppendUvarint(nil, uint64(len(id0)))
	b = append(b, id0...)
	b = append(b, id1...)
	return idEncoding.EncodeToString(b)
}

func splitID(id string) (ids [2]string, ok bool) {
	b, err := idEncoding.DecodeString(id)
	if err != nil {
		return ids, false
	}
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return ids, false
	}
	b = b[used:]
	return [2]string{string(b[:n]), string(b[n:])}, true
}

func uploadKey(repo, id string) string { return repo + " " + id }

// writer writes to two sessions, one of which may be ahead: it does not write the bytes
// to it again that it already has. Commit finds out whether they are the same.
type writer struct {
	ctx   context.Context
	union *union
	repo  string
	w     [2]ociregistry.BlobWriter

	mu     sync.Mutex
	offset int64
	failed error // the error of a Write, after which no other call can succeed
}

func (w *writer) ID() string     { return joinID(w.w[0].ID(), w.w[1].ID()) }
func (w *writer) ChunkSize() int { return max(w.w[0].ChunkSize(), w.w[1].ChunkSize()) }

func (w *writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.offset
}

func (w *writer) Write(p []byte) (int, error) {
	unlock, err := w.lock()
	if err != nil {
		return 0, call.New("Write", w.repo, w.ID()).Wrap(err)
	}
	defer unlock()
	w.mu.Lock()
	offset, err := w.offset, w.failed
	w.mu.Unlock()
	if err != nil {
		return 0, call.New("Write", w.repo, w.ID()).Wrap(err)
	}
	err = w.each(func(i int) error {
		ahead := min(max(w.w[i].Size()-offset, 0), int64(len(p)))
		_, err := w.w[i].Write(p[ahead:])
		return err
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.failed = err
		return 0, call.New("Write", w.repo, w.ID()).Wrap(err)
	}
	w.offset = offset + int64(len(p))
	return len(p), nil
}

func (w *writer) lock() (unlock func(), err error) {
	return w.union.locks.Lock(w.ctx, uploadKey(w.repo, w.ID()))
}

// Commit implements [ociregistry.BlobWriter.Commit]. It commits in both registries at
// once, and waits for both.
func (w *writer) Commit(digest ociregistry.Digest) (desc ociregistry.Descriptor, err error) {
	at := call.New("Commit", w.repo, string(digest))
	if err := ociregistry.CheckDigest(digest); err != nil {
		return desc, at.Wrap(err)
	}
	unlock, err := w.lock()
	if err != nil {
		return desc, at.Wrap(err)
	}
	defer unlock()
	w.mu.Lock()
	err = w.failed
	w.mu.Unlock()
	if err != nil {
		return desc, at.Wrap(err)
	}
	var descs [2]ociregistry.Descriptor
	err = w.each(func(i int) (err error) {
		descs[i], err = w.w[i].Commit(digest)
		return err
	})
	if err != nil {
		return desc, at.Wrap(err)
	}
	return descs[0], nil
}

func (w *writer) Cancel() error {
	return w.each(func(i int) error { return w.w[i].Cancel() })
}

func (w *writer) Close() error {
	return w.each(func(i int) error { return w.w[i].Close() })
}

// each calls do for both sessions at once.
func (w *writer) each(do func(i int) error) error {
	var err1 error
	var doing sync.WaitGroup
	doing.Go(func() { err1 = do(1) })
	err0 := do(0)
	doing.Wait()
	switch {
	case err0 != nil && err1 != nil:
		return both(err0, err1)
	case err0 != nil:
		return inRegistry(0, err0)
	}
	return inRegistry(1, err1)
}
