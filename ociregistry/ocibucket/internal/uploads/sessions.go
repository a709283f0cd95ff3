// Package uploads has the upload sessions of a registry in a bucket.
//
// A session is an object that says what has been kept of its bytes: the parts of an upload, and what
// comes after them, together with the state of the hash. Any process goes on from there. It
// changes under conditions only: numbers of parts are claimed before they are sent, and a commit
// changes the session before it writes anything else, so that any process can finish it.
//
// Writers of one process share a session: what they have written is in its memory until it is a
// part, or until a writer is closed.
package uploads

import (
	"context"
	"fmt"
	"hash"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/blobs"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/counted"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/parts"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Options are options for New.
type Options struct {
	// Buffers are for parts of content.
	Buffers *parts.Buffers
	// Concurrency is how many parts of an upload are sent at a time.
	Concurrency int
	// Expiry is the time after which an idle session ends. A negative value means never.
	Expiry time.Duration
	// Max is how many sessions there may be that the process takes for open. A negative value means no limit.
	Max int
}

// maxIdle is how many sessions are known that nobody uses.
const maxIdle = 1024

// Sessions has the sessions that a process knows. It is safe for concurrent use.
type Sessions struct {
	bucket  *bucket.Bucket
	blobs   *blobs.Store
	repos   *repos.Set
	opts    Options
	minPart int
	byID    *counted.Set[*session] // in use by writers
	open    *openSessions
}

// New returns the sessions in a bucket.
func New(b *bucket.Bucket, store *blobs.Store, set *repos.Set, opts Options) *Sessions {
	minPart := max(int(b.Capabilities().MinPartSize), 1)
	u := &Sessions{bucket: b, blobs: store, repos: set, opts: opts, minPart: minPart, open: newOpenSessions(opts.Max)}
	u.byID = counted.New(maxIdle, func(id string) *session {
		return &session{sessions: u, id: id, turn: make(chan struct{}, 1)}
	})
	return u
}

// Start begins a session. The error is ociregistry.ErrTooManyRequests if there are too many.
func (u *Sessions) Start(ctx context.Context, repo string, chunkSize int) (*Writer, error) {
	algorithm := digest.SHA256
	if a := ociregistry.DigestAlgorithmFrom(ctx); a.Available() {
		algorithm = a
	}
	saved := formats.Session{Status: formats.Open, Repository: repo, Algorithm: string(algorithm)}
	h := algorithm.Hash()
	saved.Hash = hashState(h)
	id := formats.Nonce()
	if err := u.open.begin(id); err != nil {
		return nil, err
	}
	o, err := u.bucket.Write(ctx, keys.Session(id), saved.Encode(), objstore.Condition{IfAbsent: true})
	if err != nil {
		u.open.end(id)
		return nil, err
	}
	s := u.byID.Use(id) // which nobody else knows
	s.adopt(saved, o)
	return newWriter(ctx, s, repo, chunkSize, 0), nil
}

// Resume goes on with a session at an offset, or at its end if that is -1. Errors:
// ociregistry.ErrBlobUploadUnknown, ociregistry.ErrRangeInvalid.
func (u *Sessions) Resume(ctx context.Context, repo, id string, offset int64, chunkSize int) (*Writer, error) {
	if k, ok := keys.Parse(keys.Session(id)); !ok || k.Name != id {
		return nil, ociregistry.ErrBlobUploadUnknown
	}
	s := u.byID.Use(id)
	asItIs, believed := offset == -1 && wire.IsCommitAsItIs(ctx), offset
	if asItIs {
		believed = anywhere
	}
	size, err := s.resume(ctx, repo, believed)
	if err == nil && offset != -1 && offset != size {
		err = errAt(size)
	}
	if err != nil {
		s.release()
		return nil, err
	}
	u.open.use(id)
	w := newWriter(ctx, s, repo, chunkSize, size)
	w.asItIs = asItIs
	return w, nil
}

func errAt(size int64) error {
	return fmt.Errorf("%w: the upload is at byte %d", ociregistry.ErrRangeInvalid, size)
}

// release tells that a writer is done.
func (s *session) release() { s.sessions.byID.Release(s.id) }

// hashState returns the state of a hash.
func hashState(h hash.Hash) []byte {
	state, err := h.(interface{ MarshalBinary() ([]byte, error) }).MarshalBinary()
	if err != nil {
		panic(err) // those of the standard library return none
	}
	return state
}

// restoreHash returns the hash with a state.
func restoreHash(algorithm string, state []byte) (hash.Hash, error) {
	a := digest.Algorithm(algorithm)
	if !a.Available() {
		return nil, fmt.Errorf("%w: hash by %q", formats.ErrMalformed, algorithm)
	}
	h := a.Hash()
	return h, h.(interface{ UnmarshalBinary([]byte) error }).UnmarshalBinary(state)
}
