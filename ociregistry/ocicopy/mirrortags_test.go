package ocicopy

import (
	"context"
	"iter"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ociregistry"
)

func TestMirror_CopiesOnlyWhatDiffers(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		one, two := image(1), image(2)
		mustPush(t, src, "a", one, "v1", "latest")
		m := mustMirror(t, dst, nil, hub(src, Rule{Repositories: "a"}))
		src.take()
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 2}))
		src.take()
		dst.take()

		// For each tag: resolve it, and look for new signatures.
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Same: 2}))
		qt.Check(t, qt.Equals(src.take(), "Referrers 2, ResolveTag 2, Tags 1"))
		qt.Check(t, qt.Equals(dst.take(), "GetManifest 2, ResolveBlob 3, ResolveTag 2"))

		// A moved tag is copied again; the other one is not.
		mustPush(t, src, "a", two, "latest")
		src.take()
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 1, Same: 1}))
		qt.Check(t, qt.Equals(src.take(), "GetBlob 3, GetManifest 1, Referrers 2, ResolveTag 2, Tags 1"))
		qt.Check(t, qt.Equals(tagged(t, dst, "a", "latest"), two.Descriptor.Digest))
		qt.Check(t, qt.Equals(tagged(t, dst, "a", "v1"), one.Descriptor.Digest))
	})
}

func TestMirror_CopiesNewSignaturesOfWhatIsThere(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		signed := image(1)
		tag := rules.CosignTag(signed.Descriptor.Digest) + ".sig"
		mustPush(t, src, "a", signed, "v1")
		m := mustMirror(t, dst, nil, hub(src, Rule{Repositories: "a"}))
		mustPass(t, m)
		for seed := range uint64(2) {
			cosign, notation := newCosign(10+seed), newReferrer(20+seed, typeNotation, signed)
			mustPush(t, src, "a", cosign, tag)
			mustPush(t, src, "a", notation)
			src.take()
			qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 1}))
			qt.Check(t, qt.Equals(tagged(t, dst, "a", tag), cosign.Descriptor.Digest))
			mustHave(t, dst, "a", cosign)
			mustHave(t, dst, "a", notation)
			// The layers and configurations of both, which are not those of the
			// image.
			qt.Check(t, qt.IsTrue(strings.Contains(src.take(), "GetManifest 2")))
			qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Same: 1}))
			qt.Check(t, qt.IsFalse(strings.Contains(src.take(), "Get")))
		}
	})
}

func TestMirror_CopiesNoReferrersIfTheRuleSaysSo(t *testing.T) {
	t.Parallel()
	src, dst := newSpy(newMem(t)), newMem(t)
	index, extras := signedIndex(t, src, "a", "v1")
	m := mustMirror(t, dst, nil, hub(src, Rule{Repositories: "a", WithoutReferrers: true}))
	src.take()
	qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 1}))
	qt.Check(t, qt.IsFalse(strings.Contains(src.take(), "Referrers")))
	qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), "v1"))
	mustHave(t, dst, "a", index)
	qt.Check(t, qt.IsNotNil(extras[0].Verify(t.Context(), dst, "a")))
	mustPass(t, m)
	qt.Check(t, qt.Equals(src.take(), "ResolveTag 1, Tags 1"))
}

func TestMirror_DeletesTagsThatTheSourceLost(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		ctx := t.Context()
		sig := rules.CosignTag(image(1).Descriptor.Digest) + ".sig"
		mustPush(t, src, "a", image(1), "v1", "v2", "v3")
		mustPush(t, src, "a", newCosign(9), sig)
		mustPush(t, dst, "a", image(5), "local")
		rule := Rule{Repositories: "a", Tags: TagRule{Match: "^v", Newest: 2}}
		mustPass(t, mustMirror(t, dst, nil, hub(src, rule)))
		mustPush(t, dst, "a", image(1), "v1")
		qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), "local "+sig+" v1 v2 v3"))
		qt.Assert(t, qt.IsNil(src.DeleteTag(ctx, "a", "v3")))
		qt.Assert(t, qt.IsNil(src.DeleteTag(ctx, "a", sig)))

		mustPass(t, mustMirror(t, dst, nil, hub(src, rule)))
		qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), "local "+sig+" v1 v2 v3"))
		rule.Delete = true
		qt.Check(t, qt.DeepEquals(mustPass(t, mustMirror(t, dst, nil, hub(src, rule))), Summary{Same: 2, Deleted: 2}))
		qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), "local v1 v2"))

		// Nothing is deleted if the source fails to list its tags.
		src.before = func(_ context.Context, method, _, _ string) error {
			if method == "Tags" {
				return ociregistry.ErrNameUnknown
			}
			return nil
		}
		summary := mustPass(t, mustMirror(t, dst, nil, hub(src, rule)))
		qt.Check(t, qt.HasLen(summary.Failures, 1))
		qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), "local v1 v2"))
	})
}

func TestMirror_DeletesTagsThatNoSourceOfARepositoryHas(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		two := newSpy(newMem(t))
		mustPush(t, src, "a", image(1), "v1", "v2")
		mustPush(t, two, "b", image(2), "v3", "v4", "local")
		mustPush(t, dst, "x", image(3), "old")
		m := mustMirror(t, dst, &MirrorOptions{Attempts: -1},
			hub(src, Rule{Repositories: "a", Destination: "x", Strip: true, Delete: true}),
			Source{Name: "two", Registry: two, Rules: []Rule{{Repositories: "b", Destination: "x", Strip: true, Tags: TagRule{Match: "^v"}}}},
		)
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 4, Deleted: 1}))
		qt.Check(t, qt.Equals(tagsOf(t, dst, "x"), "v1 v2 v3 v4"))
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Same: 4}))
		for _, tag := range []string{"v3", "v4"} {
			qt.Assert(t, qt.IsNil(two.DeleteTag(t.Context(), "b", tag)))
		}
		qt.Assert(t, qt.IsNil(src.DeleteTag(t.Context(), "a", "v2")))

		// Nothing is deleted if another source does not answer.
		two.before = func(_ context.Context, method, _, ref string) error {
			if method == "ResolveTag" && ref != "v4" {
				return ociregistry.ErrTooManyRequests
			}
			return nil
		}
		summary := mustPass(t, m)
		qt.Check(t, qt.Equals(summary.Deleted, 1))
		qt.Check(t, qt.HasLen(summary.Failures, 2))
		qt.Check(t, qt.Equals(tagsOf(t, dst, "x"), "v1 v2 v3"))
		two.before = nil
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Same: 1, Deleted: 2}))
		qt.Check(t, qt.Equals(tagsOf(t, dst, "x"), "v1"))
	})
}

// The list of the source omits a tag.
func TestMirror_DeletesNothingByAStaleList(t *testing.T) {
	t.Parallel()
	src, dst := newSpy(newMem(t)), newMem(t)
	mustPush(t, src, "a", image(1), "v1", "v2")
	m := mustMirror(t, dst, nil, hub(src, Rule{Repositories: "a", Delete: true}))
	mustPass(t, m)
	src.Interface.(*ociregistry.Funcs).Tags_ = func(context.Context, string, string) iter.Seq2[string, error] {
		return ociregistry.SliceSeq([]string{"v1"})
	}
	qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Same: 1}))
	qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), "v1 v2"))
}
