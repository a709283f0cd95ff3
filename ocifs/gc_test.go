package ocifs

import (
	"context"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func TestGC_KeepsItsContract(t *testing.T) {
	t.Parallel()
	ocitest.RunGC(t, func(t testing.TB, now func() time.Time) ocigc.Collector {
		return openFolded(t, scratch.Dir(t), now)
	}, &ocitest.GCOptions{Damage: func(t testing.TB, r ociregistry.Interface, repo string, digest ociregistry.Digest) {
		f := r.(*folded)
		name := blobs.Path(f.repos.Use(repo).Dir, digest)
		qt.Assert(t, qt.IsNil(os.WriteFile(name, []byte("damaged"), 0o666)))
		f.reopen(t)
	}})
}

var stressFor = flag.Duration("gc.stress", time.Second, "how long TestGC_DoesNoHarm takes with each delay")

// shared is a registry in a directory that another one has open, too, which collects the
// garbage, and which some of the calls go to.
type shared struct {
	*Registry
	other *Registry
	n     atomic.Int64
}

func (s *shared) GC(ctx context.Context, opts *ocigc.Options) (*ocigc.Report, error) {
	return s.other.GC(ctx, opts)
}

// any returns one of the two.
func (s *shared) any() *Registry {
	if s.n.Add(1)%4 == 0 {
		return s.other
	}
	return s.Registry
}

func (s *shared) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	return s.any().ResolveBlob(ctx, repo, digest)
}

func (s *shared) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	return s.any().ResolveManifest(ctx, repo, digest)
}

func (s *shared) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, r io.Reader) (ociregistry.Descriptor, error) {
	return s.any().PushBlob(ctx, repo, desc, r)
}

func (s *shared) MountBlob(ctx context.Context, from, to string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	return s.any().MountBlob(ctx, from, to, digest)
}

func (s *shared) PushManifest(ctx context.Context, repo, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	return s.any().PushManifest(ctx, repo, ref, contents, mediaType, tags...)
}

func (s *shared) DeleteManifest(ctx context.Context, repo string, digest ociregistry.Digest) error {
	return s.any().DeleteManifest(ctx, repo, digest)
}

func TestGC_DoesNoHarmWhileClientsUseTheRegistry(t *testing.T) {
	t.Parallel()
	for _, delay := range []time.Duration{-1, *stressFor / 5} {
		for _, processes := range []int{1, 2} {
			t.Run(fmt.Sprintf("%v,%d", delay, processes), func(t *testing.T) {
				t.Parallel()
				dir := scratch.Dir(t)
				open := func() *Registry {
					r, err := openWith(disk.OS{}, dir, "", &Options{NoSync: true}, blobs.Clock{Now: time.Now, Grain: max(delay/4, 0)})
					qt.Assert(t, qt.IsNil(err))
					t.Cleanup(func() { qt.Check(t, qt.IsNil(r.Close())) })
					return r
				}
				r := open()
				var reg ocigc.Collector = r
				if processes > 1 {
					reg = &shared{Registry: r, other: open()}
				}
				ocitest.StressGC(t, reg, ocitest.StressOptions{Duration: *stressFor, Delay: delay})
				checkSound(t, r)
			})
		}
	}
}

// checkSound checks that a registry has no problems, and that its pool has nothing that no
// repository has.
func checkSound(t *testing.T, r *Registry) {
	t.Helper()
	for p, err := range r.Verify(t.Context()) {
		t.Errorf("%v, error %v", p, err)
	}
	err := r.store.Each(r.work.Dir, func(digest ociregistry.Digest, info fs.FileInfo) error {
		qt.Check(t, qt.Not(qt.Equals(disk.Links(info), 1)), qt.Commentf("%s is in the pool alone", digest))
		return nil
	})
	qt.Check(t, qt.IsNil(err))
}
