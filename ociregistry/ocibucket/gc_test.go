package ocibucket

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func TestGC_KeepsItsContract(t *testing.T) {
	t.Parallel()
	ocitest.RunGC(t, func(t testing.TB, now func() time.Time) ocigc.Collector {
		return mustOpen(t, memstore.New(&memstore.Options{Now: now}), &Options{PartSize: minPartSize})
	}, &ocitest.GCOptions{Rounds: 2})
}

// A garden is a registry in a bucket with a clock.
type garden struct {
	testing.TB
	ctx context.Context
	*Registry
	store   *memstore.Store
	seconds atomic.Int64
	seed    uint64
}

func newGarden(t testing.TB) *garden {
	g := &garden{TB: t, ctx: t.Context()}
	g.seconds.Store(1_800_000_000)
	g.store = memstore.New(&memstore.Options{Now: func() time.Time { return time.Unix(g.seconds.Load(), 0) }})
	g.Registry = mustOpen(t, g.store, &Options{PartSize: minPartSize})
	return g
}

func (g *garden) wait(d time.Duration) { g.seconds.Add(int64(d / time.Second)) }

func (g *garden) must(err error) {
	g.Helper()
	qt.Assert(g, qt.IsNil(err))
}

func (g *garden) image(repo string, tags ...string) *ocitest.Artifact {
	g.seed++
	a := ocitest.NewImage(ocitest.Spec{Seed: g.seed, Layers: []int64{100, 70_000, 400_000}})
	g.must(a.Push(g.ctx, g, repo, tags...))
	return a
}

func (g *garden) blob(repo string, size int64) ocitest.Blob {
	g.seed++
	b := ocitest.NewBlob(g.seed, size)
	_, err := g.PushBlob(g.ctx, repo, b.Descriptor, b.NewReader())
	g.must(err)
	return b
}

func (g *garden) collect(opts ocigc.Options) *ocigc.Report {
	g.Helper()
	dry := opts
	dry.DryRun = true
	foreseen, err := g.GC(g.ctx, &dry)
	g.must(err)
	report, err := g.GC(g.ctx, &opts)
	g.must(err)
	qt.Check(g, qt.HasLen(report.Problems, 0))
	qt.Check(g, qt.Equals(foreseen.Summary, report.Summary))
	return report
}

var everything = ocigc.Options{Untagged: true, Dangling: true}

func (g *garden) wantBlob(repo string, b ocitest.Blob, there bool) {
	g.Helper()
	r, err := g.GetBlob(g.ctx, repo, b.Descriptor.Digest)
	if there {
		g.must(err)
		ocitest.CheckContent(g, r, b.Bytes(), "")
		return
	}
	qt.Check(g, qt.IsNotNil(err))
}

func TestGC_KeepsWhatIsNamedAndWhatIsYoung(t *testing.T) {
	t.Parallel()
	g := newGarden(t)
	image, orphan, elsewhere := g.image("app", "v1"), g.blob("app", 100), g.blob("other", 100_000)
	for range 3 {
		g.wait(25 * time.Minute)
		qt.Check(t, qt.Equals(g.collect(everything).Blobs, 0))
	}
	g.wait(25 * time.Minute)
	young := g.blob("app", 200)
	qt.Check(t, qt.Equals(g.collect(everything).Blobs, 2))
	g.must(image.Verify(g.ctx, g, "app"))
	g.wantBlob("app", orphan, false)
	g.wantBlob("other", elsewhere, false)
	g.wantBlob("app", young, true)
	names, err := ociregistry.All(g.Repositories(g.ctx, ""))
	g.must(err)
	qt.Check(t, qt.DeepEquals(names, []string{"app"}))
}

// What a client was told to be there it can name within the delay.
func TestGC_KeepsWhatWasReportedPresent(t *testing.T) {
	t.Parallel()
	g := newGarden(t)
	blob, other := g.blob("app", 100), g.blob("app", 200)
	image, untagged := g.image("app"), g.image("app")
	collect := func() { g.collect(everything) }
	g.wait(10 * time.Minute)
	collect() // which condemns the blobs
	g.wait(55 * time.Minute)
	_, err := g.ResolveBlob(g.ctx, "app", blob.Descriptor.Digest)
	g.must(err)
	_, err = g.ResolveManifest(g.ctx, "app", image.Descriptor.Digest)
	g.must(err)
	g.wait(30 * time.Minute)
	collect()
	g.wantBlob("app", blob, true)
	g.wantBlob("app", other, false)
	g.must(image.Verify(g.ctx, g, "app"))
	_, err = g.GetManifest(g.ctx, "app", untagged.Descriptor.Digest)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestUnknown)))
}

func TestGC_PoliciesDropTagsAndWhatTheyKept(t *testing.T) {
	t.Parallel()
	g := newGarden(t)
	old := g.image("app", "v1")
	subject := g.image("app", "v2")
	referrer := ocitest.NewImage(ocitest.Spec{Seed: 500, Layers: []int64{50}, ArtifactType: "application/x-test", Subject: &old.Descriptor})
	g.must(referrer.Push(g.ctx, g, "app"))
	index := ocitest.NewIndex(ocitest.Spec{}, g.image("app"))
	g.must(index.Push(g.ctx, g, "app", "index"))
	g.wait(time.Hour)
	opts := everything
	opts.Policies = []ocigc.Policy{{Untagged: true, Dangling: true, Keep: []ocigc.TagRule{{Match: "v2|index"}}}}
	qt.Check(t, qt.Equals(g.collect(opts).Tags, 1))
	g.must(old.Verify(g.ctx, g, "app"))
	g.wait(2 * time.Hour)
	qt.Check(t, qt.Equals(g.collect(opts).Manifests, 2))
	g.must(subject.Verify(g.ctx, g, "app"))
	g.must(index.Verify(g.ctx, g, "app"))
	_, err := g.GetManifest(g.ctx, "app", referrer.Descriptor.Digest)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestUnknown)))
}

// Snapshots know what manifests name, so that damage to the bytes of one keeps nothing.
func TestGC_NeedsNoBytesOfManifests(t *testing.T) {
	t.Parallel()
	g := newGarden(t)
	kept, untagged := g.image("app", "v1"), g.image("app")
	b := bench{TB: t, ctx: t.Context(), Registry: g.Registry}
	for range 3 {
		b.tag("app", 5000)
		b.quiet()
	}
	for _, a := range []*ocitest.Artifact{kept, untagged} {
		_, err := g.store.Put(g.ctx, keys.Manifest("app", a.Descriptor.Digest), []byte("damaged"), objstore.Condition{})
		g.must(err)
	}
	for range 2 {
		g.wait(2 * time.Hour)
		g.collect(everything)
	}
	for _, blob := range kept.Blobs {
		g.wantBlob("app", blob, true)
	}
	for _, blob := range untagged.Blobs[1:] {
		g.wantBlob("app", blob, false)
	}
}

// Pulls of any process count once they are written down, and those of this one at once.
func TestGC_KnowsWhatWasPulled(t *testing.T) {
	t.Parallel()
	g := newGarden(t)
	for _, tag := range []string{"elsewhere", "here", "never"} {
		g.image("app", tag)
	}
	g.wait(48 * time.Hour)
	other := mustOpen(t, g.store, &Options{PartSize: minPartSize})
	for r, tag := range map[*Registry]string{other: "elsewhere", g.Registry: "here"} {
		rd, err := r.GetTag(g.ctx, "app", tag)
		g.must(err)
		g.must(rd.Close())
	}
	g.must(other.Close())
	view := mustOpen(t, g.store, &Options{ReadOnly: true})
	rd, err := view.GetTag(g.ctx, "app", "never")
	g.must(err)
	g.must(rd.Close())
	g.must(view.Close())
	g.collect(ocigc.Options{Policies: []ocigc.Policy{{Keep: []ocigc.TagRule{{PulledWithin: time.Hour}}}}})
	tags, err := ociregistry.All(g.Tags(g.ctx, "app", ""))
	g.must(err)
	qt.Check(t, qt.DeepEquals(tags, []string{"elsewhere", "here"}))
}

func TestGC_EndsUploadsThatNobodyContinues(t *testing.T) {
	t.Parallel()
	g := newGarden(t)
	begin := func(size int64) string {
		w, err := g.PushBlobChunked(g.ctx, "app", 0)
		g.must(err)
		_, err = w.Write(ocitest.NewBlob(9, size).Bytes())
		g.must(err)
		g.must(w.Close())
		return w.ID()
	}
	abandoned, large := begin(100), begin(600_000)
	g.wait(50 * time.Minute)
	continued := begin(200)
	g.wait(20 * time.Minute)
	qt.Check(t, qt.Equals(g.collect(everything).Uploads, 2))
	for _, id := range []string{abandoned, large} {
		_, err := g.PushBlobChunkedResume(g.ctx, "app", id, -1, 0)
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown)))
	}
	_, err := g.PushBlobChunkedResume(g.ctx, "app", continued, -1, 0)
	g.must(err)
}

// When all delays are over, the bucket has what can be reached, and what has to stay for ever.
func TestGC_LeavesNothingBehind(t *testing.T) {
	t.Parallel()
	g := newGarden(t)
	kept := g.image("kept", "v1")
	for i := range 3 {
		g.image("app", "v1")
		g.blob("app", 100)
		g.blob("app", 500_000)
		g.must(g.DeleteTag(g.ctx, "app", "v1"))
		w, err := g.PushBlobChunked(g.ctx, "app", 0)
		g.must(err)
		_, err = w.Write(ocitest.NewBlob(uint64(i), 600_000).Bytes())
		g.must(err)
		g.must(w.Close())
	}
	deleted := g.image("app", "v2")
	g.must(g.DeleteManifest(g.ctx, "app", deleted.Descriptor.Digest))
	g.must(g.DeleteBlob(g.ctx, "app", deleted.Blobs[2].Descriptor.Digest))
	for range 12 {
		g.wait(25 * time.Hour)
		g.collect(everything)
	}
	counts := map[string]int{}
	for _, key := range g.store.Keys() {
		kind := key[:min(2, len(key))]
		if strings.HasPrefix(key, "r/app!/") {
			kind = key[:len("r/app!/b/")]
		}
		if !strings.HasPrefix(key, "r/kept!/") {
			counts[kind]++
		}
	}
	data := 2 // of the image that stays
	qt.Check(t, qt.Equals(counts["d/"], data))
	qt.Check(t, qt.Equals(counts["b/"], data+len(kept.Blobs)), qt.Commentf("%v", counts))
	qt.Check(t, qt.Equals(counts["u/"], 0))
	qt.Check(t, qt.Equals(counts["r/app!/b/"], 0))
	qt.Check(t, qt.Equals(counts["r/app!/m/"], 0))
	g.must(kept.Verify(g.ctx, g, "kept"))
	names, err := ociregistry.All(g.Repositories(g.ctx, ""))
	g.must(err)
	qt.Check(t, qt.DeepEquals(names, []string{"kept"}))
}
