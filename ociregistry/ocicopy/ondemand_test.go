package ocicopy

import (
	"context"
	"errors"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func TestOnDemand_ServesWhatNoPassHasCopied(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	one, two := newMem(t), newMem(t)
	mustPush(t, one, "fold/app", image(1), "v1", "latest")
	mustPush(t, one, "fold/app", newReferrer(11, typeNotation, image(1)))
	mustPush(t, one, "fold/app", newCosign(12), rules.CosignTag(image(1).Descriptor.Digest)+".sig")
	mustPush(t, one, "spare/app", image(2), "v2")
	mustPush(t, two, "app", image(3), "v3")
	m := mustMirror(t, newMem(t), nil,
		Source{Name: "one", Registry: one, Rules: []Rule{
			{Repositories: "fold/**", Destination: "x", Strip: true, Tags: TagRule{Match: "^v", Newest: 1}},
			{Repositories: "spare/**", Destination: "x", Strip: true, WithoutReferrers: true},
		}},
		Source{Name: "two", Registry: two, Rules: []Rule{{Repositories: "**", Destination: "y"}}},
	)
	views := m.OnDemand()
	qt.Assert(t, qt.HasLen(views, 2))
	x, y := views[0], views[1]
	resolve := func(r ociregistry.Interface, repo, tag string, want *ocitest.Artifact) {
		t.Helper()
		desc, err := r.ResolveTag(ctx, repo, tag)
		if want == nil {
			qt.Check(t, qt.IsTrue(absent(err)), qt.Commentf("%v", err))
			return
		}
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(desc.Digest, want.Descriptor.Digest))
		qt.Check(t, qt.IsNil(want.Verify(ctx, r, repo)))
		rd, err := r.GetTag(ctx, repo, tag)
		qt.Assert(t, qt.IsNil(err))
		rd.Close()
	}
	resolve(x, "x/app", "v1", image(1))
	resolve(x, "x/app", "latest", nil)
	resolve(x, "x/app", "v2", image(2)) // from the second repository that is mirrored there
	resolve(y, "y/app", "v3", image(3))
	resolve(y, "x/app", "v1", nil)
	resolve(x, "fold/app", "v1", nil)

	sig := rules.CosignTag(image(1).Descriptor.Digest) + ".sig"
	tags, err := ociregistry.All(x.Tags(ctx, "x/app", ""))
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(tags, []string{sig, "v1"}))
	referrers, err := ociregistry.All(x.Referrers(ctx, "x/app", image(1).Descriptor.Digest, ""))
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(referrers, 1))
	layer := image(1).Blobs[1]
	rd, err := x.GetBlobRange(ctx, "x/app", layer.Descriptor.Digest, 1, 3)
	qt.Assert(t, qt.IsNil(err))
	rd.Close()
	_, err = x.ResolveBlob(ctx, "x/app", digest.FromString("absent"))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUnknown))
	_, err = x.ResolveBlob(ctx, "x/APP", layer.Descriptor.Digest)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameInvalid))
	_, err = ociregistry.All(x.Tags(ctx, "z", ""))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
	_, err = ociregistry.All(x.Repositories(ctx, ""))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrUnsupported))
	qt.Check(t, qt.ErrorIs(x.DeleteTag(ctx, "x/app", "v1"), ociregistry.ErrUnsupported))
}

func TestOnDemand_ServesOnlyWhatIsAdmitted(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	src := newSpy(newMem(t))
	index := ocitest.NewIndex(ocitest.Spec{}, image(1), image(2))
	signature := newReferrer(11, typeNotation, index)
	cosign := newCosign(12)
	mustPush(t, src, "a", index, "signed")
	mustPush(t, src, "a", signature)
	mustPush(t, src, "a", image(3), "unsigned")
	mustPush(t, src, "a", image(4), "cosign")
	mustPush(t, src, "a", cosign, rules.CosignTag(image(4).Descriptor.Digest)+".sig")
	rule := Rule{Repositories: "a", OnlySigned: true}

	view := mustMirror(t, newMem(t), nil, hub(src, rule)).OnDemand()[0]
	_, err := view.ResolveTag(ctx, "a", "unsigned")
	qt.Check(t, qt.ErrorIs(err, ErrUnsigned))
	_, err = view.GetTag(ctx, "a", "unsigned")
	qt.Check(t, qt.ErrorIs(err, ErrUnsigned))
	_, err = view.GetManifest(ctx, "a", image(3).Descriptor.Digest)
	qt.Check(t, qt.ErrorIs(err, ErrUnsigned))
	_, err = view.ResolveManifest(ctx, "a", image(1).Descriptor.Digest) // by itself
	qt.Check(t, qt.ErrorIs(err, ErrUnsigned))

	// What belongs to a signed index is admitted once the index was asked for.
	_, err = view.ResolveTag(ctx, "a", "signed")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(index.Verify(ctx, view, "a")))
	qt.Check(t, qt.IsNil(image(2).Verify(ctx, view, "a")))
	qt.Check(t, qt.IsNil(signature.Verify(ctx, view, "a")))
	_, err = view.GetTag(ctx, "a", "cosign")
	qt.Check(t, qt.IsNil(err))
	_, err = view.GetTag(ctx, "a", rules.CosignTag(image(4).Descriptor.Digest)+".sig")
	qt.Check(t, qt.IsNil(err))

	// The index is read once.
	src.take()
	_, err = view.ResolveTag(ctx, "a", "signed")
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(src.take(), "ResolveTag 1"))

	reason := errors.New("too old")
	opts := &MirrorOptions{Validate: func(ctx context.Context, i Image) error {
		if i.Tag == "unsigned" {
			return reason
		}
		return nil
	}}
	view = mustMirror(t, newMem(t), opts, hub(src, Rule{Repositories: "a"})).OnDemand()[0]
	_, err = view.GetTag(ctx, "a", "unsigned")
	qt.Check(t, qt.ErrorIs(err, reason))
	qt.Check(t, qt.ErrorIs(err, ErrRefused))
	_, err = view.GetTag(ctx, "a", "signed")
	qt.Check(t, qt.IsNil(err))

	// A failure of the source is not a refusal.
	broken := errors.New("broken")
	src.before = func(ctx context.Context, method, _, _ string) error {
		if method == "Referrers" {
			return broken
		}
		return nil
	}
	view = mustMirror(t, newMem(t), nil, hub(src, rule)).OnDemand()[0]
	_, err = view.GetTag(ctx, "a", "signed")
	qt.Check(t, qt.ErrorIs(err, broken))
}
