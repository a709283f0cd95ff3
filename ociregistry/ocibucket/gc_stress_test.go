package ocibucket

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

var stressFor = flag.Duration("gc.stress", 4*time.Minute, "how long clients use a registry beside collections, by a clock that is not real")

// alternating is several processes with one bucket: each call goes to another one.
type alternating struct {
	*Registry
	processes []*Registry
	calls     atomic.Int64
}

func (a *alternating) any() *Registry {
	return a.processes[int(a.calls.Add(1))%len(a.processes)]
}

func (a *alternating) GC(ctx context.Context, opts *ocigc.Options) (*ocigc.Report, error) {
	return a.any().GC(ctx, opts)
}

func (a *alternating) GetTag(ctx context.Context, repo, tag string) (ociregistry.BlobReader, error) {
	return a.any().GetTag(ctx, repo, tag)
}

func (a *alternating) ResolveTag(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
	return a.any().ResolveTag(ctx, repo, tag)
}

func (a *alternating) GetManifest(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
	return a.any().GetManifest(ctx, repo, d)
}

func (a *alternating) ResolveManifest(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	return a.any().ResolveManifest(ctx, repo, d)
}

func (a *alternating) GetBlob(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
	return a.any().GetBlob(ctx, repo, d)
}

func (a *alternating) ResolveBlob(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	return a.any().ResolveBlob(ctx, repo, d)
}

func (a *alternating) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, rd io.Reader) (ociregistry.Descriptor, error) {
	return a.any().PushBlob(ctx, repo, desc, rd)
}

func (a *alternating) MountBlob(ctx context.Context, from, to string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	return a.any().MountBlob(ctx, from, to, d)
}

func (a *alternating) PushManifest(ctx context.Context, repo, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	return a.any().PushManifest(ctx, repo, ref, contents, mediaType, tags...)
}

func (a *alternating) DeleteTag(ctx context.Context, repo, tag string) error {
	return a.any().DeleteTag(ctx, repo, tag)
}

func (a *alternating) DeleteManifest(ctx context.Context, repo string, d ociregistry.Digest) error {
	return a.any().DeleteManifest(ctx, repo, d)
}

func TestGC_DoesNoHarmWhileClientsUseTheRegistry(t *testing.T) {
	t.Parallel()
	const grace = 10 * time.Minute
	for _, delay := range []time.Duration{-1, time.Minute} {
		for _, processes := range []int{1, 3} {
			t.Run(fmt.Sprintf("%v,%d", delay, processes), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					store := memstore.New(&memstore.Options{Fault: func(memstore.Request) memstore.Fault {
						return memstore.Fault{Delay: time.Duration(rand.IntN(2000)) * time.Millisecond}
					}})
					a := new(alternating)
					for range processes {
						r, err := open(t.Context(), store, nil, settings{grace: grace, promiseAge: defaultPromiseAge, retry: &objstore.RetryOptions{Attempts: 3}})
						qt.Assert(t, qt.IsNil(err))
						t.Cleanup(func() { r.Close() })
						a.processes = append(a.processes, r)
					}
					a.Registry = a.processes[0]
					ocitest.StressGC(t, a, ocitest.StressOptions{Duration: *stressFor, Delay: delay, Rounds: 2})
				})
			})
		}
	}
}
