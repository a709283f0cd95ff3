// Package usage tells how many bytes repositories have: what this process changes at once, and what others
// change when they have told it. A repository is counted when it is asked for first.
package usage

import (
	"context"
	"log/slog"
	"time"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/blobs"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/news"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/tally"
)

// MaxAge is how old what is known of other processes may be.
const MaxAge = 10 * time.Second

// A Reporter knows how many bytes repositories have. It is safe for concurrent use.
type Reporter struct {
	bucket   *bucket.Bucket
	repos    *repos.Set
	blobs    *blobs.Store
	tally    *tally.Tally
	follower *news.Follower // nil if nobody can be told that somebody follows
	log      *slog.Logger

	gate    chan struct{} // has room for who uses what follows
	read    time.Time     // when the news were read, by the clock of the process
	counted map[string]bool
}

// New returns a Reporter. What is damaged it tells the log, and does not count.
func New(b *bucket.Bucket, r *repos.Set, s *blobs.Store, t *tally.Tally, f *news.Follower, log *slog.Logger) *Reporter {
	return &Reporter{bucket: b, repos: r, blobs: s, tally: t, follower: f, log: log, gate: make(chan struct{}, 1), counted: map[string]bool{}}
}

// Below returns the bytes of a repository and of all below it.
func (r *Reporter) Below(ctx context.Context, prefix string) (int64, error) {
	if err := r.enter(ctx); err != nil {
		return 0, err
	}
	defer r.leave()
	if age := time.Now().Round(0).Sub(r.read); age < 0 || age > MaxAge {
		if err := r.catchUp(ctx); err != nil {
			return 0, err
		}
	}
	if !r.counted[prefix] {
		if err := r.start(ctx, prefix); err != nil {
			return 0, err
		}
	}
	if err := r.lookAtDoubts(ctx); err != nil {
		return 0, err
	}
	return r.tally.Below(prefix), nil
}

func (r *Reporter) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case r.gate <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Reporter) leave() { <-r.gate }

// CatchUp reads what other processes have told until now. It is for tests.
func (r *Reporter) CatchUp(ctx context.Context) error {
	if err := r.enter(ctx); err != nil {
		return err
	}
	defer r.leave()
	return r.catchUp(ctx)
}

// catchUp notes what others have told to be in doubt. Who has not read it for long, or cannot, begins anew.
func (r *Reporter) catchUp(ctx context.Context) error {
	now := time.Now().Round(0)
	complete := false
	if r.follower != nil {
		var err error
		if complete, err = r.follower.Read(ctx, r.tell); err != nil {
			return err
		}
	}
	if !complete {
		r.tally.Reset()
		clear(r.counted)
		if r.follower != nil {
			if err := r.follower.Follow(ctx); err != nil {
				return err
			}
		}
	}
	r.read = now
	return nil
}

// tell notes what another process has told.
func (r *Reporter) tell(c *formats.Changed) {
	if !r.tally.IsAsked(c.Repository) {
		return
	}
	if !r.tally.IsCounted(c.Repository) {
		r.tally.DoubtAll(c.Repository)
		return
	}
	if c.Manifests {
		r.tally.DoubtManifests(c.Repository)
	}
	for _, digest := range c.Blobs {
		r.tally.DoubtBlob(c.Repository, digest)
	}
	if c.Found != nil {
		r.tally.Found(c.Repository, c.Found)
	}
}

// start counts a repository, and all below it, for the first time.
func (r *Reporter) start(ctx context.Context, prefix string) error {
	r.tally.Ask(prefix)
	names, err := r.names(ctx, prefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !r.tally.IsCounted(name) {
			r.tally.DoubtAll(name)
		}
	}
	r.counted[prefix] = true
	return nil
}
