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

// ErrStalled is for a source of a mirror of which nothing came for a while: see
// the Stall field of [Source].
var ErrStalled = errors.New("the source stalled")

// patient is a registry to read from. It bounds how long the registry is waited for:
// for the answer to a call, and for each next part of a list or a blob. Time in which
// nobody waits does not count.
type patient struct {
	*ociregistry.Funcs
	reg     ociregistry.Interface
	bound   time.Duration
	stalled atomic.Bool // the last that was waited for did not come
}

// watch is the bound of one call.
type watch struct {
	*patient
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

// start begins to wait. When that takes too long, the context of the watch ends.
func (p *patient) start(ctx context.Context) *watch {
	w := &watch{patient: p}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(p.bound, func() { w.cancel(ErrStalled) })
	return w
}

// pause stops waiting for what ended with err. It returns err, or what to say in its
// place if the registry stalled.
func (w *watch) pause(err error) error {
	w.timer.Stop()
	if w.stalled.Store(context.Cause(w.ctx) == ErrStalled); w.stalled.Load() {
		return fmt.Errorf("%w: nothing came for %v", ErrStalled, w.bound)
	}
	return err
}

func (w *watch) resume() { w.timer.Reset(w.bound) }

func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

func (p *patient) resolve(ctx context.Context, resolve func(context.Context) (ociregistry.Descriptor, error)) (ociregistry.Descriptor, error) {
	w := p.start(ctx)
	defer w.end()
	desc, err := resolve(w.ctx)
	return desc, w.pause(err)
}

func (p *patient) ResolveTag(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
	return p.resolve(ctx, func(ctx context.Context) (ociregistry.Descriptor, error) {
		return p.reg.ResolveTag(ctx, repo, tag)
	})
}

func (p *patient) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	return p.resolve(ctx, func(ctx context.Context) (ociregistry.Descriptor, error) {
		return p.reg.ResolveManifest(ctx, repo, digest)
	})
}

func (p *patient) open(ctx context.Context, open func(context.Context) (ociregistry.BlobReader, error)) (ociregistry.BlobReader, error) {
	w := p.start(ctx)
	r, err := open(w.ctx)
	stall := w.pause(err)
	if stall != nil {
		if err == nil {
			r.Close()
		}
		w.end()
		return nil, stall
	}
	pr := patientReader{BlobReader: r, watch: w}
	if s, ok := r.(io.Seeker); ok {
		return &patientSeeker{pr, s}, nil
	}
	return &pr, nil
}

func (p *patient) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	return p.open(ctx, func(ctx context.Context) (ociregistry.BlobReader, error) {
		return p.reg.GetManifest(ctx, repo, digest)
	})
}

func (p *patient) GetTag(ctx context.Context, repo, tag string) (ociregistry.BlobReader, error) {
	return p.open(ctx, func(ctx context.Context) (ociregistry.BlobReader, error) {
		return p.reg.GetTag(ctx, repo, tag)
	})
}

func (p *patient) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	return p.open(ctx, func(ctx context.Context) (ociregistry.BlobReader, error) {
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
	if err == io.EOF {
		r.watch.timer.Stop()
		return n, err
	}
	return n, r.watch.pause(err)
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
	return patientSeq(p, ctx, func(ctx context.Context) iter.Seq2[string, error] {
		return p.reg.Tags(ctx, repo, startAfter)
	})
}

func (p *patient) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return patientSeq(p, ctx, func(ctx context.Context) iter.Seq2[string, error] {
		return p.reg.Repositories(ctx, startAfter)
	})
}

func (p *patient) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	return patientSeq(p, ctx, func(ctx context.Context) iter.Seq2[ociregistry.Descriptor, error] {
		return p.reg.Referrers(ctx, repo, digest, artifactType)
	})
}

func patientSeq[T any](p *patient, ctx context.Context, list func(context.Context) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		w := p.start(ctx)
		defer w.end()
		var zero T
		for x, err := range list(w.ctx) {
			if err = w.pause(err); err != nil {
				yield(zero, err)
				return
			}
			if !yield(x, nil) {
				return
			}
			w.resume()
		}
		if err := w.pause(nil); err != nil {
			yield(zero, err)
		}
	}
}
