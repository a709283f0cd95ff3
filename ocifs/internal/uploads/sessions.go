package uploads

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/secret"
	"github.com/seed-40b21970/oci/ociregistry"
)

// DefaultExpiry is the time after which the id of a session without bytes ends, if
// sessions with bytes do not expire.
const DefaultExpiry = 24 * time.Hour

// MaxSmall is the maximum size, in bytes, of small content, which is kept in memory
// or in the state file.
const MaxSmall = 16 << 10

// Options has the settings of [Sessions]. All fields except Publish and PublishText
// may be zero.
type Options struct {
	// Expiry is how long a session may be idle before it ends. Zero and negative
	// values mean that sessions do not expire, except that a session without bytes,
	// which is only its id, ends after DefaultExpiry.
	Expiry time.Duration

	// MaxSessions is the maximum number of sessions with bytes. Zero and negative
	// values mean no limit.
	MaxSessions int

	// Now returns the time. Nil means [time.Now].
	Now func() time.Time

	// Logger receives warnings. Nil means no logging.
	Logger *slog.Logger

	// Publish makes content, whose digest was checked, a blob of a repository. If it
	// fails, the session stays, and Commit can be called again. If it succeeds, the
	// content is discarded, and the bytes that are still reserved for it are
	// released; Publish need not take care of either.
	Publish func(ctx context.Context, repo string, d ociregistry.Digest, content *blobs.Staged) error

	// PublishText is Publish for content that is not in a file of its own. It reports
	// whether the reserved bytes now belong to the blob.
	PublishText func(ctx context.Context, repo string, d ociregistry.Digest, text string) (added bool, err error)
}

// defaultChunkSize is the chunk size that a BlobWriter recommends, in bytes. It is
// not a minimum here, but a server may announce it to its clients as one.
const defaultChunkSize = 8 << 10

// Sessions has the upload sessions of a registry. A session without bytes is nothing
// but its id, which every process can check: see id.go. The first bytes belong to the
// process that receives them, in memory if they are few, and otherwise in a staged
// file. When the writer is closed, or more than maxUnshared bytes arrive, the session
// gets files, which other processes can use as well:
//
//	DIR/ID.state  a sessionState, locked while the session is used, and small content
//	DIR/ID        the bytes that have arrived, and perhaps some that were not acknowledged
//
// Nothing is synced before Commit. A session survives the end of the process at any
// instant, with what it had when a writer was closed, or when it had more than
// maxUnshared bytes. After a power cut it continues if its bytes are there; otherwise it
// is unknown.
//
// A session with files exists while its state file exists and does not say that the
// session has ended. The next sweep removes the remains of an ended session.
type Sessions struct {
	work   *disk.Workspace
	blobs  *blobs.Store
	quota  *blobs.Quota
	dir    string // created when needed
	expiry time.Duration
	log    *slog.Logger
	key    secret.File // of ids; deleting it ends all sessions without bytes
	ended  *endedIDs
	count  sessionCount

	publish     func(ctx context.Context, repo string, d ociregistry.Digest, content *blobs.Staged) error
	publishText func(ctx context.Context, repo string, d ociregistry.Digest, text string) (added bool, err error)

	now  func() time.Time
	boot bootID // changes when bytes that were not synced may be lost

	mu       sync.Mutex
	sessions map[string]*session // sessions with writers in this process, and paused ones
	paused   []*session          // sessions without writers, in the order in which they were paused
	sweeper  *time.Timer         // nil if no sweep is scheduled or under way
	unswept  bool                // the sweep under way may have missed a session
	closed   bool
	sweeping sync.WaitGroup
}

// New returns the upload sessions in the directory of work. Their content is staged
// in store. Call Watch to have expired sessions removed, and Close in the end.
func New(work *disk.Workspace, store *blobs.Store, quota *blobs.Quota, opts Options) *Sessions {
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	u := &Sessions{
		work:        work,
		blobs:       store,
		quota:       quota,
		dir:         filepath.Join(work.Dir, "uploads"),
		expiry:      opts.Expiry,
		log:         log,
		key:         secret.File{Work: work, Log: log, Name: filepath.Join(work.Dir, "uploads.key")},
		ended:       newEndedIDs(work.FS, filepath.Join(work.Dir, "ended")),
		publish:     opts.Publish,
		publishText: opts.PublishText,
		now:         time.Now,
		boot:        currentBoot(work.FS),
		sessions:    make(map[string]*session),
	}
	if opts.Now != nil {
		u.now = opts.Now
	}
	u.count = sessionCount{max: opts.MaxSessions, files: u.countFiles}
	return u
}

// Start begins a session. The caller has checked the repository's name. If chunkSize
// is not positive, the chunk size is 8 KiB.
func (u *Sessions) Start(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	id, says, err := u.issue(repo, ociregistry.DigestAlgorithmFrom(ctx))
	if err != nil {
		return nil, err
	}
	s := u.newSession(id)
	s.memory = u.newMemory(repo, says)
	u.mu.Lock()
	u.sessions[id] = s
	u.mu.Unlock()
	return u.newWriter(ctx, repo, s, position{}, chunkSize), nil
}

// Resume continues a session. The caller has checked the repository's name.
//
// Errors: [ociregistry.ErrBlobUploadUnknown], [ociregistry.ErrRangeInvalid], and
// those of ctx and of the system.
func (u *Sessions) Resume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	if !isID(id) {
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

// InMemory returns the number of sessions that are in the memory of this process.
func (u *Sessions) InMemory() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.sessions)
}

// newSession returns a session for one writer.
func (u *Sessions) newSession(id string) *session {
	return &session{uploads: u, id: id, writers: 1, busy: make(chan struct{}, 1)}
}

// acquire returns the session with that id, which may not exist, for one writer.
func (u *Sessions) acquire(id string) *session {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.sessions[id]; s != nil {
		if s.writers++; s.writers == 1 {
			i := slices.Index(u.paused, s)
			u.paused = slices.Delete(u.paused, i, i+1)
		}
		return s
	}
	s := u.newSession(id)
	u.sessions[id] = s
	return s
}

// release is called when a writer no longer needs its session.
func (u *Sessions) release(s *session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s.writers--; s.writers == 0 {
		u.drop(s)
	}
}

// maxPaused is the maximum number of sessions without writers that stay open.
const maxPaused = 64

// pause is release for a session that is likely to continue, since the next request
// usually follows at once. If the session is small, its state file stays open.
func (u *Sessions) pause(s *session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s.writers--; s.writers > 0 {
		return
	}
	if u.closed || s.file == nil || !s.known || !s.state.inline {
		u.drop(s)
		return
	}
	u.paused = append(u.paused, s)
	if len(u.paused) > maxPaused {
		u.drop(u.paused[0])
		u.paused = slices.Delete(u.paused, 0, 1)
	}
}

func (u *Sessions) dropPaused() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range u.paused {
		u.drop(s)
	}
	u.paused = nil
}

// drop frees what this process has of a session without writers. u.mu is held.
func (u *Sessions) drop(s *session) {
	delete(u.sessions, s.id)
	s.loseMemory()
	s.unload()
	s.closeState()
}
