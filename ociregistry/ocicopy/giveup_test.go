package ocicopy

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// A source that stalls is given up for the round, however many images it has and whatever
// it still answers. Other sources are not affected, and neither is the next pass.
func TestMirror_GivesUpAStalledSourceForTheRound(t *testing.T) {
	t.Parallel()
	const n = 200
	var images []*ocitest.Artifact
	for i := range n {
		images = append(images, ocitest.NewImage(ocitest.Spec{Seed: uint64(i), Layers: []int64{30}}))
	}
	for _, test := range []struct {
		where string
		skip  bool // broken referrers
		want  Summary
	}{
		{where: "Tags"},
		{where: "middle of a list"},
		{where: "ResolveTag"},
		{where: "GetManifest"},
		{where: "middle of a manifest"},
		{where: "Referrers"},
		{where: "Referrers", skip: true, want: Summary{Updated: n, Incomplete: n}},
		{where: "GetBlob"},
		{where: "middle of a blob"},
	} {
		t.Run(fmt.Sprintf("%s, skip=%t", test.where, test.skip), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				one, two, dst := newSpy(ocimem.New()), ocimem.New(), ocimem.New()
				for i, image := range images {
					mustPush(t, one, fmt.Sprintf("r%d", i), image, "v1")
				}
				for i := range 20 {
					mustPush(t, two, "app", image(uint64(n+i)), fmt.Sprintf("v%d", i))
				}
				goOn := stallAt(one, test.where)
				start := time.Now()
				failed, retried := 0, 0
				opts := &MirrorOptions{Report: func(e Event) {
					switch {
					case e.Source == "two":
						qt.Check(t, qt.Equals(e.Outcome, Updated))
						qt.Check(t, qt.Equals(time.Since(start), 0))
					case e.Outcome == Retried:
						retried++
						qt.Check(t, qt.ErrorIs(e.Err, ErrStalled))
					case e.Outcome == Failed:
						failed++
						qt.Check(t, qt.ErrorIs(e.Err, ErrStalled))
					}
				}}
				m := mustMirror(t, dst, opts,
					Source{Name: "one", Registry: one, Rules: []Rule{{Repositories: "*", Destination: "one", SkipBrokenReferrers: test.skip}}},
					Source{Name: "two", Registry: two, Rules: []Rule{{Repositories: "*", Destination: "two"}}},
				)
				summary := mustPass(t, m)
				const backoffs = 7 * DefaultBackoff
				qt.Check(t, qt.Equals(time.Since(start), DefaultAttempts*maxStalls*DefaultStall+backoffs))
				qt.Check(t, qt.Equals(retried, (DefaultAttempts-1)*n))
				qt.Check(t, qt.Equals(failed, n-test.want.Updated))
				qt.Check(t, qt.Equals(len(summary.Failures), failed))
				qt.Check(t, qt.Equals(summary.Updated, test.want.Updated+20))
				qt.Check(t, qt.Equals(summary.Incomplete, test.want.Incomplete))

				goOn()
				start = time.Now()
				m.opts.Report = nil
				qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: failed, Same: n - failed + 20}))
				qt.Check(t, qt.Equals(time.Since(start), 0))
			})
		})
	}
}

// That includes the tags to delete, about which the source is asked one by one.
func TestMirror_GivesUpDeletionsOfAStalledSource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src, dst := newSpy(ocimem.New()), ocimem.New()
		mustPush(t, src, "a", image(1), "v1")
		const n = 200
		for i := range n {
			mustPush(t, dst, "a", image(1), fmt.Sprintf("old%d", i))
		}
		goOn := stallAt(src, "ResolveTag")
		start := time.Now()
		m := mustMirror(t, dst, &MirrorOptions{Attempts: -1}, hub(src, Rule{Repositories: "a", Delete: true}))
		summary := mustPass(t, m)
		qt.Check(t, qt.Equals(time.Since(start), maxStalls*DefaultStall))
		qt.Check(t, qt.HasLen(summary.Failures, 1+n))
		qt.Check(t, qt.Equals(summary.Deleted, 0))

		goOn()
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 1, Deleted: n}))
	})
}

// A few images that cannot be read in time do not keep others from being mirrored: each
// complete answer resets the count, and calls that stall at the same time count once.
func TestMirror_StalledImagesKeepNoOthersBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src, dst := newSpy(ocimem.New()), ocimem.New()
		stuck := make(map[string]bool)
		const bad = 5
		for i := range bad {
			big := ocitest.NewImage(ocitest.Spec{Seed: uint64(i), Layers: []int64{10, 20, 30, 40, 50, 60}})
			for _, blob := range big.Blobs {
				stuck[string(blob.Descriptor.Digest)] = true
			}
			mustPush(t, src, "a", big, fmt.Sprintf("v%d-bad", i))
			mustPush(t, src, "a", image(uint64(100+i)), fmt.Sprintf("v%d", i))
		}
		src.before = func(ctx context.Context, method, _, ref string) error {
			if method == "GetBlob" && stuck[ref] {
				return never(ctx)
			}
			return nil
		}
		start := time.Now()
		m := mustMirror(t, dst, &MirrorOptions{ImageConcurrency: 1, Attempts: -1}, hub(src, Rule{Repositories: "a"}))
		summary := mustPass(t, m)
		qt.Check(t, qt.Equals(summary.Updated, bad))
		qt.Check(t, qt.HasLen(summary.Failures, bad))
		qt.Check(t, qt.Equals(time.Since(start), bad*DefaultStall))
	})
}

// A call that its caller ends counts neither as an answer nor as a stall.
func TestPatient_CountsNoCallsOfCallersWhoLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := newSpy(ocimem.New())
		src.before = func(ctx context.Context, _, _, _ string) error { return never(ctx) }
		p := &patient{reg: src, bound: time.Minute}
		start := time.Now()
		for range maxStalls {
			_, err := p.ResolveTag(t.Context(), "a", "v1")
			qt.Check(t, qt.ErrorIs(err, ErrStalled))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err = p.ResolveTag(ctx, "a", "v1")
			cancel()
			qt.Check(t, qt.IsTrue(errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrStalled)))
			qt.Check(t, qt.IsTrue(p.stalled.Load()))
		}
		qt.Check(t, qt.Equals(time.Since(start), maxStalls*time.Minute+(maxStalls-1)*time.Second))
		_, err := p.ResolveTag(t.Context(), "a", "v1")
		qt.Check(t, qt.ErrorIs(err, ErrStalled))
		qt.Check(t, qt.Equals(src.take(), fmt.Sprintf("ResolveTag %d", 2*maxStalls-1)))

		// Other methods are still called, and this one in the next round.
		src.before = nil
		_, err = p.GetTag(t.Context(), "a", "v1")
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
		p.reset()
		_, err = p.ResolveTag(t.Context(), "a", "v1")
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
		qt.Check(t, qt.IsFalse(p.stalled.Load()))
	})
}
