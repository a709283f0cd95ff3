package ocitest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A suite is worth what it catches. Each defect below is a registry in memory
// with one thing wrong, and the clauses that have to fail for it.

// defect is a way to be wrong.
type defect struct {
	name     string
	caughtBy []string // clauses, as group/name
	inject   func(*ociregistry.Funcs)

	config ocimem.Config // of the registry that is spoiled
	opts   Options       // that it is checked with
}

var defects = slices.Concat(
	argumentDefects, readDefects, pushBlobDefects, uploadDefects, mountDefects,
	manifestDefects, allowanceDefects, deleteDefects, listDefects, referrersDefects, absentDefects,
)

func TestDefectsAreCaught(t *testing.T) {
	for _, d := range defects {
		t.Run(strings.ReplaceAll(d.name, " ", "-"), func(t *testing.T) {
			if len(d.caughtBy) == 0 {
				t.Fatal("no clause is named that catches it")
			}
			for _, name := range d.caughtBy {
				g, c := mustFindClause(t, name)
				t.Run(name, func(t *testing.T) {
					if !g.serial {
						t.Parallel()
					}
					// Where goroutines have to meet, a few times may not be enough.
					for range 100 {
						if d.run(t, c).failed {
							return
						}
					}
					t.Errorf("the clause passes over a registry in which %s", d.name)
				})
			}
		})
	}
}

// Every clause can fail.
func TestClausesCatchDefects(t *testing.T) {
	caught := make(map[string]bool)
	for _, d := range defects {
		for _, name := range d.caughtBy {
			caught[name] = true
		}
	}
	for _, g := range groups {
		for _, c := range g.clauses {
			if name := g.name + "/" + c.name; !caught[name] {
				t.Errorf("no defect is known that %s catches", name)
			}
		}
	}
}

func mustFindClause(t *testing.T, name string) (group, clause) {
	for _, g := range groups {
		for _, c := range g.clauses {
			if g.name+"/"+c.name == name {
				return g, c
			}
		}
	}
	t.Fatalf("there is no clause %s", name)
	panic("unreachable")
}

// run runs one clause over the defective registry.
func (d defect) run(t *testing.T, c clause) *recorder {
	opts := d.opts
	opts.Patience = 200 * time.Millisecond
	opts.AdoptsUploadIDs = true
	s := newSuite(func(testing.TB) ociregistry.Interface {
		config := d.config
		r := ocimem.NewWithConfig(&config)
		f := forward(r)
		if d.inject != nil {
			d.inject(f)
		}
		return view{f, r}
	}, &opts)
	rec := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.check(rec, c)
	}()
	<-done
	if rec.skipped {
		t.Errorf("the clause was skipped: %s", rec.log)
	}
	return rec
}

// recorder is a test whose failure is no failure.
type recorder struct {
	testing.TB

	mu      sync.Mutex
	failed  bool
	skipped bool
	log     []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Skipf(format string, args ...any) {
	r.mu.Lock()
	r.skipped = true
	r.log = append(r.log, fmt.Sprintf(format, args...))
	r.mu.Unlock()
	runtime.Goexit()
}

// forward returns an implementation whose functions can be replaced.
func forward(r ociregistry.Interface) *ociregistry.Funcs {
	return &ociregistry.Funcs{
		GetBlob_: r.GetBlob, GetBlobRange_: r.GetBlobRange, GetManifest_: r.GetManifest, GetTag_: r.GetTag,
		ResolveBlob_: r.ResolveBlob, ResolveManifest_: r.ResolveManifest, ResolveTag_: r.ResolveTag,
		PushBlob_: r.PushBlob, PushBlobChunked_: r.PushBlobChunked, PushBlobChunkedResume_: r.PushBlobChunkedResume,
		MountBlob_: r.MountBlob, PushManifest_: r.PushManifest,
		DeleteBlob_: r.DeleteBlob, DeleteManifest_: r.DeleteManifest, DeleteTag_: r.DeleteTag,
		Repositories_: r.Repositories, Tags_: r.Tags, Referrers_: r.Referrers,
	}
}

// Short names for the signatures that the defects have to repeat.
type (
	Ctx  = context.Context
	desc = ociregistry.Descriptor
	dig  = ociregistry.Digest
)

// swap returns to if err is from, else err.
func swap(err, from, to error) error {
	if err != nil && errors.Is(err, from) {
		return to
	}
	return err
}

// reader is a BlobReader with another Read or descriptor.
type reader struct {
	ociregistry.BlobReader
	read func(p []byte) (int, error)
	desc *desc
}

func (r reader) Read(p []byte) (int, error) {
	if r.read != nil {
		return r.read(p)
	}
	return r.BlobReader.Read(p)
}

func (r reader) Descriptor() desc {
	if r.desc != nil {
		return *r.desc
	}
	return r.BlobReader.Descriptor()
}

// wrapGetBlob wraps what GetBlob returns.
func wrapGetBlob(f *ociregistry.Funcs, wrap func(ociregistry.BlobReader) ociregistry.BlobReader) {
	next := f.GetBlob_
	f.GetBlob_ = func(ctx Ctx, repo string, d dig) (ociregistry.BlobReader, error) {
		r, err := next(ctx, repo, d)
		if err != nil {
			return nil, err
		}
		return wrap(r), nil
	}
}

// writer is a BlobWriter with other methods where they are not nil.
type writer struct {
	ociregistry.BlobWriter
	write     func(p []byte) (int, error)
	commit    func(dig) (desc, error)
	cancel    func() error
	close     func() error
	size      func() int64
	chunkSize func() int
	id        func() string
}

func (w *writer) Write(p []byte) (int, error) {
	if w.write != nil {
		return w.write(p)
	}
	return w.BlobWriter.Write(p)
}

func (w *writer) Commit(d dig) (desc, error) {
	if w.commit != nil {
		return w.commit(d)
	}
	return w.BlobWriter.Commit(d)
}

func (w *writer) Cancel() error {
	if w.cancel != nil {
		return w.cancel()
	}
	return w.BlobWriter.Cancel()
}

func (w *writer) Close() error {
	if w.close != nil {
		return w.close()
	}
	return w.BlobWriter.Close()
}

func (w *writer) Size() int64 {
	if w.size != nil {
		return w.size()
	}
	return w.BlobWriter.Size()
}

func (w *writer) ChunkSize() int {
	if w.chunkSize != nil {
		return w.chunkSize()
	}
	return w.BlobWriter.ChunkSize()
}

func (w *writer) ID() string {
	if w.id != nil {
		return w.id()
	}
	return w.BlobWriter.ID()
}

// wrapWriters wraps all writers, by a function that gets each with the
// repository it is in.
func wrapWriters(f *ociregistry.Funcs, wrap func(w *writer, repo string)) {
	start, resume := f.PushBlobChunked_, f.PushBlobChunkedResume_
	wrapped := func(w ociregistry.BlobWriter, repo string, err error) (ociregistry.BlobWriter, error) {
		if err != nil {
			return nil, err
		}
		ww := &writer{BlobWriter: w}
		wrap(ww, repo)
		return ww, nil
	}
	f.PushBlobChunked_ = func(ctx Ctx, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
		w, err := start(ctx, repo, chunkSize)
		return wrapped(w, repo, err)
	}
	f.PushBlobChunkedResume_ = func(ctx Ctx, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
		w, err := resume(ctx, repo, id, offset, chunkSize)
		return wrapped(w, repo, err)
	}
}

// wrapPushBlob puts f around PushBlob.
func wrapPushBlob(f *ociregistry.Funcs, wrap func(ctx Ctx, repo string, d desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error)) {
	next := f.PushBlob_
	f.PushBlob_ = func(ctx Ctx, repo string, d desc, r io.Reader) (desc, error) {
		return wrap(ctx, repo, d, r, func(r io.Reader) (desc, error) { return next(ctx, repo, d, r) })
	}
}

// manifestPush has the arguments of a PushManifest.
type manifestPush struct {
	ctx       Ctx
	repo, ref string
	contents  []byte
	mediaType string
	tags      []string
}

// wrapPushManifest puts a function around PushManifest.
func wrapPushManifest(f *ociregistry.Funcs, wrap func(p manifestPush, next func(manifestPush) (desc, error)) (desc, error)) {
	next := f.PushManifest_
	f.PushManifest_ = func(ctx Ctx, repo, ref string, contents []byte, mediaType string, tags ...string) (desc, error) {
		return wrap(manifestPush{ctx, repo, ref, contents, mediaType, tags}, func(p manifestPush) (desc, error) {
			return next(p.ctx, p.repo, p.ref, p.contents, p.mediaType, p.tags...)
		})
	}
}

// allTags returns ref, if it is a tag, and the tags.
func (p manifestPush) allTags() []string {
	if p.ref == "" || strings.Contains(p.ref, ":") {
		return p.tags
	}
	return append([]string{p.ref}, p.tags...)
}

// moves reports whether the push would move a tag.
func (p manifestPush) moves(f *ociregistry.Funcs, tag string) bool {
	d, err := f.ResolveTag(p.ctx, p.repo, tag)
	return err == nil && d.Digest != digest.FromBytes(p.contents)
}
