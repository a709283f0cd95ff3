package ocicopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// ErrStalled is the error of a source of a mirror that has sent nothing for too long, or
// that is no longer asked for that reason. See the Stall field of [Source].
var ErrStalled = errors.New("the source stalled")

// patient is a read-only registry that limits how long to wait for the underlying one:
// for the answer to a call, and for each next part of a list or a blob. Time in which
// nobody waits does not count.
//
// When maxStalls calls of a method have stalled in a row, further calls fail at once.
// Each method has its own count: some registries resolve tags while their storage
// stalls.
type patient struct {
	*ociregistry.Funcs
	reg     ociregistry.Interface
	bound   time.Duration
	stalled atomic.Bool           // the last wait ended with a stall
	stalls  [methods]atomic.Int32 // the number of stalls in a row
}

// maxStalls is the number of stalls in a row after which a source is given up.
const maxStalls = 3

// method is a method of a patient.
type method uint8

const (
	resolveTag method = iota
	resolveManifest
	getManifest
	getTag
	getBlob
	tags
	repositories
	referrers
	methods // the number of methods
)

// reset forgets which methods stalled.
func (p *patient) reset() {
	for i := range p.stalls {
		p.stalls[i].Store(0)
	}
}

// watch limits the waits of one call.
type watch struct {
	*patient
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	method method
	before int32 // the number of stalls in a row when this call started
}

// start starts a call and waits for it. When that takes too long, the context of the
// watch ends.
func (p *patient) start(ctx context.Context, m method) (*watch, error) {
	before := p.stalls[m].Load()
	if before >= maxStalls {
		return nil, fmt.Errorf("%w %d times in a row, for %v each", ErrStalled, maxStalls, p.bound)
	}
	w := &watch{patient: p, method: m, before: before}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(p.bound, func() { w.cancel(ErrStalled) })
	return w, nil
}

// pause ends a wait. It returns err, the result of what was waited for, or ErrStalled if
// the registry stalled. Calls that stall at the same time count once: they may all be
// for one image.
func (w *watch) pause(err error) error {
	w.timer.Stop()
	switch {
	case context.Cause(w.ctx) == ErrStalled:
		w.stalled.Store(true)
		w.stalls[w.method].CompareAndSwap(w.before, w.before+1)
		return fmt.Errorf("%w: nothing came for %v", ErrStalled, w.bound)
	case w.ctx.Err() == nil: // the caller still waits
		w.stalled.Store(false)
	}
	return err
}

// finish is pause at the end of an answer, which resets the number of stalls. The start
// of an answer does not prove that all of it comes.
func (w *watch) finish(err error) error {
	err = w.pause(err)
	if w.ctx.Err() == nil {
		w.stalls[w.method].Store(0)
	}
	return err
}

func (w *watch) resume() { w.timer.Reset(w.bound) }

func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

func (p *patient) resolve(ctx context.Context, m method, resolve func(context.Context) (ociregistry.Descriptor, error)) (ociregistry.Descriptor, error) {
	w, err := p.start(ctx, m)
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	defer w.end()
	desc, err := resolve(w.ctx)
	return desc, w.finish(err)
}

func (p *patient) ResolveTag(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
	return p.resolve(ctx, resolveTag, func(ctx context.Context) (ociregistry.Descriptor, error) {
		return p.reg.ResolveTag(ctx, repo, tag)
	})
}

func (p *patient) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	return p.resolve(ctx, resolveManifest, func(ctx context.Context) (ociregistry.Descriptor, error) {
		return p.reg.ResolveManifest(ctx, repo, digest)
	})
}

func (p *patient) open(ctx context.Context, m method, open func(context.Context) (ociregistry.BlobReader, error)) (ociregistry.BlobReader, error) {
	w, err := p.start(ctx, m)
	if err != nil {
		return nil, err
	}
	r, err := open(w.ctx)
	if err != nil {
		defer w.end()
		return nil, w.finish(err)
	}
	if err := w.pause(nil); err != nil {
		r.Close()
		w.end()
		return nil, err
	}
	pr := patientReader{BlobReader: r, watch: w}
	if s, ok := r.(io.Seeker); ok {
		return &patientSeeker{pr, s}, nil
	}
	return &pr, nil
}

func (p *patient) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	return p.open(ctx, getManifest, func(ctx context.Context) (ociregistry.BlobReader, error) {
		return p.reg.GetManifest(ctx, repo, digest)
	})
}

func (p *patient) GetTag(ctx context.Context, repo, tag string) (ociregistry.BlobReader, error) {
	return p.open(ctx, getTag, func(ctx context.Context) (ociregistry.BlobReader, error) {
		return p.reg.GetTag(ctx, repo, tag)
	})
}

func (p *patient) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	return p.open(ctx, getBlob, func(ctx context.Context) (ociregistry.BlobReader, error) {
		return p.reg.GetBlob(ctx, repo, digest)
	})
}

// patientReader waits for each part of what it reads.
type patientReader struct {
	ociregistry.BlobReader
	watch *watch
}

func (r *patientReader) Read(p []byte) (int, error) {
	r.watch.resume()
	n, err := r.BlobReader.Read(p)
	switch err {
	case nil:
		return n, r.watch.pause(nil)
	case io.EOF:
		r.watch.finish(nil) // everything has come, if only at the last moment
		return n, err
	}
	return n, r.watch.finish(err)
}

func (r *patientReader) Close() error {
	defer r.watch.end()
	return r.BlobReader.Close()
}

// Verified implements [verified.Reader].
func (r *patientReader) Verified() verified.State { return verified.By(r.BlobReader) }

type patientSeeker struct {
	patientReader
	io.Seeker
}

func (p *patient) Tags(ctx context.Context, repo, startAfter string) iter.Seq2[string, error] {
	return patientSeq(p, ctx, tags, func(ctx context.Context) iter.Seq2[string, error] {
		return p.reg.Tags(ctx, repo, startAfter)
	})
}

func (p *patient) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return patientSeq(p, ctx, repositories, func(ctx context.Context) iter.Seq2[string, error] {
		return p.reg.Repositories(ctx, startAfter)
	})
}

func (p *patient) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	return patientSeq(p, ctx, referrers, func(ctx context.Context) iter.Seq2[ociregistry.Descriptor, error] {
		return p.reg.Referrers(ctx, repo, digest, artifactType)
	})
}

func patientSeq[T any](p *patient, ctx context.Context, m method, list func(context.Context) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		w, err := p.start(ctx, m)
		if err != nil {
			yield(zero, err)
			return
		}
		defer w.end()
		for x, err := range list(w.ctx) {
			if err != nil {
				yield(zero, w.finish(err))
				return
			}
			if err := w.pause(nil); err != nil {
				yield(zero, err)
				return
			}
			if !yield(x, nil) {
				return
			}
			w.resume()
		}
		if err := w.finish(nil); err != nil {
			yield(zero, err)
		}
	}
}
