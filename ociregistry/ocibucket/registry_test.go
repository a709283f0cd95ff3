package ocibucket

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func TestNew_RefusesAStoreThatIgnoresConditions(t *testing.T) {
	t.Parallel()
	store := memstore.New(&memstore.Options{Fault: func(memstore.Request) memstore.Fault { return memstore.Fault{IgnoreCondition: true} }})
	_, err := New(t.Context(), store, nil)
	qt.Check(t, qt.ErrorIs(err, objstore.ErrConditions))
	r, err := New(t.Context(), memstore.New(nil), nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(r.Close()))
	qt.Check(t, qt.IsNil(r.Close()))
	_, err = r.ResolveTag(t.Context(), "app", "v1")
	qt.Check(t, qt.IsNotNil(err))
}

func TestNew_RefusesOptionsThatAreNotThoseOfTheBucket(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	mustOpen(t, store, &Options{ImmutableTags: true})
	mustOpen(t, store, &Options{ImmutableTags: true, ProtectShared: true})
	for _, opts := range []*Options{nil, {ImmutableTags: true, Sparse: true}} {
		_, err := open(t.Context(), store, opts, settings{grace: defaultGrace})
		qt.Check(t, qt.ErrorMatches(err, "the registry in the bucket has the options .*"))
	}
	_, err := open(t.Context(), store, &Options{ImmutableTags: true}, settings{grace: time.Hour})
	qt.Check(t, qt.IsNotNil(err))
	for _, prefix := range []string{"a", "/a/", "a//", "../", strings.Repeat("a", 300) + "/"} {
		_, err := New(t.Context(), store, &Options{Prefix: prefix})
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%s", prefix))
	}
}

func TestPrefix_KeepsRegistriesApart(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	one, two := mustOpen(t, store, &Options{Prefix: "one/"}), mustOpen(t, store, &Options{Prefix: "two/", Sparse: true})
	image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100, 100_000}})
	qt.Assert(t, qt.IsNil(image.Push(t.Context(), one, "app", "v1")))
	_, err := two.MountBlob(t.Context(), "", "app", image.Blobs[1].Descriptor.Digest)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
	names, err := ociregistry.All(two.Repositories(t.Context(), ""))
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(names, 0))
	for _, key := range store.Keys() {
		qt.Check(t, qt.IsTrue(strings.HasPrefix(key, "one/") || key == "two/g"), qt.Commentf("%s", key))
	}
}

func TestReadOnly_ServesAndWritesNothing(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	r := mustOpen(t, store, nil)
	image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100, 100_000}})
	qt.Assert(t, qt.IsNil(image.Push(t.Context(), r, "app", "v1")))
	r.repos.Wait()
	before := store.Keys()
	view := mustOpen(t, store, &Options{ReadOnly: true})
	ctx := t.Context()
	qt.Check(t, qt.IsNil(image.Verify(ctx, view, "app")))
	d := image.Descriptor.Digest
	_, err := view.PushManifest(ctx, "app", "v2", image.Manifest, image.Descriptor.MediaType)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDenied)))
	_, err = view.PushBlob(ctx, "app", image.Blobs[0].Descriptor, image.Blobs[0].NewReader())
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDenied)))
	_, err = view.PushBlobChunked(ctx, "app", 0)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDenied)))
	_, err = view.MountBlob(ctx, "app", "b", image.Blobs[0].Descriptor.Digest)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDenied)))
	qt.Check(t, qt.ErrorIs(view.DeleteManifest(ctx, "app", d), error(ociregistry.ErrDenied)))
	qt.Check(t, qt.ErrorIs(view.DeleteBlob(ctx, "app", image.Blobs[0].Descriptor.Digest), error(ociregistry.ErrDenied)))
	qt.Check(t, qt.ErrorIs(view.DeleteTag(ctx, "app", "v1"), error(ociregistry.ErrDenied)))
	_, err = view.GC(ctx, nil)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDenied)))
	_, err = view.GC(ctx, &ocigc.Options{DryRun: true})
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(store.Keys(), before))
	empty := memstore.New(nil)
	mustOpen(t, empty, &Options{ReadOnly: true})
	qt.Check(t, qt.HasLen(empty.Keys(), 0))
}

func TestProtectShared_KeepsManifestsWithSeveralTags(t *testing.T) {
	t.Parallel()
	r := mustOpen(t, memstore.New(nil), &Options{ProtectShared: true})
	image := ocitest.NewImage(ocitest.Spec{Seed: 1})
	qt.Assert(t, qt.IsNil(image.Push(t.Context(), r, "app", "v1", "v2")))
	qt.Check(t, qt.ErrorIs(r.DeleteManifest(t.Context(), "app", image.Descriptor.Digest), error(ociregistry.ErrDenied)))
	qt.Check(t, qt.IsNil(r.DeleteTag(t.Context(), "app", "v1")))
	qt.Check(t, qt.IsNil(r.DeleteManifest(t.Context(), "app", image.Descriptor.Digest)))
}

// A log that has grown gets a snapshot, from which another process begins, and the manifests that
// it covers are objects.
func TestSnapshots_ReplaceTheLog(t *testing.T) {
	t.Parallel()
	g := newGarden(t)
	var images []*ocitest.Artifact
	for i := range 120 {
		a := ocitest.NewImage(ocitest.Spec{Seed: uint64(i), Layers: []int64{10}})
		images = append(images, a)
		g.must(a.Push(g.ctx, g, "app", fmt.Sprintf("v%d", i), "latest"))
	}
	g.must(g.DeleteManifest(g.ctx, "app", images[3].Descriptor.Digest))
	g.must(g.DeleteTag(g.ctx, "app", "v4"))
	g.repos.Wait()
	count := func(prefix string) int {
		return len(slices.DeleteFunc(g.store.Keys(), func(key string) bool { return !strings.HasPrefix(key, prefix) }))
	}
	qt.Assert(t, qt.IsTrue(count(keys.Snapshots("app")) > 0))
	qt.Assert(t, qt.IsTrue(count(keys.Manifests("app")) > 50))
	check := func() {
		t.Helper()
		for _, r := range []*Registry{g.Registry, mustOpen(t, g.store, &Options{ManifestMemory: -1})} {
			tags, err := ociregistry.All(r.Tags(g.ctx, "app", ""))
			g.must(err)
			qt.Check(t, qt.HasLen(tags, 119))
			for i, a := range images {
				if i != 3 {
					g.must(a.Verify(g.ctx, r, "app"))
				}
			}
			_, err = r.ResolveManifest(g.ctx, "app", images[3].Descriptor.Digest)
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestUnknown)))
		}
	}
	check()
	records := count(keys.Records("app"))
	for range 3 {
		g.wait(25 * time.Hour)
		g.collect(ocigc.Options{})
	}
	qt.Check(t, qt.IsTrue(count(keys.Records("app")) < records))
	qt.Check(t, qt.Equals(count(keys.Snapshots("app")), 1))
	check()
}

// One damaged object is the damage of what it is about.
func TestDamage_StaysWhereItIs(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	r := mustOpen(t, store, nil)
	image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100, 100_000}})
	for _, repo := range []string{"a", "b"} {
		qt.Assert(t, qt.IsNil(image.Push(t.Context(), r, repo, "v1")))
	}
	for _, key := range []string{keys.Record("a", 1), keys.Link("b", image.Blobs[1].Descriptor.Digest)} {
		_, err := store.Put(t.Context(), key, []byte("damaged"), objstore.Condition{})
		qt.Assert(t, qt.IsNil(err))
	}
	other := mustOpen(t, store, nil)
	_, err := other.ResolveTag(t.Context(), "a", "v1")
	qt.Check(t, qt.ErrorMatches(err, `.*object "`+keys.Record("a", 1)+`": malformed object.*`))
	_, err = other.ResolveTag(t.Context(), "b", "v1")
	qt.Check(t, qt.IsNil(err))
	_, err = other.ResolveBlob(t.Context(), "b", image.Blobs[0].Descriptor.Digest)
	qt.Check(t, qt.IsNil(err))
	_, err = other.ResolveBlob(t.Context(), "b", image.Blobs[1].Descriptor.Digest)
	qt.Check(t, qt.ErrorMatches(err, `.*malformed object.*`))
	_, err = other.GC(t.Context(), nil)
	qt.Check(t, qt.IsNil(err))
}

// Many clients of a process share records, and those of several processes take turns.
func TestAppends_ShareRecordsAndTakeTurns(t *testing.T) {
	t.Parallel()
	const processes, clients, each = 16, 4, 12
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(&memstore.Options{Fault: func(memstore.Request) memstore.Fault { return memstore.Fault{Delay: 20 * time.Millisecond} }})
		text := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
		push := func(r *Registry, tag string) error {
			_, err := r.PushManifest(context.Background(), "app", tag, text, "application/vnd.oci.image.index.v1+json")
			return err
		}
		var registries []*Registry
		for range processes {
			r := mustOpen(t, store, nil)
			registries = append(registries, r)
			qt.Assert(t, qt.IsNil(push(r, "first")))
		}
		var mu sync.Mutex
		var took []time.Duration
		var ends []time.Duration
		var wg sync.WaitGroup
		start := time.Now()
		for p, r := range registries {
			wg.Go(func() {
				var own sync.WaitGroup
				for c := range clients {
					own.Go(func() {
						for i := range each {
							began := time.Now()
							if err := push(r, fmt.Sprintf("t%d-%d-%d", p, c, i)); err != nil {
								t.Error(err)
							}
							mu.Lock()
							took = append(took, time.Since(began))
							mu.Unlock()
						}
					})
				}
				own.Wait()
				mu.Lock()
				ends = append(ends, time.Since(start))
				mu.Unlock()
			})
		}
		wg.Wait()
		total := time.Since(start)
		slices.Sort(took)
		slices.Sort(ends)
		p99 := took[len(took)*99/100]
		t.Logf("%d pushes by %d processes at 20 ms a request: %.0f a second, p50 %v, p99 %v, max %v; the first process ends at %v, the last at %v",
			len(took), processes, float64(len(took))/total.Seconds(), took[len(took)/2], p99, took[len(took)-1], ends[0], ends[len(ends)-1])
		qt.Check(t, qt.IsTrue(p99 < 4*time.Second), qt.Commentf("%v", p99))
		tags, err := ociregistry.All(registries[0].Tags(context.Background(), "app", ""))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(tags, processes*clients*each+1))
		for _, r := range registries {
			r.Close()
		}
	})
}

func TestBlobURL_IsWhereAnybodyGetsTheBytesForAWhile(t *testing.T) {
	t.Parallel()
	var store *memstore.Store
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { store.ServeHTTP(w, req) }))
	defer server.Close()
	store = memstore.New(&memstore.Options{URL: server.URL})
	r := mustOpen(t, store, nil)
	small, large := ocitest.NewBlob(1, 100), ocitest.NewBlob(2, 100_000)
	for _, b := range []ocitest.Blob{small, large} {
		_, err := r.PushBlob(t.Context(), "app", b.Descriptor, b.NewReader())
		qt.Assert(t, qt.IsNil(err))
	}
	url, err := r.BlobURL(t.Context(), "app", small.Descriptor.Digest, time.Minute)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(url, ""))
	url, err = r.BlobURL(t.Context(), "app", large.Descriptor.Digest, time.Minute)
	qt.Assert(t, qt.IsNil(err))
	resp, err := http.Get(url)
	qt.Assert(t, qt.IsNil(err))
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(got), string(large.Bytes())))
	_, err = r.BlobURL(t.Context(), "other", large.Descriptor.Digest, time.Minute)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrNameUnknown)))
	_, err = r.BlobURL(t.Context(), "app", large.Descriptor.Digest, defaultGrace)
	qt.Check(t, qt.IsNotNil(err))
	url, err = mustOpen(t, memstore.New(nil), nil).BlobURL(t.Context(), "app", large.Descriptor.Digest, time.Minute)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(url, ""))
}
