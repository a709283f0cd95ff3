package ocibucket

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/countstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func TestUsage(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]*Options{"no prefix": nil, "prefix": {Prefix: "a/b/"}, "sparse": {Sparse: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ocitest.RunUsage(t, func(t testing.TB) ociregistry.UsageReporter { return mustOpen(t, memstore.New(nil), opts) })
		})
		t.Run(name+", two processes", func(t *testing.T) {
			t.Parallel()
			ocitest.RunUsage(t, func(t testing.TB) ociregistry.UsageReporter { return newUsagePair(t, memstore.New(nil), opts) })
		})
		t.Run(name+", new processes", func(t *testing.T) {
			t.Parallel()
			ocitest.RunUsage(t, func(t testing.TB) ociregistry.UsageReporter {
				store := memstore.New(nil)
				return &newProcesses{mustOpen(t, store, opts), t, store, opts}
			})
		})
	}
}

// A usagePair is two registries that take turns. Before one tells its usage, as much time passes as it takes to
// learn what the other has changed.
type usagePair struct{ *pair }

func newUsagePair(t testing.TB, store objstore.Store, opts *Options) *usagePair {
	return &usagePair{&pair{registries: []*Registry{mustOpen(t, store, opts), mustOpen(t, store, opts)}}}
}

func (p *usagePair) Usage(ctx context.Context, prefix string) (int64, error) {
	for _, r := range p.registries {
		r.news.Write()
	}
	r := p.next()
	if err := r.usage.CatchUp(ctx); err != nil {
		return 0, err
	}
	return r.Usage(ctx, prefix)
}

func (p *usagePair) GC(ctx context.Context, opts *ocigc.Options) (*ocigc.Report, error) {
	return p.next().GC(ctx, opts)
}

// newProcesses has its usage told by a registry that knows nothing.
type newProcesses struct {
	*Registry
	t     testing.TB
	store objstore.Store
	opts  *Options
}

func (p *newProcesses) Usage(ctx context.Context, prefix string) (int64, error) {
	r, err := open(ctx, p.store, p.opts, settings{grace: defaultGrace})
	qt.Assert(p.t, qt.IsNil(err))
	defer r.Close()
	return r.Usage(ctx, prefix)
}

// wantUsage checks that a registry tells what one that knows nothing counts.
func wantUsage(t testing.TB, store objstore.Store, r *Registry, comment string) {
	t.Helper()
	for _, prefix := range []string{"", "a", "b"} {
		opts := r.opts
		opts.ReadOnly = true // it tells nobody that it asks
		want, err := (&newProcesses{t: t, store: store, opts: &opts}).Usage(t.Context(), prefix)
		qt.Assert(t, qt.IsNil(err))
		got, err := r.Usage(t.Context(), prefix)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(got, want), qt.Commentf("%s, %q", comment, prefix))
	}
}

func TestUsage_OfOtherProcessesCountsWithinHalfAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := countstore.New(memstore.New(nil))
		one := &bench{TB: t, ctx: t.Context(), store: store, Registry: mustOpen(t, store, nil)}
		other := &bench{TB: t, ctx: t.Context(), store: store, Registry: mustOpen(t, store, nil), seed: 100}
		one.image("a", "v1", 100_000)
		wantUsage(t, store, one.Registry, "first")
		image := other.image("a", "v2", 200_000)
		other.image("a/b", "v1", 300_000)
		own := one.push("a/c", 100)
		store.Reset()
		before, err := one.Usage(t.Context(), "a/c")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(before, own.Descriptor.Size))

		time.Sleep(30 * time.Second)
		wantUsage(t, store, one.Registry, "after pushes")
		store.Reset()
		for range 100 {
			_, err := one.Usage(t.Context(), "")
			qt.Assert(t, qt.IsNil(err))
		}
		qt.Check(t, qt.Equals(store.Reset().Total(), 0))

		qt.Assert(t, qt.IsNil(other.DeleteManifest(t.Context(), "a", image.Descriptor.Digest)))
		qt.Assert(t, qt.IsNil(other.DeleteBlob(t.Context(), "a", image.Blobs[0].Descriptor.Digest)))
		_, err = other.MountBlob(t.Context(), "a", "b", image.Blobs[1].Descriptor.Digest)
		qt.Assert(t, qt.IsNil(err))
		time.Sleep(30 * time.Second)
		wantUsage(t, store, one.Registry, "after deletes")
		wantUsage(t, store, other.Registry, "the other one")
	})
}

// A mortal is the store of a process that may be killed: its requests fail then.
type mortal struct {
	objstore.Store
	dead atomic.Bool
}

func (m *mortal) Get(ctx context.Context, key string, r objstore.Range) (*objstore.Object, error) {
	if m.dead.Load() {
		return nil, &objstore.Error{Op: "Get", Key: key, Kind: objstore.ErrDenied}
	}
	return m.Store.Get(ctx, key, r)
}

func TestUsage_OfAProcessThatIsKilledCountsAfterACollection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := countstore.New(memstore.New(nil))
		one := &bench{TB: t, ctx: t.Context(), store: store, Registry: mustOpen(t, store, nil)}
		third := mustOpen(t, store, nil)
		one.image("a", "v1", 100)
		one.image("b", "v1", 100)
		wantUsage(t, store, one.Registry, "first")
		for i, collector := range []*Registry{third, one.Registry} {
			killed := &mortal{Store: store}
			other := &bench{TB: t, ctx: t.Context(), store: store, Registry: mustOpen(t, killed, nil), seed: 100 * uint64(i+1)}
			other.image("a", "v2", 100_000)
			_, err := other.PushManifest(t.Context(), "b", "v2", fmt.Appendf(nil, "text %d", i), "text/plain")
			qt.Assert(t, qt.IsNil(err))
			killed.dead.Store(true)
			time.Sleep(time.Hour)
			_, err = collector.GC(t.Context(), &ocigc.Options{Delay: 48 * time.Hour})
			qt.Assert(t, qt.IsNil(err))
			time.Sleep(30 * time.Second)
			wantUsage(t, store, one.Registry, fmt.Sprint("after collection ", i))
		}
		store.Reset()
		_, err := third.GC(t.Context(), &ocigc.Options{Delay: 48 * time.Hour})
		qt.Assert(t, qt.IsNil(err))
		time.Sleep(30 * time.Second)
		store.Reset()
		_, err = one.Usage(t.Context(), "")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(store.Reset().String(), "Get:1 List:1")) // what is as it is known is not counted
	})
}

// For two days after somebody has asked, others tell what they change. Who comes after that counts anew.
func TestUsage_AfterALongTimeIsRight(t *testing.T) {
	t.Parallel()
	for _, pause := range []time.Duration{time.Minute, 11 * time.Hour, 23 * time.Hour, 25 * time.Hour, 49 * time.Hour, 1000 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			store := countstore.New(memstore.New(nil))
			one := &bench{TB: t, ctx: t.Context(), store: store, Registry: mustOpen(t, store, nil)}
			other := &bench{TB: t, ctx: t.Context(), store: store, Registry: mustOpen(t, store, nil), seed: 100}
			for range 4 {
				_, err := one.Usage(t.Context(), "")
				qt.Assert(t, qt.IsNil(err))
				time.Sleep(pause / 2)
				other.image("a", "v1", 100)
				time.Sleep(pause / 2)
				_, err = other.GC(t.Context(), &ocigc.Options{Delay: 1000 * time.Hour})
				qt.Assert(t, qt.IsNil(err))
				time.Sleep(30 * time.Second)
				wantUsage(t, store, one.Registry, pause.String())
			}
		})
	}
}

func TestUsage_WithoutAnybodyWhoAsksNothingIsToldToOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		time.Sleep(time.Minute)
		b.store.Reset()
		for range 100 {
			b.push("app", 100)
		}
		b.store.Reset()
		time.Sleep(time.Hour)
		qt.Check(t, qt.Equals(b.store.Reset().String(), "Get:1"))
	})
}

func TestUsage_LeavesOutWhatIsDamaged(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	b := &bench{TB: t, ctx: t.Context(), Registry: mustOpen(t, store, nil)}
	blob := b.push("a", 100)
	b.push("a", 200)
	b.push("b", 300)
	for _, key := range []string{keys.Link("a", blob.Descriptor.Digest), keys.Record("b", 1)} {
		_, err := store.Put(t.Context(), key, []byte("damaged"), objstore.Condition{})
		qt.Assert(t, qt.IsNil(err))
	}
	r := mustOpen(t, store, nil)
	n, err := r.Usage(t.Context(), "")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(n, 500))
}

// Whoever meets a link whose delete is recorded makes it dead.
func TestUsage_LeavesOutWhatIsBeingDeleted(t *testing.T) {
	t.Parallel()
	var refuse atomic.Bool
	store := memstore.New(&memstore.Options{Fault: func(req memstore.Request) (f memstore.Fault) {
		if refuse.Load() && req.Op == "Put" && strings.HasPrefix(req.Key, keys.Links("a")) {
			f.Kind = objstore.ErrDenied
		}
		return f
	}})
	b := &bench{TB: t, ctx: t.Context(), Registry: mustOpen(t, store, nil)}
	image := b.image("a", "v1", 1000)
	all, err := b.Usage(t.Context(), "")
	qt.Assert(t, qt.IsNil(err))
	refuse.Store(true)
	blob := image.Blobs[0].Descriptor
	err = b.DeleteBlob(ociregistry.AllowInUse(t.Context()), "a", blob.Digest)
	qt.Assert(t, qt.ErrorIs(err, objstore.ErrDenied))
	for _, r := range []*Registry{b.Registry, mustOpen(t, store, nil)} {
		n, err := r.Usage(t.Context(), "")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(n, all-blob.Size))
	}
}

// After faults of all kinds, a collection makes all processes agree again.
func TestSimulation_UsageIsWhatIsThereInTheEnd(t *testing.T) {
	eachSeed(t, 2, func(t *testing.T, seed uint64) {
		s := newSimulation(t, seed, Options{Sparse: seed%2 == 0})
		var clients []func(context.Context)
		for i := range 6 {
			clients = append(clients, func(ctx context.Context) {
				for range 6 {
					s.nap()
					a := s.images[s.intn(len(s.images))]
					a.Push(ctx, s.process(), []string{"a", "b", "a/b"}[s.intn(3)], fmt.Sprint("v", i))
					s.process().Usage(ctx, []string{"", "a", "b"}[s.intn(3)])
				}
			}, s.deleter)
		}
		s.run(clients, func(ctx context.Context, r *Registry) {
			time.Sleep(time.Minute)
			if _, err := r.GC(ctx, &ocigc.Options{Delay: time.Hour}); err != nil {
				s.problem("GC: %v", err)
			}
			time.Sleep(time.Minute)
			for i, p := range append(s.processes, r) {
				wantUsage(t, s.store, p, fmt.Sprintf("seed %d, process %d", seed, i))
			}
		})
	})
}
