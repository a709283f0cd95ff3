package ocifs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// defaultChunkSize is what a BlobWriter recommends, in bytes. There is no
// minimum; but a server may tell its clients that this is one.
const defaultChunkSize = 8 << 10

// uploads has the upload sessions of a registry. They are files, which other
// processes may use as well:
//
//	DIR/ID        the bytes that came, and perhaps more that were not acknowledged
//	DIR/ID.state  a sessionState, locked by who uses the session
//
// Nothing is synced before Commit. A session survives the end of the process at
// any instant. After a power cut it goes on if its bytes are there, which are
// hashed again then; else it is unknown.
//
// A session exists while its state file does and says so. The files of one that
// became a small blob, which is in a journal, are left to the next ones: see
// spares.go. What is left of sessions that ended otherwise is removed by the next
// sweep.
type uploads struct {
	store  *store
	dir    string // made when it is needed
	expiry time.Duration
	log    *slog.Logger

	// publish makes content, whose digest was checked, a blob of a repository. If
	// it fails, the session stays, and Commit can be tried again. If not, it may
	// leave the content as it is, which is then discarded, and content.reserved
	// with it given back.
	publish func(ctx context.Context, repo string, d ociregistry.Digest, content *staged) error

	now  func() time.Time
	boot bootID // outlives what is written but not synced

	mu       sync.Mutex
	sessions map[string]*session // those that have writers in this process
	sweeper  *time.Timer         // nil if no sweep is going to come, or under way
	unswept  bool                // there are sessions that the sweep under way may have missed
	closed   bool
	sweeping sync.WaitGroup
}

// newUploads returns the upload sessions below a private directory. A session
// that was idle as long as expiry ends; if expiry is not positive, none does.
// The caller sets publish, and calls watch if sessions are to be swept.
func newUploads(s *store, private string, expiry time.Duration, log *slog.Logger) *uploads {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &uploads{
		store:    s,
		dir:      filepath.Join(private, "uploads"),
		expiry:   expiry,
		log:      log,
		now:      time.Now,
		boot:     currentBoot(s.fs),
		sessions: make(map[string]*session),
	}
}

// start opens a session. The repository's name was checked.
func (u *uploads) start(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	id := rand.Text()
	if err := u.create(newSessionState(id, repo, ociregistry.DigestAlgorithmFrom(ctx), u.boot)); err != nil {
		return nil, err
	}
	u.sweepLater()
	return u.newWriter(ctx, repo, u.acquire(id), 0, chunkSize), nil
}

// resume continues a session. The repository's name was checked.
//
// Errors: [ociregistry.ErrBlobUploadUnknown], [ociregistry.ErrRangeInvalid].
func (u *uploads) resume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	if !isUploadID(id) {
		return nil, ociregistry.ErrBlobUploadUnknown
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := u.acquire(id)
	size, err := s.touch(ctx, repo)
	if err == nil && offset != -1 && offset != size {
		err = errOffset(size)
	}
	if err != nil {
		u.release(s)
		return nil, err
	}
	return u.newWriter(ctx, repo, s, size, chunkSize), nil
}

// idLen is how long the text of rand.Text is.
const idLen = 26

// isUploadID reports whether an id has the form of those of rand.Text.
func isUploadID(id string) bool {
	if len(id) != idLen {
		return false
	}
	for _, c := range []byte(id) {
		if (c < 'A' || 'Z' < c) && (c < '2' || '7' < c) {
			return false
		}
	}
	return true
}

func errOffset(size int64) error {
	return fmt.Errorf("%w: the upload is at byte %d", ociregistry.ErrRangeInvalid, size)
}

// acquire returns the session of that id, which may not exist, for one writer.
func (u *uploads) acquire(id string) *session {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.sessions[id]
	if s == nil {
		s = &session{uploads: u, id: id, busy: make(chan struct{}, 1)}
		u.sessions[id] = s
	}
	s.writers++
	return s
}

// release is called when a writer needs its session no more.
func (u *uploads) release(s *session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s.writers--; s.writers == 0 {
		delete(u.sessions, s.id)
		s.forget()
	}
}

// uploadWriter is a position in an upload session.
type uploadWriter struct {
	ctx       context.Context
	uploads   *uploads
	repo      string
	id        string
	chunkSize int

	mu      sync.Mutex // for Close and Cancel from another goroutine
	session *session   // nil when the writer was closed or is done
	offset  int64
	failed  error // what a Write failed with: nothing can follow it
	done    bool  // committed or cancelled
}

func (u *uploads) newWriter(ctx context.Context, repo string, s *session, offset int64, chunkSize int) *uploadWriter {
	if chunkSize <= 0 {
		chunkSize = defaultChunkSize
	}
	return &uploadWriter{ctx: ctx, uploads: u, repo: repo, id: s.id, chunkSize: chunkSize, session: s, offset: offset}
}

func (w *uploadWriter) ID() string     { return w.id }
func (w *uploadWriter) ChunkSize() int { return w.chunkSize }

func (w *uploadWriter) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.offset
}

func (w *uploadWriter) Write(p []byte) (int, error) {
	err := w.ctx.Err()
	if err == nil {
		err = w.append(p)
	}
	if err != nil {
		return 0, w.wrap(err, "Write", w.id)
	}
	return len(p), nil
}

// ReadFrom implements [io.ReaderFrom]. When the context ends it reads no more,
// but what was read is kept.
func (w *uploadWriter) ReadFrom(r io.Reader) (int64, error) {
	n, err := readBuffers(w.ctx, r, noLimit, w.append)
	if err != nil {
		err = w.wrap(err, "Write", w.id)
	}
	return n, err
}

func (w *uploadWriter) append(p []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return err
	}
	if err := w.session.append(w.ctx, w.repo, w.offset, p); err != nil {
		if w.ctx.Err() == nil {
			w.failed = err
		}
		return err
	}
	w.offset += int64(len(p))
	return nil
}

// usable checks that the writer can write or commit.
func (w *uploadWriter) usable() error {
	switch {
	case w.done:
		return ociregistry.ErrBlobUploadUnknown
	case w.session == nil:
		return fs.ErrClosed
	}
	return w.failed
}

// Commit implements [ociregistry.BlobWriter.Commit]. If the content is right but
// cannot be stored, because the disk is full for instance, the session stays,
// and Commit can be called again, with another writer too; but nothing can be
// written to it any more. Content that the system failed to make durable is the
// exception: the session ends, since no later success could be believed.
func (w *uploadWriter) Commit(d ociregistry.Digest) (ociregistry.Descriptor, error) {
	size, err := w.commit(d)
	if err != nil {
		return ociregistry.Descriptor{}, w.wrap(err, "Commit", string(d))
	}
	return ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: size}, nil
}

func (w *uploadWriter) commit(d ociregistry.Digest) (size int64, err error) {
	if !ociref.IsValidDigest(string(d)) {
		return 0, ociregistry.NewError("badly formed digest", ociregistry.ErrDigestInvalid.Code(), nil)
	}
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return 0, err
	}
	ended, err := w.session.commit(w.ctx, w.repo, w.offset, d)
	if ended {
		w.end()
	}
	return w.offset, err
}

func (w *uploadWriter) Cancel() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return nil
	}
	if w.session == nil { // closed
		w.session = w.uploads.acquire(w.id)
	}
	err := w.session.cancel(w.ctx, w.repo)
	if err != nil && !errors.Is(err, ociregistry.ErrBlobUploadUnknown) {
		return w.wrap(err, "Cancel", w.id)
	}
	w.end()
	return nil
}

func (w *uploadWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leave()
	return nil
}

func (w *uploadWriter) end() {
	w.done = true
	w.leave()
}

func (w *uploadWriter) leave() {
	if w.session != nil {
		w.uploads.release(w.session)
		w.session = nil
	}
}

func (w *uploadWriter) wrap(err error, op, ref string) error {
	return &ociregistry.OpError{Op: op, Repo: w.repo, Ref: ref, Err: err}
}
