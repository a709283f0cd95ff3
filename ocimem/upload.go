package ocimem

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/seed-40b21970/oci/ociregistry"
)

// defaultChunkSize is the chunk size in bytes that a BlobWriter recommends. There is no
// minimum, but a server may tell clients that this is one.
const defaultChunkSize = 8 << 10

// uploads has the open upload sessions.
type uploads struct {
	secret [sha256.Size]byte // tells issued ids from others

	mu       sync.Mutex
	open     map[uploadKey]*upload
	sweeping bool // a sweep is scheduled
}

type uploadKey struct{ repo, id string }

// upload is a session. It is open while its buffer is not nil.
type upload struct {
	registry *Registry
	key      uploadKey

	mu      sync.Mutex
	buffer  *buffer
	touched time.Time
}

// PushBlobChunked implements [ociregistry.Writer.PushBlobChunked]. The writer
// implements [io.ReaderFrom], which reads directly into the chunks of the blob. If there
// are [Config.MaxUploads] sessions, the error is [ociregistry.ErrTooManyRequests].
func (r *Registry) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	err := ociregistry.CheckRepository(repo)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, opError(err, "PushBlobChunked", repo, "")
	}
	w := r.newWriter(ctx, uploadKey{repo, r.uploads.issue()}, chunkSize)
	if w.upload, err = r.openUpload(ctx, w.key); err != nil {
		return nil, opError(err, "PushBlobChunked", repo, "")
	}
	return w, nil
}

// PushBlobChunkedResume implements [ociregistry.Writer.PushBlobChunkedResume].
// An id that this registry never issued names a new session if offset is 0. The session
// begins with the first Write; until then, resuming it at offset -1 returns
// [ociregistry.ErrBlobUploadUnknown].
func (r *Registry) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	w, err := r.resume(ctx, uploadKey{repo, id}, offset, chunkSize)
	if err != nil {
		return nil, opError(err, "PushBlobChunkedResume", repo, id)
	}
	return w, nil
}

func (r *Registry) resume(ctx context.Context, key uploadKey, offset int64, chunkSize int) (*writer, error) {
	if err := ociregistry.CheckRepository(key.repo); err != nil {
		return nil, err
	}
	if !validUploadID(key.id) {
		return nil, ociregistry.ErrBlobUploadUnknown
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := r.newWriter(ctx, key, chunkSize)
	w.upload = r.findUpload(key)
	if w.upload == nil && (offset == -1 || r.uploads.issued(key.id)) {
		return nil, ociregistry.ErrBlobUploadUnknown
	}
	if w.upload != nil {
		size, err := w.upload.size()
		if err != nil {
			return nil, err
		}
		w.offset = size
	}
	if offset != -1 && offset != w.offset {
		return nil, fmt.Errorf("%w: the upload is at byte %d", ociregistry.ErrRangeInvalid, w.offset)
	}
	return w, nil
}

// issue returns a new session id. It consists of random bytes and a mark that only this
// registry can make, by which the registry recognizes ids that it issued, even when the
// sessions are long gone.
func (u *uploads) issue() string {
	var id [2 * idPart]byte
	rand.Read(id[:idPart])
	mark := u.mark(id[:idPart])
	copy(id[idPart:], mark[:])
	return idEncoding.EncodeToString(id[:])
}

// idPart is the length of each part of an id in bytes.
const idPart = 16

var idEncoding = base64.RawURLEncoding.Strict()

// issued reports whether id is one that issue returned.
func (u *uploads) issued(id string) bool {
	b, err := idEncoding.DecodeString(id)
	if err != nil || len(b) != 2*idPart {
		return false
	}
	mark := u.mark(b[:idPart])
	return subtle.ConstantTimeCompare(b[idPart:], mark[:]) == 1
}

// mark returns a hash of the secret and an id. Both have a fixed length, so that the
// hash cannot be extended.
func (u *uploads) mark(id []byte) (mark [idPart]byte) {
	var text [len(u.secret) + idPart]byte
	copy(text[:], u.secret[:])
	copy(text[len(u.secret):], id)
	sum := sha256.Sum256(text[:])
	copy(mark[:], sum[:])
	return mark
}

// validUploadID reports whether id could be the name of a file. Every backend refuses
// other ids.
func validUploadID(id string) bool {
	return id != "" && len(id) <= 256 && id != "." && id != ".." &&
		utf8.ValidString(id) && !strings.ContainsAny(id, `/\`) && !strings.ContainsFunc(id, unicode.IsControl)
}

// openUpload returns the session with the given key. It opens a new one if there is none
// and the limit allows it.
func (r *Registry) openUpload(ctx context.Context, key uploadKey) (*upload, error) {
	r.uploads.mu.Lock()
	defer r.uploads.mu.Unlock()
	if u := r.uploads.open[key]; u != nil {
		return u, nil
	}
	if n := len(r.uploads.open); r.cfg.MaxUploads > 0 && n >= r.cfg.MaxUploads {
		return nil, fmt.Errorf("%w: there are %d upload sessions, and no more are allowed", ociregistry.ErrTooManyRequests, n)
	}
	u := &upload{
		registry: r,
		key:      uploadKey{strings.Clone(key.repo), strings.Clone(key.id)}, // see repository
		buffer:   newBuffer(r, ociregistry.DigestAlgorithmFrom(ctx)),
		touched:  r.now(),
	}
	r.uploads.open[u.key] = u
	if expiry := r.cfg.UploadExpiry; expiry > 0 && !r.uploads.sweeping {
		r.uploads.sweeping = true
		r.sweepAfter(expiry)
	}
	return u, nil
}

// findUpload returns the session with the given key, or nil.
func (r *Registry) findUpload(key uploadKey) *upload {
	r.uploads.mu.Lock()
	defer r.uploads.mu.Unlock()
	return r.uploads.open[key]
}

// size returns the number of bytes of the session.
func (u *upload) size() (int64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.buffer == nil {
		return 0, ociregistry.ErrBlobUploadUnknown
	}
	u.touched = u.registry.now()
	return u.buffer.size, nil
}

// at calls f with the session locked, if it is open and has offset bytes. An error of f
// means that the bytes exceed the limit of the registry. The session then ends, because
// it would otherwise keep its bytes from others until it expired.
func (u *upload) at(offset int64, f func(*buffer) error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.buffer == nil {
		return ociregistry.ErrBlobUploadUnknown
	}
	if u.buffer.size != offset {
		return fmt.Errorf("%w: the upload is at byte %d", ociregistry.ErrRangeInvalid, u.buffer.size)
	}
	u.touched = u.registry.now()
	err := f(u.buffer)
	if err != nil {
		u.end().free()
	}
	return err
}

// end removes the session from the registry and returns its buffer, or nil if the session
// has already ended. The session is locked.
func (u *upload) end() *buffer {
	b := u.buffer
	if b == nil {
		return nil
	}
	u.buffer = nil
	u.registry.uploads.mu.Lock()
	defer u.registry.uploads.mu.Unlock()
	delete(u.registry.uploads.open, u.key)
	return b
}

// writer is a position in an upload session.
type writer struct {
	ctx       context.Context
	registry  *Registry
	key       uploadKey
	chunkSize int

	mu     sync.Mutex // for Close and Cancel from another goroutine
	upload *upload    // nil before the first Write to a session whose id was never issued
	offset int64
	failed error // of a Write; nothing can follow it
	closed bool
	done   bool // committed or cancelled
}

func (r *Registry) newWriter(ctx context.Context, key uploadKey, chunkSize int) *writer {
	if chunkSize <= 0 {
		chunkSize = defaultChunkSize
	}
	return &writer{ctx: ctx, registry: r, key: key, chunkSize: chunkSize}
}

func (w *writer) ID() string     { return w.key.id }
func (w *writer) ChunkSize() int { return w.chunkSize }

func (w *writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.offset
}

func (w *writer) Write(p []byte) (int, error) {
	err := w.ctx.Err()
	if err == nil {
		err = w.append(len(p), func(b *buffer) error { return b.write(p) })
	}
	if err != nil {
		return 0, opError(err, "Write", w.key.repo, w.key.id)
	}
	return len(p), nil
}

// ReadFrom implements [io.ReaderFrom]. When the context ends, it stops reading, and the
// bytes that were read remain in the session.
func (w *writer) ReadFrom(rd io.Reader) (int64, error) {
	n, err := readChunks(w.ctx, rd, -1, func(chunk []byte) error {
		return w.append(len(chunk), func(b *buffer) error { return b.append(chunk) })
	})
	return n, opError(err, "Write", w.key.repo, w.key.id)
}

// append calls f to add n bytes.
func (w *writer) append(n int, f func(*buffer) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return err
	}
	if err := w.upload.at(w.offset, f); err != nil {
		w.failed = err
		return err
	}
	w.offset += int64(n)
	return nil
}

// usable checks that the writer can write or commit, and has a session.
func (w *writer) usable() error {
	switch {
	case w.done:
		return ociregistry.ErrBlobUploadUnknown
	case w.closed:
		return fs.ErrClosed
	case w.failed != nil:
		return w.failed
	}
	if w.upload != nil {
		return nil
	}
	u, err := w.registry.openUpload(w.ctx, w.key)
	if err == nil {
		w.upload = u
	}
	return err
}

func (w *writer) Commit(digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	size, err := w.commit(digest)
	if err != nil {
		return ociregistry.Descriptor{}, opError(err, "Commit", w.key.repo, string(digest))
	}
	return ociregistry.Descriptor{MediaType: mediaTypeBlob, Digest: digest, Size: size}, nil
}

func (w *writer) commit(digest ociregistry.Digest) (size int64, err error) {
	if err := ociregistry.CheckDigest(digest); err != nil {
		return 0, err
	}
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return 0, err
	}
	var b *buffer
	err = w.upload.at(w.offset, func(*buffer) error {
		b = w.upload.end()
		return nil
	})
	if err != nil {
		return 0, err
	}
	w.done = true
	// The session has ended, so its content cannot change, and no other writer waits
	// while it is hashed.
	if !b.hasDigest(digest) {
		b.free()
		return 0, ociregistry.ErrDigestInvalid
	}
	return w.offset, w.registry.publish(w.key.repo, digest, b)
}

func (w *writer) Cancel() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return nil
	}
	w.done = true
	if w.upload == nil {
		return nil
	}
	w.upload.mu.Lock()
	defer w.upload.mu.Unlock()
	if b := w.upload.end(); b != nil {
		b.free()
	}
	return nil
}

func (w *writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	return nil
}
