package ocimem

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/gc"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func TestGC_KeepsItsContract(t *testing.T) {
	t.Parallel()
	ocitest.RunGC(t, func(_ testing.TB, now func() time.Time) ocigc.Collector {
		r := New()
		r.now = now
		return r
	}, nil)
}

// bed is a registry with a clock and the content that a collection would remove.
type bed struct {
	*Registry
	t   *testing.T
	old time.Time // when the content was pushed

	image, child, referrer, referrerOfReferrer *ocitest.Artifact
	blob                                       ocitest.Blob
}

func newBed(t *testing.T) *bed {
	b := &bed{Registry: New(), t: t, old: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	b.now = func() time.Time { return b.old }
	b.image = ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100}})
	b.child = ocitest.NewImage(ocitest.Spec{Seed: 2, Layers: []int64{100}})
	b.referrer = ocitest.NewImage(ocitest.Spec{Seed: 3, Layers: []int64{100}, Subject: &b.image.Descriptor})
	b.referrerOfReferrer = ocitest.NewImage(ocitest.Spec{Seed: 4, Layers: []int64{100}, Subject: &b.referrer.Descriptor})
	for _, a := range []*ocitest.Artifact{b.image, b.child, b.referrer, b.referrerOfReferrer} {
		qt.Assert(t, qt.IsNil(a.Push(ctx, b, "app")))
	}
	b.pushTag("dropped", b.child)
	b.pushTag("kept", ocitest.NewImage(ocitest.Spec{Seed: 5}))
	b.blob = ocitest.NewBlob(6, 100)
	_, err := b.PushBlob(ctx, "app", b.blob.Descriptor, b.blob.NewReader())
	qt.Assert(t, qt.IsNil(err))
	return b
}

func (b *bed) pushTag(tag string, a *ocitest.Artifact) {
	qt.Assert(b.t, qt.IsNil(a.Push(ctx, b, "app", tag)))
}

func (b *bed) resolve(a *ocitest.Artifact) {
	_, err := b.ResolveManifest(ctx, "app", a.Descriptor.Digest)
	qt.Assert(b.t, qt.IsNil(err))
}

// TestGC_ChecksAgainBeforeItRemoves changes the registry after a collection has decided.
func TestGC_ChecksAgainBeforeItRemoves(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*bed)
		keeps  func(*bed) []*ocitest.Artifact
		tags   string
		blob   bool
	}{
		{name: "nothing", change: func(*bed) {}, tags: "kept"},
		{
			name:   "a subject is tagged",
			change: func(b *bed) { b.pushTag("v1", b.image) },
			keeps: func(b *bed) []*ocitest.Artifact {
				return []*ocitest.Artifact{b.image, b.referrer, b.referrerOfReferrer}
			},
			tags: "kept v1",
		},
		{
			name:   "a referrer is reported as present",
			change: func(b *bed) { b.resolve(b.referrer) },
			keeps:  func(b *bed) []*ocitest.Artifact { return []*ocitest.Artifact{b.referrer, b.referrerOfReferrer} },
			tags:   "kept",
		},
		{
			name:   "an index names a manifest",
			change: func(b *bed) { b.pushTag("v1", ocitest.NewIndex(ocitest.Spec{}, b.image)) },
			keeps: func(b *bed) []*ocitest.Artifact {
				return []*ocitest.Artifact{b.image, b.referrer, b.referrerOfReferrer}
			},
			tags: "kept v1",
		},
		{
			name: "a blob is named",
			change: func(b *bed) {
				contents := fmt.Appendf(nil, `{"config":{"digest":%q,"size":100}}`, b.blob.Descriptor.Digest)
				_, err := b.PushManifest(ctx, "app", "v1", contents, ocispec.MediaTypeImageManifest)
				qt.Assert(b.t, qt.IsNil(err))
			},
			tags: "kept v1",
			blob: true,
		},
		{
			name: "a blob is reported as present",
			change: func(b *bed) {
				_, err := b.ResolveBlob(ctx, "app", b.blob.Descriptor.Digest)
				qt.Assert(b.t, qt.IsNil(err))
			},
			tags: "kept",
			blob: true,
		},
		{
			name:   "a tag is set again",
			change: func(b *bed) { b.pushTag("dropped", b.child) },
			tags:   "dropped kept",
		},
		{
			name: "a tag moves, to the time of its manifest",
			change: func(b *bed) {
				now := b.now
				b.now = func() time.Time { return b.old }
				b.pushTag("dropped", b.image)
				b.now = now
			},
			keeps: func(b *bed) []*ocitest.Artifact {
				return []*ocitest.Artifact{b.image, b.referrer, b.referrerOfReferrer}
			},
			tags: "dropped kept",
		},
		{
			name: "a tag is pulled",
			change: func(b *bed) {
				_, err := b.GetTag(ctx, "app", "dropped")
				qt.Assert(b.t, qt.IsNil(err))
			},
			tags: "dropped kept",
		},
		{
			name: "others delete it",
			change: func(b *bed) {
				for _, a := range []*ocitest.Artifact{b.image, b.referrer} {
					qt.Assert(b.t, qt.IsNil(b.DeleteManifest(ctx, "app", a.Descriptor.Digest)))
				}
				qt.Assert(b.t, qt.IsNil(b.DeleteBlob(ctx, "app", b.blob.Descriptor.Digest)))
			},
			keeps: func(b *bed) []*ocitest.Artifact { return []*ocitest.Artifact{b.referrerOfReferrer} }, // an orphan now
			tags:  "kept",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.now = func() time.Time { return b.old.Add(2 * time.Hour) }
			selector, err := ocigc.NewSelector(&ocigc.Options{Policies: []ocigc.Policy{{
				Untagged: true, Dangling: true, Keep: []ocigc.TagRule{{Match: "kept"}},
			}}})
			qt.Assert(t, qt.IsNil(err))
			enumerated, err := collector{b.Registry}.Enumerate(ctx, "app")
			qt.Assert(t, qt.IsNil(err))
			plan := gc.Decide(enumerated, selector, b.now())
			qt.Assert(t, qt.HasLen(plan.Groups, 3))
			qt.Assert(t, qt.HasLen(plan.DropTags, 1))

			test.change(b)
			err = collector{b.Registry}.Sweep(ctx, plan, func(ocigc.Finding) {})
			qt.Assert(t, qt.IsNil(err))
			tags, err := ociregistry.All(b.Tags(ctx, "app", ""))
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(strings.Join(tags, " "), test.tags))
			kept := []*ocitest.Artifact{b.child} // which is an orphan only now
			if test.keeps != nil {
				kept = append(kept, test.keeps(b)...)
			}
			for i, a := range []*ocitest.Artifact{b.image, b.child, b.referrer, b.referrerOfReferrer} {
				err := a.Verify(ctx, b, "app")
				qt.Check(t, qt.Equals(err == nil, slices.Contains(kept, a)), qt.Commentf("artifact %d: %v", i, err))
			}
			_, err = b.GetBlob(ctx, "app", b.blob.Descriptor.Digest)
			qt.Check(t, qt.Equals(err == nil, test.blob))
		})
	}
}

func TestGC_CollectsManyThings(t *testing.T) {
	t.Parallel()
	r := New()
	for i := range 1000 {
		image := ocitest.NewImage(ocitest.Spec{Seed: uint64(i), Layers: []int64{10}})
		qt.Assert(t, qt.IsNil(image.Push(ctx, r, "app")))
	}
	report, err := r.GC(ctx, &ocigc.Options{Delay: -1, Untagged: true})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(report.Manifests, 1000))
	qt.Check(t, qt.Equals(report.Blobs, 2000))
	qt.Check(t, qt.HasLen(r.repos, 0))
	qt.Check(t, qt.HasLen(r.store.blobs, 0))
	qt.Check(t, qt.Equals(r.used.Load(), 0))
	checkUsage(t, r)
}

var stressFor = flag.Duration("gc.stress", time.Second, "how long TestGC_DoesNoHarm takes with each delay")

func TestGC_DoesNoHarmWhileClientsUseTheRegistry(t *testing.T) {
	t.Parallel()
	for _, delay := range []time.Duration{-1, *stressFor / 20} {
		t.Run(delay.String(), func(t *testing.T) {
			t.Parallel()
			r := New()
			ocitest.StressGC(t, r, ocitest.StressOptions{Duration: *stressFor, Delay: delay})
			checkUsage(t, r)
		})
	}
}

func TestGC_ContentIsAsOldInEachRepositoryAsItIsThere(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := New()
	r.now = func() time.Time { return now }
	desc := pushBlob(t, r, "old", []byte("content"))
	now = now.Add(2 * time.Hour)
	_, err := r.MountBlob(ctx, "old", "new", desc.Digest)
	qt.Assert(t, qt.IsNil(err))
	report, err := r.GC(ctx, &ocigc.Options{Now: r.now})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(report.Blobs, 1))
	repos, err := ociregistry.All(r.Repositories(ctx, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(repos, []string{"new"}))
}
