package ocicopy

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// listFails makes the list of referrers of one manifest end in an error.
func listFails(s *spy, subject ociregistry.Digest, err error) {
	f := s.Interface.(*ociregistry.Funcs)
	list := f.Referrers_
	f.Referrers_ = func(ctx context.Context, repo string, d ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
		return func(yield func(ociregistry.Descriptor, error) bool) {
			for desc, err := range list(ctx, repo, d, artifactType) {
				if !yield(desc, err) {
					return
				}
			}
			if d == subject {
				yield(ociregistry.Descriptor{}, err)
			}
		}
	}
}

// notKnown are errors with which a list of referrers can end.
var notKnown = []error{
	errors.New("the origin is down"),
	ociregistry.ErrUnsupported,
	ociregistry.ErrNameUnknown,
	ociregistry.ErrManifestUnknown,
	ociregistry.ErrDenied,
	ociregistry.ErrTooManyRequests,
}

// A list that fails is not an empty list, whether it fails at once or after some
// elements, and whether the artifact is new to the destination or not.
func TestCopy_FailsWithoutTheListOfReferrers(t *testing.T) {
	t.Parallel()
	for _, err := range notKnown {
		for _, referrers := range []int{0, 1} {
			src, dst := newSpy(newMem(t)), newMem(t)
			mustPush(t, src, "a", image(1), "v1")
			if referrers > 0 {
				mustPush(t, src, "a", newReferrer(2, typeNotation, image(1)))
			}
			for _, there := range []bool{false, true} {
				if there {
					mustPush(t, dst, "a", image(1), "v1")
				}
				failing := newSpy(src)
				listFails(failing, image(1).Descriptor.Digest, err)
				_, got := Copy(t.Context(), Place{dst, "a", "v1"}, Place{failing, "a", "v1"}, &Options{Referrers: true})
				qt.Check(t, qt.ErrorIs(got, err))
				qt.Check(t, qt.Equals(tagged(t, dst, "a", "v1") != "", there))
			}
			mustCopy(t, Place{dst, "a", "v1"}, Place{src, "a", "v1"}, &Options{Referrers: true})
		}
	}
}

// An image does not count as unsigned when its referrers cannot be listed.
func TestSigned_FailsWithoutTheListOfReferrers(t *testing.T) {
	t.Parallel()
	for _, unlisted := range notKnown {
		src, dst := newSpy(newMem(t)), newMem(t)
		mustPush(t, src, "a", image(1), "v1")
		mustPush(t, src, "a", newReferrer(2, typeNotation, image(1)))
		src.before = func(_ context.Context, method, _, _ string) error {
			if method == "Referrers" {
				return unlisted
			}
			return nil
		}
		place := Place{src, "a", string(image(1).Descriptor.Digest)}
		_, err := Signed(t.Context(), place, nil)
		qt.Check(t, qt.ErrorIs(err, unlisted))
		m := mustMirror(t, dst, &MirrorOptions{Attempts: -1}, hub(src, Rule{Repositories: "a", OnlySigned: true, SkipBrokenReferrers: true}))
		summary := mustPass(t, m)
		qt.Check(t, qt.Equals(summary.Unsigned, 0))
		qt.Assert(t, qt.HasLen(summary.Failures, 1))
		qt.Check(t, qt.ErrorIs(summary.Failures[0].Err, unlisted))
		qt.Check(t, qt.Not(qt.ErrorIs(summary.Failures[0].Err, ErrUnsigned)))

		// A tag of cosign needs no list of referrers.
		mustPush(t, src, "a", newCosign(3), rules.CosignTag(image(1).Descriptor.Digest)+".sig")
		ok, err := Signed(t.Context(), place, nil)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(ok))
	}
}

// breakage breaks one referrer of image 1 at a source.
type breakage struct {
	name     string
	break_   func(s *spy, referrer *ocitest.Artifact)
	want     error
	unlisted bool // not even its digest is known
}

var errSource = errors.New("the source is broken")

var breakages = []breakage{
	{"manifest cannot be read", func(s *spy, referrer *ocitest.Artifact) {
		s.before = failOn("GetManifest", string(referrer.Descriptor.Digest), errSource)
	}, errSource, false},
	{"manifest is another", func(s *spy, referrer *ocitest.Artifact) {
		f := s.Interface.(*ociregistry.Funcs)
		get := f.GetManifest_
		f.GetManifest_ = func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
			if d == referrer.Descriptor.Digest {
				return newBytesReader(image(9).Manifest, referrer.Descriptor), nil
			}
			return get(ctx, repo, d)
		}
	}, ociregistry.ErrDigestInvalid, false},
	{"blob is missing", func(s *spy, referrer *ocitest.Artifact) {
		blobIs(referrer.Blobs[1].Descriptor, "")(s.Interface.(*ociregistry.Funcs))
	}, ociregistry.ErrBlobUnknown, false},
	{"blob is another", func(s *spy, referrer *ocitest.Artifact) {
		blobIs(referrer.Blobs[1].Descriptor, string(bytes.Repeat([]byte("x"), 77)))(s.Interface.(*ociregistry.Funcs))
	}, ociregistry.ErrDigestInvalid, false},
	{"blob is truncated", func(s *spy, referrer *ocitest.Artifact) {
		blobIs(referrer.Blobs[1].Descriptor, "x")(s.Interface.(*ociregistry.Funcs))
	}, ociregistry.ErrSizeInvalid, false},
	{"blob breaks off", func(s *spy, referrer *ocitest.Artifact) {
		f := s.Interface.(*ociregistry.Funcs)
		get := f.GetBlob_
		f.GetBlob_ = func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
			r, err := get(ctx, repo, d)
			if d == referrer.Blobs[1].Descriptor.Digest {
				return breakingReader{r}, err
			}
			return r, err
		}
	}, errSource, false},
	{"list cannot be read", func(s *spy, _ *ocitest.Artifact) {
		s.before = failOn("Referrers", string(image(1).Descriptor.Digest), errSource)
	}, errSource, true},
	{"list does not end", func(s *spy, _ *ocitest.Artifact) {
		listFails(s, image(1).Descriptor.Digest, errSource)
	}, errSource, true},
	{"list has an entry without a digest", func(s *spy, _ *ocitest.Artifact) {
		list := s.Interface.(*ociregistry.Funcs).Referrers_
		lists(s, func(d ociregistry.Digest) []ociregistry.Descriptor {
			all, _ := ociregistry.All(list(context.Background(), "a", d, ""))
			if d == image(1).Descriptor.Digest {
				all = append([]ociregistry.Descriptor{{}}, all...)
			}
			return all
		})
	}, ociregistry.ErrDigestInvalid, true},
	{"tag of cosign cannot be resolved", func(s *spy, _ *ocitest.Artifact) {
		s.before = failOn("ResolveTag", rules.CosignTag(image(1).Descriptor.Digest)+".att", errSource)
	}, errSource, true},
}

func failOn(method, ref string, err error) func(context.Context, string, string, string) error {
	return func(_ context.Context, m, _, r string) error {
		if m == method && r == ref {
			return err
		}
		return nil
	}
}

type breakingReader struct{ ociregistry.BlobReader }

func (r breakingReader) Read(p []byte) (int, error) {
	n, _ := r.BlobReader.Read(p[:1])
	return n, errSource
}

// One broken signature fails the copy, unless it may be skipped. Then it is reported, and
// everything else is copied.
func TestCopy_SkipsABrokenReferrerOnlyIfAsked(t *testing.T) {
	t.Parallel()
	for _, test := range breakages {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, dst := range []ociregistry.Interface{newMem(t), newFS(t), newRemote(t)} {
				src := newSpy(newMem(t))
				bad, good := newReferrer(2, typeNotation, image(1)), newReferrer(3, "application/sbom", image(1))
				above := newReferrer(4, typeNotation, good)
				mustPush(t, src, "a", image(1), "v1")
				for _, a := range []*ocitest.Artifact{bad, good, above} {
					mustPush(t, src, "a", a)
				}
				cosign := rules.CosignTag(image(1).Descriptor.Digest) + ".sig"
				mustPush(t, src, "a", newCosign(5), cosign)
				test.break_(src, bad)

				opts := &Options{Referrers: true, CosignTags: true}
				_, err := Copy(t.Context(), Place{dst, "a", ""}, Place{src, "a", "v1"}, opts)
				qt.Assert(t, qt.ErrorIs(err, test.want))
				qt.Check(t, qt.Equals(tagged(t, dst, "a", "v1"), ""))

				opts.SkipBrokenReferrers = true
				var last Progress
				opts.Progress = func(p Progress) { last = p }
				for pass := range 2 {
					result := mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, opts)
					qt.Check(t, qt.Equals(result.Unchanged(), pass == 1))
					qt.Assert(t, qt.HasLen(result.Missing, 1))
					missing := result.Missing[0]
					qt.Check(t, qt.Equals(missing.Subject, image(1).Descriptor.Digest))
					qt.Check(t, qt.ErrorIs(missing.Err, test.want))
					if !test.unlisted {
						qt.Check(t, qt.Equals(missing.Descriptor.Digest, bad.Descriptor.Digest))
						mustHave(t, dst, "a", good)
						mustHave(t, dst, "a", above)
					}
					qt.Check(t, qt.Equals(last.BytesDone, last.BytesTotal))
					qt.Check(t, qt.Equals(last.ItemsDone, last.ItemsTotal))
				}
				mustHave(t, dst, "a", image(1))
				mustHave(t, dst, "a", newCosign(5))
				qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), cosign+" v1"))

				// When it is repaired, it is copied.
				whole := newSpy(newMem(t))
				mustPush(t, whole, "a", image(1), "v1")
				for _, a := range []*ocitest.Artifact{bad, good, above} {
					mustPush(t, whole, "a", a)
				}
				result := mustCopy(t, Place{dst, "a", ""}, Place{whole, "a", "v1"}, opts)
				qt.Check(t, qt.HasLen(result.Missing, 0))
				for _, a := range []*ocitest.Artifact{bad, good, above} {
					mustHave(t, dst, "a", a)
				}
			}
		})
	}
}

// A broken part of the image itself is never skipped, whatever else names it.
func TestCopy_NeverSkipsABrokenPartOfTheImage(t *testing.T) {
	t.Parallel()
	index := ocitest.NewIndex(ocitest.Spec{}, image(1))
	// The referrer names what belongs to the image too: the image is listed as a
	// referrer of the index, at the same distance.
	group := ocitest.NewIndex(ocitest.Spec{Subject: &index.Descriptor}, image(1))
	for _, test := range breakages[:6] {
		src, dst := newSpy(newMem(t)), newMem(t)
		mustPush(t, src, "a", index, "v1")
		mustPush(t, src, "a", group)
		list := src.Interface.(*ociregistry.Funcs).Referrers_
		lists(src, func(d ociregistry.Digest) []ociregistry.Descriptor {
			all, _ := ociregistry.All(list(t.Context(), "a", d, ""))
			return append(all, image(1).Descriptor)
		})
		test.break_(src, image(1))
		want := test.want
		if test.name == "blob is another" { // it has another size too
			want = ociregistry.ErrSizeInvalid
		}
		_, err := Copy(t.Context(), Place{dst, "a", ""}, Place{src, "a", "v1"}, &Options{Referrers: true, SkipBrokenReferrers: true})
		qt.Check(t, qt.ErrorIs(err, want), qt.Commentf("%s", test.name))
		qt.Check(t, qt.Equals(tagged(t, dst, "a", "v1"), ""))
	}
}

// What a broken referrer names is skipped with it.
func TestCopy_SkipsWhatABrokenReferrerNames(t *testing.T) {
	t.Parallel()
	src, dst := newSpy(newMem(t)), newMem(t)
	inner := image(7)
	group := ocitest.NewIndex(ocitest.Spec{Subject: &image(1).Descriptor}, inner, image(8))
	mustPush(t, src, "a", image(1), "v1")
	mustPush(t, src, "a", group)
	blobIs(inner.Blobs[1].Descriptor, "")(src.Interface.(*ociregistry.Funcs))
	opts := &Options{Referrers: true, SkipBrokenReferrers: true}
	result := mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, opts)
	qt.Assert(t, qt.HasLen(result.Missing, 1))
	qt.Check(t, qt.Equals(result.Missing[0].Descriptor.Digest, group.Descriptor.Digest))
	qt.Check(t, qt.ErrorIs(result.Missing[0].Err, ociregistry.ErrBlobUnknown))
	mustHave(t, dst, "a", image(1))
	_, err := dst.ResolveManifest(t.Context(), "a", group.Descriptor.Digest)
	qt.Check(t, qt.IsTrue(absent(err)))
}
