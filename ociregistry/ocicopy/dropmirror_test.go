package ocicopy

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// A mirror makes an index once, even in several processes. It makes a new one when the tag
// moves. Validate is called only for what is new.
func TestMirror_DropsOtherPlatforms(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		one, two := newAttested(1, amd64, armV7), newAttested(20, amd64, armV7)
		mustPush(t, src, "a", one, "v1")
		mustPush(t, src, "a", image(1), "plain")
		asked := 0
		opts := &MirrorOptions{ImageConcurrency: 1, Validate: func(_ context.Context, i Image) error {
			asked++
			return nil
		}}
		rule := Rule{Repositories: "a", Platforms: []string{"linux/amd64"}, DropOthers: true}
		pass := func(want Summary) {
			t.Helper()
			src.take()
			m := mustMirror(t, dst, opts, hub(src, rule))
			qt.Check(t, qt.DeepEquals(mustPass(t, m), want))
		}
		pass(Summary{Updated: 2})
		first := tagged(t, dst, "a", "v1")
		pass(Summary{Same: 2})
		// The referrers of the images and the attestation are listed, those of the new
		// index are not.
		qt.Check(t, qt.Equals(src.take(), "Referrers 3, ResolveTag 2, Tags 1"))
		qt.Check(t, qt.Equals(asked, 2))

		mustPush(t, src, "a", two, "v1")
		pass(Summary{Updated: 1, Same: 1})
		qt.Check(t, qt.Equals(asked, 3))
		qt.Check(t, qt.Not(qt.Equals(tagged(t, dst, "a", "v1"), first)))
		mustHave(t, dst, "a", two.Children[0])
		mustHave(t, dst, "a", two.Children[2])
		pass(Summary{Same: 2})

		// Other platforms, or all of them, make another index.
		rule.Platforms = []string{"linux/arm/v7"}
		pass(Summary{Updated: 1, Same: 1})
		pass(Summary{Same: 2})
		rule.Platforms, rule.DropOthers = nil, false
		pass(Summary{Updated: 1, Same: 1})
		qt.Check(t, qt.Equals(tagged(t, dst, "a", "v1"), two.Descriptor.Digest))
	})
}

// On demand, a tag points at the index that a pass would make.
func TestOnDemand_DropsOtherPlatforms(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	src, dst := newSpy(newMem(t)), newMem(t)
	nested := newPlatforms(1, amd64, armV7)
	index := ocitest.NewIndex(ocitest.Spec{}, nested)
	whole := ocitest.NewIndex(ocitest.Spec{}, newPlatforms(9, amd64))
	mustPush(t, src, "a", index, "v1")
	mustPush(t, src, "a", whole, "whole")
	mustPush(t, src, "a", image(1), "image")
	mustPush(t, src, "a", newPlatforms(5, armV7), "other")
	m := mustMirror(t, dst, nil, hub(src, Rule{Repositories: "a", Platforms: []string{"linux/amd64"}, DropOthers: true}))
	mustPass(t, m)
	view := m.OnDemand()[0]
	for _, tag := range []string{"v1", "whole", "image"} {
		want, err := dst.ResolveTag(ctx, "a", tag)
		qt.Assert(t, qt.IsNil(err))
		src.take()
		for range 3 {
			desc, err := view.ResolveTag(ctx, "a", tag)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(desc.Digest, want.Digest))
			qt.Check(t, qt.Equals(desc.Size, want.Size))
		}
		if tag == "v1" { // the index is made once
			qt.Check(t, qt.Equals(src.take(), "GetManifest 2, ResolveTag 3"))
		}
		rd, err := view.GetTag(ctx, "a", tag)
		qt.Assert(t, qt.IsNil(err))
		contents, err := io.ReadAll(rd)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(digest.FromBytes(contents), want.Digest))
		desc, err := view.ResolveManifest(ctx, "a", want.Digest)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(desc.MediaType, want.MediaType))
	}
	// A new index can be copied as if it existed.
	other := newMem(t)
	mustCopy(t, Place{other, "b", "v1"}, Place{view, "a", "v1"}, nil)
	qt.Check(t, qt.Equals(tagged(t, other, "b", "v1"), tagged(t, dst, "a", "v1")))
	mustHave(t, other, "b", nested.Children[0])
	_, err := view.ResolveTag(ctx, "a", "other")
	qt.Check(t, qt.IsTrue(absent(err)))

	// The rule admits the new index as it admits that of the source.
	guarded := mustMirror(t, dst, nil, hub(src, Rule{Repositories: "a", Platforms: []string{"linux/amd64"}, DropOthers: true, OnlySigned: true})).OnDemand()[0]
	_, err = guarded.ResolveTag(ctx, "a", "v1")
	qt.Check(t, qt.ErrorIs(err, ErrUnsigned))
	_, err = guarded.GetTag(ctx, "a", "v1")
	qt.Check(t, qt.ErrorIs(err, ErrUnsigned))
	mustPush(t, src, "a", newReferrer(40, typeNotation, index))
	_, err = guarded.GetTag(ctx, "a", "v1")
	qt.Check(t, qt.IsNil(err))
}

// An index is made once for all callers that ask at the same time. They share an error, but
// not the departure of the first caller.
func TestOnDemand_MakesAnIndexOnce(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fail  bool
		leave bool // the first caller
		want  string
	}{
		{"made", false, false, "GetManifest 1, ResolveTag 5"},
		{"failed", true, false, "GetManifest 1, ResolveTag 5"},
		{"left", false, true, "GetManifest 1, ResolveTag 5"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := newSpy(newMem(t))
				mustPush(t, src, "a", newPlatforms(1, amd64, armV7), "v1")
				rule := Rule{Repositories: "a", Platforms: []string{"linux/amd64"}, DropOthers: true}
				view := mustMirror(t, newMem(t), nil, hub(src, rule)).OnDemand()[0]
				open, broken := make(chan struct{}), errors.New("broken")
				src.before = func(ctx context.Context, method, repo, ref string) error {
					if method != "GetManifest" {
						return nil
					}
					select {
					case <-open:
					case <-ctx.Done():
						return ctx.Err()
					}
					if test.fail {
						return broken
					}
					return nil
				}
				src.take()
				var asking sync.WaitGroup
				ask := func(ctx context.Context, want error) {
					asking.Go(func() {
						_, err := view.ResolveTag(ctx, "a", "v1")
						qt.Check(t, qt.ErrorIs(err, want))
					})
					synctest.Wait()
				}
				var want, wantFirst error
				if test.fail {
					want, wantFirst = broken, broken
				}
				if test.leave {
					wantFirst = context.Canceled
				}
				first, leave := context.WithCancel(t.Context())
				defer leave()
				ask(first, wantFirst)
				for range 4 {
					ask(t.Context(), want)
				}
				if test.leave {
					leave()
					synctest.Wait()
				}
				close(open)
				asking.Wait()
				qt.Check(t, qt.Equals(src.take(), test.want))
			})
		})
	}
}

// The limits of the mirror's copies apply to indexes that are made on demand.
func TestOnDemand_HeedsLimits(t *testing.T) {
	t.Parallel()
	src := newMem(t)
	mustPush(t, src, "a", newPlatforms(1, amd64, armV7), "v1")
	rule := Rule{Repositories: "a", Platforms: []string{"linux/amd64"}, DropOthers: true}
	limits := Options{MaxManifests: 1}
	m := mustMirror(t, newMem(t), &MirrorOptions{Copy: limits}, hub(src, rule))
	_, err := m.OnDemand()[0].ResolveTag(t.Context(), "a", "v1")
	qt.Check(t, qt.ErrorIs(err, ErrLimit))
	sum, err := m.Pass(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(sum.Failures, 1))
	qt.Check(t, qt.ErrorIs(sum.Failures[0].Err, ErrLimit))
}

// The manifest at which the destination's tag points may exceed the limits of the copy that
// moves the tag.
func TestCopy_MovesATagFromAnIndexBeyondTheLimits(t *testing.T) {
	t.Parallel()
	src, dst := newMem(t), newMem(t)
	mustPush(t, src, "a", newPlatforms(1, amd64, armV7), "v1")
	large := ocitest.NewIndex(ocitest.Spec{Annotations: map[string]string{"k": strings.Repeat("v", 5000)}})
	mustPush(t, dst, "a", large, "v1")
	opts := &Options{Platforms: twoPlatforms, DropOthers: true, MaxManifestSize: 4000}
	result := mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, opts)
	qt.Check(t, qt.Equals(tagged(t, dst, "a", "v1"), result.Descriptor.Digest))
}

func TestIndexCache_IsBounded(t *testing.T) {
	t.Parallel()
	var r indexCache
	for i := range 3 * maxIndexes >> 20 {
		n := &node{digest: digest.FromString(jsonOf(t, i)), size: 1 << 20}
		r.add(indexKey{"a", n.digest}, n)
		qt.Assert(t, qt.IsTrue(len(r.nodes) <= maxIndexes>>20))
		qt.Check(t, qt.IsNotNil(r.lookup(indexKey{"a", n.digest})))
	}
}
