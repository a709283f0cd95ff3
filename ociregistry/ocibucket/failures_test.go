package ocibucket

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// An attempt is a call, and what it does if it succeeds.
type attempt struct {
	name    string
	prepare func(ctx context.Context, r *Registry) error
	call    func(ctx context.Context, r *Registry) error
	done    func(ctx context.Context, r *Registry) error // nil if the call has happened
	creates bool                                         // the repository app, which is not there before
}

var (
	smallBlob, mediumBlob, largeBlob = ocitest.NewBlob(1, 100), ocitest.NewBlob(2, 100_000), ocitest.NewBlob(3, 500_000)
	someImage                        = ocitest.NewImage(ocitest.Spec{Seed: 4, Layers: []int64{100, 100_000}})
)

func pushTo(repo string, b ocitest.Blob) func(context.Context, *Registry) error {
	return func(ctx context.Context, r *Registry) error {
		_, err := r.PushBlob(ctx, repo, b.Descriptor, b.NewReader())
		return err
	}
}

func hasBlob(repo string, b ocitest.Blob) func(context.Context, *Registry) error {
	return func(ctx context.Context, r *Registry) error {
		rd, err := r.GetBlob(ctx, repo, b.Descriptor.Digest)
		if err != nil {
			return err
		}
		return rd.Close()
	}
}

func upload(b ocitest.Blob) func(context.Context, *Registry) error {
	return func(ctx context.Context, r *Registry) error {
		w, err := r.PushBlobChunked(ctx, "app", 0)
		if err != nil {
			return err
		}
		defer w.Cancel()
		if _, err := w.Write(b.Bytes()); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		w, err = r.PushBlobChunkedResume(ctx, "app", w.ID(), b.Descriptor.Size, 0)
		if err != nil {
			return err
		}
		_, err = w.Commit(b.Descriptor.Digest)
		return err
	}
}

func pushImage(ctx context.Context, r *Registry) error {
	return someImage.Push(ctx, r, "app", "v1", "v2")
}

func isGone(err error) error {
	for _, unknown := range []error{ociregistry.ErrNameUnknown, ociregistry.ErrManifestUnknown, ociregistry.ErrBlobUnknown} {
		if errors.Is(err, unknown) {
			return nil
		}
	}
	return errors.Join(errors.New("it is there"), err)
}

var failing = []attempt{
	{name: "PushBlob of small content", call: pushTo("app", smallBlob), done: hasBlob("app", smallBlob), creates: true},
	{name: "PushBlob", call: pushTo("app", mediumBlob), done: hasBlob("app", mediumBlob), creates: true},
	{name: "PushBlob of parts", call: pushTo("app", largeBlob), done: hasBlob("app", largeBlob), creates: true},
	{name: "PushBlob of what is there", prepare: pushTo("other", largeBlob), call: pushTo("app", largeBlob), done: hasBlob("app", largeBlob), creates: true},
	{name: "upload of small content", call: upload(smallBlob), done: hasBlob("app", smallBlob), creates: true},
	{name: "upload", call: upload(mediumBlob), done: hasBlob("app", mediumBlob), creates: true},
	{name: "upload of parts", call: upload(largeBlob), done: hasBlob("app", largeBlob), creates: true},
	{name: "MountBlob", prepare: pushTo("other", mediumBlob), call: func(ctx context.Context, r *Registry) error {
		_, err := r.MountBlob(ctx, "other", "app", mediumBlob.Descriptor.Digest)
		return err
	}, done: hasBlob("app", mediumBlob), creates: true},
	{name: "MountBlob from anywhere", prepare: pushTo("other", smallBlob), call: func(ctx context.Context, r *Registry) error {
		_, err := r.MountBlob(ctx, "", "app", smallBlob.Descriptor.Digest)
		return err
	}, done: hasBlob("app", smallBlob), creates: true},
	{name: "PushManifest", call: func(ctx context.Context, r *Registry) error {
		_, err := r.PushManifest(ctx, "app", "v1", []byte("text"), "text/x-test", "v2")
		return err
	}, done: func(ctx context.Context, r *Registry) error {
		_, err := r.ResolveTag(ctx, "app", "v2")
		return err
	}, creates: true},
	{name: "PushManifest of an image", prepare: func(ctx context.Context, r *Registry) error {
		for _, b := range someImage.Blobs {
			if err := pushTo("app", b)(ctx, r); err != nil {
				return err
			}
		}
		return nil
	}, call: func(ctx context.Context, r *Registry) error {
		_, err := r.PushManifest(ctx, "app", "v1", someImage.Manifest, someImage.Descriptor.MediaType, "v2")
		return err
	}, done: func(ctx context.Context, r *Registry) error { return someImage.Verify(ctx, r, "app") }},
	{name: "DeleteTag", prepare: pushImage, call: func(ctx context.Context, r *Registry) error { return r.DeleteTag(ctx, "app", "v1") },
		done: func(ctx context.Context, r *Registry) error {
			_, err := r.ResolveTag(ctx, "app", "v1")
			return isGone(err)
		}},
	{name: "DeleteManifest", prepare: pushImage, call: func(ctx context.Context, r *Registry) error {
		return r.DeleteManifest(ctx, "app", someImage.Descriptor.Digest)
	}, done: func(ctx context.Context, r *Registry) error {
		_, err := r.ResolveTag(ctx, "app", "v2")
		return isGone(err)
	}},
	{name: "DeleteBlob", prepare: pushTo("app", mediumBlob), call: func(ctx context.Context, r *Registry) error {
		return r.DeleteBlob(ctx, "app", mediumBlob.Descriptor.Digest)
	}, done: func(ctx context.Context, r *Registry) error { return isGone(hasBlob("app", mediumBlob)(ctx, r)) }},
}

var kindsOfFailure = []struct {
	name  string
	fault memstore.Fault
}{
	{"denied", memstore.Fault{Kind: objstore.ErrDenied}},
	{"lost", memstore.Fault{Lost: true}},
	{"late", memstore.Fault{Late: true}},
	{"twice", memstore.Fault{Twice: true}},
	{"again", memstore.Fault{Again: true}},
}

// Each request of a call meets each fault. A call that succeeds has happened, also for others; one that fails
// leaves nothing to see, or has happened; and then it can be made again.
func TestEachRequestFails(t *testing.T) {
	t.Parallel()
	for _, a := range failing {
		for _, kind := range kindsOfFailure {
			t.Run(a.name+"/"+kind.name, func(t *testing.T) {
				t.Parallel()
				for n := int64(1); !failAt(t, &a, kind.fault, n); n++ {
					qt.Assert(t, qt.IsTrue(n < 100))
				}
			})
		}
	}
}

// failAt makes an attempt whose request n meets a fault. It reports whether there was no such request.
func failAt(t *testing.T, a *attempt, fault memstore.Fault, n int64) (over bool) {
	ctx := t.Context()
	var left atomic.Int64
	store := memstore.New(&memstore.Options{Fault: func(req memstore.Request) memstore.Fault {
		if left.Add(-1) == 0 {
			return fault
		}
		return memstore.Fault{}
	}})
	once := settings{grace: defaultGrace, retry: &objstore.RetryOptions{Attempts: -1}}
	r, err := open(ctx, store, &smallParts, once)
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	if a.prepare != nil {
		qt.Assert(t, qt.IsNil(a.prepare(ctx, r)))
	}
	left.Store(n)
	err = a.call(ctx, r)
	r.repos.Wait()
	over = left.Load() > 0
	left.Store(0)
	store.Land(func(memstore.Request) bool { return true })
	other := mustOpen(t, store, &smallParts)
	for _, p := range []*Registry{r, other} {
		done := a.done(ctx, p)
		names, listErr := ociregistry.All(p.Repositories(ctx, ""))
		qt.Assert(t, qt.IsNil(listErr))
		if err == nil {
			qt.Assert(t, qt.IsNil(done), qt.Commentf("request %d of %s", n, a.name))
		}
		if a.creates {
			qt.Assert(t, qt.Equals(slices.Contains(names, "app"), done == nil), qt.Commentf("request %d of %s: %v", n, a.name, done))
		}
	}
	if err != nil {
		if again := a.call(ctx, other); again != nil {
			qt.Assert(t, qt.IsNil(isGone(again)), qt.Commentf("request %d of %s", n, a.name))
		}
		qt.Assert(t, qt.IsNil(a.done(ctx, r)), qt.Commentf("request %d of %s, again", n, a.name))
	}
	return over
}
