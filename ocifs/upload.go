package ocifs

import (
	"context"
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

// uploads has the upload sessions of a registry. One without bytes is nothing but
// its id, which every process can check: see uploadid.go. Its first bytes stay in the
// memory of the process to which they come, if they are few; a commit of these makes no
// file. When their writer is closed, or when they are more, the session gets files,
// which other processes use as well:
//
//	DIR/ID.state  a sessionState, locked by who uses the session, and small content
//	DIR/ID        the bytes that came, and perhaps more that were not acknowledged
//
// Nothing is synced before Commit. A session survives the end of the process at
// any instant: what it had when a writer was closed, or when its content was no longer
// small. After a power cut it goes on if its bytes are there; else it is unknown.
//
// A session with files exists while its state file does and says so. What is left of
// one that ended is removed by the next sweep.
type uploads struct {
	store  *store
	dir    string // made when it is needed
	expiry time.Duration
	log    *slog.Logger
	key    uploadKey
	ended  *endedIDs
	count  sessionCount

	// publish makes content, whose digest was checked, a blob of a repository. If
	// it fails, the session stays, and Commit can be tried again. If not, it may
	// leave the content as it is, which is then discarded, and content.reserved
	// with it given back.
	publish func(ctx context.Context, repo string, d ociregistry.Digest, content *staged) error

	// publishText is publish for small content. It reports whether the bytes that
	// were taken from the limit for it are the blob's now.
	publishText func(ctx context.Context, repo string, d ociregistry.Digest, text string) (added bool, err error)

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
// that was idle as long as expiry ends; if expiry is not positive, none with bytes
// does. If max is positive, there are at most so many sessions with bytes. The caller
// sets publish and publishText, and calls watch if sessions are to be swept.
func newUploads(s *store, private string, expiry time.Duration, max int, log *slog.Logger) *uploads {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	u := &uploads{
		store:    s,
		dir:      filepath.Join(private, "uploads"),
		expiry:   expiry,
		log:      log,
		key:      uploadKey{store: s, name: filepath.Join(private, "uploads.key")},
		ended:    newEndedIDs(s.fs, filepath.Join(private, "ended")),
		now:      time.Now,
		boot:     currentBoot(s.fs),
		sessions: make(map[string]*session),
	}
	u.count = sessionCount{max: max, files: u.countFiles}
	return u
}

// start opens a session. The repository's name was checked.
func (u *uploads) start(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	id, says, err := u.key.issue(u.now(), repo, ociregistry.DigestAlgorithmFrom(ctx))
	if err != nil {
		return nil, err
	}
	s := u.newSession(id)
	s.memory = &memory{repo: repo, id: says}
	u.mu.Lock()
	u.sessions[id] = s
	u.mu.Unlock()
	return u.newWriter(ctx, repo, s, position{}, chunkSize), nil
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
	at, err := s.touch(ctx, repo)
	if err == nil && offset != -1 && offset != at.offset {
		err = errOffset(at.offset)
	}
	if err != nil {
		u.release(s)
		return nil, err
	}
	return u.newWriter(ctx, repo, s, at, chunkSize), nil
}

func errOffset(size int64) error {
	return fmt.Errorf("%w: the upload is at byte %d", ociregistry.ErrRangeInvalid, size)
}

// newSession returns a session for one writer.
func (u *uploads) newSession(id string) *session {
	return &session{uploads: u, id: id, writers: 1, busy: make(chan struct{}, 1)}
}

// acquire returns the session of that id, which may not exist, for one writer.
func (u *uploads) acquire(id string) *session {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.sessions[id]; s != nil {
		s.writers++
		return s
	}
	s := u.newSession(id)
	u.sessions[id] = s
	return s
}

// release is called when a writer needs its session no more.
func (u *uploads) release(s *session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s.writers--; s.writers == 0 {
		delete(u.sessions, s.id)
		s.loseMemory()
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
	at      position
	failed  error // what a Write failed with: nothing can follow it
	done    bool  // committed or cancelled
}

func (u *uploads) newWriter(ctx context.Context, repo string, s *session, at position, chunkSize int) *uploadWriter {
	if chunkSize <= 0 {
		chunkSize = defaultChunkSize
	}
	return &uploadWriter{ctx: ctx, uploads: u, repo: repo, id: s.id, chunkSize: chunkSize, session: s, at: at}
}

func (w *uploadWriter) ID() string     { return w.id }
func (w *uploadWriter) ChunkSize() int { return w.chunkSize }

func (w *uploadWriter) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at.offset
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
	if err := w.session.append(w.ctx, w.repo, &w.at, p); err != nil {
		if w.ctx.Err() == nil {
			w.failed = err
		}
		return err
	}
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
	ended, err := w.session.commit(w.ctx, w.repo, w.at, d)
	if ended {
		w.end()
	}
	return w.at.offset, err
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

// Close implements [ociregistry.BlobWriter.Close]. After an error, bytes that were
// written since the session got files, or since it began, may be missing.
func (w *uploadWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session == nil {
		return nil
	}
	err := w.session.keep(context.WithoutCancel(w.ctx), w.at)
	w.leave()
	if err != nil {
		return w.wrap(err, "Close", w.id)
	}
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
