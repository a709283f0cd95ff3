package ocifilter_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocifilter"
)

const testType = "application/x-test"

// push pushes a manifest and returns only the error.
func push(ctx context.Context, r ociregistry.Interface, ref, contents string, tags ...string) error {
	_, err := r.PushManifest(ctx, "foo", ref, []byte(contents), testType, tags...)
	return err
}

// tagsOf returns the digest that each tag of the repository foo points at.
func tagsOf(t *testing.T, r ociregistry.Interface) map[string]ociregistry.Digest {
	t.Helper()
	all := make(map[string]ociregistry.Digest)
	for tag, err := range r.Tags(t.Context(), "foo", "") {
		qt.Assert(t, qt.IsNil(err))
		desc, err := r.ResolveTag(t.Context(), "foo", tag)
		qt.Assert(t, qt.IsNil(err))
		all[tag] = desc.Digest
	}
	return all
}

func TestImmutable_PushAddsAndChangesNothing(t *testing.T) {
	t.Parallel()
	digestOf := func(s string) ociregistry.Digest { return digest.FromString(s) }
	ref := func(s string) string { return string(digestOf(s)) }
	// There is old, with the tags v1 and v2.
	tests := []struct {
		name     string
		ref      string
		contents string
		tags     []string
		want     error
		wantTags []string // new ones, which point at contents
	}{
		{"NewTag", "v3", "new", nil, nil, []string{"v3"}},
		{"NewTags", "v3", "new", []string{"v4", "v5"}, nil, []string{"v3", "v4", "v5"}},
		{"NoTag", "", "new", nil, nil, nil},
		{"TagsWithoutRef", "", "new", []string{"v3", "v4"}, nil, []string{"v3", "v4"}},
		{"TagsOfDigest", ref("new"), "new", []string{"v3", "v4"}, nil, []string{"v3", "v4"}},
		{"Digest", ref("new"), "new", nil, nil, nil},
		{"TagTwice", "v3", "new", []string{"v3"}, nil, []string{"v3"}},
		{"NewTagOfOld", "v3", "old", nil, nil, []string{"v3"}},
		{"SameTag", "v1", "old", nil, nil, nil},
		{"SameTags", "v1", "old", []string{"v2"}, nil, nil},
		{"SameTagsOfDigest", ref("old"), "old", []string{"v2", "v1"}, nil, nil},
		{"SameAndNewTag", "v1", "old", []string{"v3"}, nil, []string{"v3"}},
		{"SameDigest", ref("old"), "old", nil, nil, nil},

		{"MovedTag", "v1", "new", nil, ociregistry.ErrDenied, nil},
		{"MovedSecondTag", "v3", "new", []string{"v2"}, ociregistry.ErrDenied, nil},
		{"MovedTagWithoutRef", "", "new", []string{"v2"}, ociregistry.ErrDenied, nil},
		{"MovedSecondTagWithoutRef", "", "new", []string{"v3", "v2"}, ociregistry.ErrDenied, nil},
		{"MovedTagOfDigest", ref("new"), "new", []string{"v2"}, ociregistry.ErrDenied, nil},
		{"MovedSecondTagOfDigest", ref("new"), "new", []string{"v3", "v2"}, ociregistry.ErrDenied, nil},
		{"MovedToOtherAlgorithm", string(digest.SHA512.FromString("old")), "old", []string{"v1"}, ociregistry.ErrDenied, nil},

		{"BadTag", ".v3", "new", nil, ociregistry.ErrManifestInvalid, nil},
		{"BadSecondTag", "v3", "new", []string{".v4"}, ociregistry.ErrManifestInvalid, nil},
		{"BadTagWithoutRef", "", "new", []string{""}, ociregistry.ErrManifestInvalid, nil},
		{"BadDigest", "sha256:abc", "new", nil, ociregistry.ErrDigestInvalid, nil},
		{"OtherDigest", ref("other"), "new", nil, ociregistry.ErrDigestInvalid, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			backend := ocimem.New()
			qt.Assert(t, qt.IsNil(push(t.Context(), backend, "v1", "old", "v2")))
			want := tagsOf(t, backend)

			err := push(t.Context(), ocifilter.Immutable(backend), test.ref, test.contents, test.tags...)
			qt.Check(t, qt.ErrorIs(err, test.want))

			for _, tag := range test.wantTags {
				want[tag] = digestOf(test.contents)
			}
			qt.Check(t, qt.DeepEquals(tagsOf(t, backend), want))
			if test.want != nil {
				_, err := backend.ResolveManifest(t.Context(), "foo", digestOf("new"))
				qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
			}
		})
	}
}

func TestImmutable_RefusalSaysWhatItIsAbout(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	qt.Assert(t, qt.IsNil(push(t.Context(), backend, "v1", "old")))
	err := push(t.Context(), ocifilter.Immutable(backend), "v1", "new")
	qt.Check(t, qt.Equals(err.Error(), fmt.Sprintf(
		"PushManifest foo:v1: denied: requested access to the resource is denied: tag v1 is immutable and points at %s", digest.FromString("old"))))
}

func TestImmutable_RefusesBadRepositoryNames(t *testing.T) {
	t.Parallel()
	r := ocifilter.Immutable(unreachable(t))
	for _, name := range badNames {
		_, err := r.PushManifest(t.Context(), name, "v1", []byte("{}"), testType)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameInvalid), qt.Commentf("%.50q", name))
	}
}

// The media type of a manifest is part of what must not change.
func TestImmutable_KeepsTheMediaType(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	r := ocifilter.Immutable(backend)
	d := pushManifest(t, r, "foo", "{}", "v1")
	for _, ref := range []string{"", "v1", "v2", string(d)} {
		_, err := r.PushManifest(t.Context(), "foo", ref, []byte("{}"), "application/x-other", "v3")
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied), qt.Commentf("ref %q", ref))
	}
	desc, err := backend.ResolveManifest(t.Context(), "foo", d)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(desc.MediaType, testType))
	qt.Check(t, qt.DeepEquals(tagsOf(t, backend), map[string]ociregistry.Digest{"v1": d}))

	// Another repository has its own.
	_, err = r.PushManifest(t.Context(), "bar", "v1", []byte("{}"), "application/x-other")
	qt.Check(t, qt.IsNil(err))
}

func TestImmutable_DeletesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range apiCalls {
		if c.access == ocifilter.AccessDelete {
			err := c.do(t.Context(), ocifilter.Immutable(unreachable(t)), "foo")
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied), qt.Commentf(c.method))
		}
	}
}

func TestImmutable_PassesTheRestOn(t *testing.T) {
	t.Parallel()
	for _, c := range apiCalls {
		if c.access == ocifilter.AccessDelete || c.method == "PushManifest" {
			continue
		}
		var got string
		r := ocifilter.Immutable(failing(func(method, _ string) { got = method }))
		qt.Check(t, qt.ErrorIs(c.do(t.Context(), r, "foo"), errBackend))
		qt.Check(t, qt.Equals(got, c.method))
	}
}

// A view that cannot tell whether content exists must not overwrite it.
func TestImmutable_RefusesWhenItCannotTell(t *testing.T) {
	t.Parallel()
	unknown := ociregistry.ErrManifestUnknown
	absent := func() (ociregistry.Descriptor, error) { return ociregistry.Descriptor{}, unknown }
	for _, cause := range []error{
		io.ErrUnexpectedEOF,
		context.DeadlineExceeded,
		ociregistry.ErrUnauthorized,
		ociregistry.ErrDenied,
		ociregistry.ErrTooManyRequests,
		ociregistry.ErrUnsupported,
		ociregistry.ErrBlobUnknown,
		ociregistry.NewHTTPError(nil, 404, nil, nil),
		ociregistry.NewError("odd", "UNKNOWN", nil),
		// One of two registries did not answer.
		errors.Join(unknown, io.ErrUnexpectedEOF),
		&ociregistry.OpError{Op: "ResolveTag", Err: fmt.Errorf("%w; %w", ociregistry.ErrNameUnknown, io.ErrUnexpectedEOF)},
	} {
		unclear := func() (ociregistry.Descriptor, error) { return ociregistry.Descriptor{}, cause }
		for _, test := range []struct {
			name          string
			manifest, tag func() (ociregistry.Descriptor, error)
		}{
			{"manifest", unclear, absent},
			{"tag", absent, unclear},
		} {
			r := ocifilter.Immutable(&ociregistry.Funcs{
				ResolveManifest_: func(context.Context, string, ociregistry.Digest) (ociregistry.Descriptor, error) {
					return test.manifest()
				},
				ResolveTag_: func(_ context.Context, _, tag string) (ociregistry.Descriptor, error) {
					if tag == "v3" {
						return test.tag()
					}
					return absent()
				},
				PushManifest_: func(context.Context, string, string, []byte, string, ...string) (ociregistry.Descriptor, error) {
					t.Errorf("pushed although it was unclear whether the %s exists: %v", test.name, cause)
					return ociregistry.Descriptor{}, nil
				},
			})
			qt.Check(t, qt.ErrorIs(push(t.Context(), r, "v1", "new", "v2", "v3"), cause))
			qt.Check(t, qt.ErrorIs(push(t.Context(), r, "v3", "new"), cause))
		}
	}
}

// Content does not exist if several registries agree on that. A tag whose digest the
// registry does not say exists, and is not moved.
func TestImmutable_KnowsWhatIsAbsent(t *testing.T) {
	t.Parallel()
	desc, err := ociregistry.Descriptor{}, errors.Join(ociregistry.ErrManifestUnknown, &ociregistry.OpError{Op: "ResolveTag", Err: ociregistry.ErrNameUnknown})
	pushed := 0
	r := ocifilter.Immutable(&ociregistry.Funcs{
		ResolveManifest_: func(context.Context, string, ociregistry.Digest) (ociregistry.Descriptor, error) {
			return ociregistry.Descriptor{}, ociregistry.ErrManifestUnknown
		},
		ResolveTag_: func(context.Context, string, string) (ociregistry.Descriptor, error) { return desc, err },
		PushManifest_: func(context.Context, string, string, []byte, string, ...string) (ociregistry.Descriptor, error) {
			pushed++
			return ociregistry.Descriptor{}, nil
		},
	})
	qt.Check(t, qt.IsNil(push(t.Context(), r, "v1", "new")))
	qt.Check(t, qt.Equals(pushed, 1))

	desc, err = ociregistry.Descriptor{MediaType: testType}, nil // the registry does not say the digest
	qt.Check(t, qt.ErrorIs(push(t.Context(), r, "v1", "new"), ociregistry.ErrDenied))
	qt.Check(t, qt.Equals(pushed, 1))
}

func TestImmutable_ChecksTheCallersConditionFirst(t *testing.T) {
	t.Parallel()
	const any = ociregistry.AnyManifest
	old, other := digest.FromString("old"), digest.FromString("other")
	type list = []ociregistry.Digest
	tests := []struct {
		name      string
		condition ociregistry.PushCondition
		ref       string
		contents  string
		tag       string // a further one
		want      error
	}{
		{"CreateNew", ociregistry.PushCondition{IfNoneMatch: list{any}}, "v2", "new", "", nil},
		{"CreateOld", ociregistry.PushCondition{IfNoneMatch: list{any}}, "v1", "old", "", ociregistry.ErrPreconditionFailed},
		{"CreateOtherThanOld", ociregistry.PushCondition{IfNoneMatch: list{any}}, "v1", "new", "", ociregistry.ErrPreconditionFailed},
		{"UpdateNone", ociregistry.PushCondition{IfMatch: list{any}}, "v2", "new", "", ociregistry.ErrPreconditionFailed},
		{"UpdateToSame", ociregistry.PushCondition{IfMatch: list{old}}, "v1", "old", "", nil},
		{"UpdateAnyToSame", ociregistry.PushCondition{IfMatch: list{any}}, "v1", "old", "", nil},
		{"UpdateOther", ociregistry.PushCondition{IfMatch: list{other}}, "v1", "old", "", ociregistry.ErrPreconditionFailed},
		{"UpdateToNew", ociregistry.PushCondition{IfMatch: list{old}}, "v1", "new", "", ociregistry.ErrDenied},
		{"NewDigest", ociregistry.PushCondition{IfNoneMatch: list{any}}, string(digest.FromString("new")), "new", "", nil},
		{"OldDigest", ociregistry.PushCondition{IfNoneMatch: list{any}}, string(old), "old", "", ociregistry.ErrPreconditionFailed},
		{"NoRef", ociregistry.PushCondition{IfNoneMatch: list{any}}, "", "old", "", ociregistry.ErrPreconditionFailed},
		// Without a ref it is about the manifest, whatever the tags are.
		{"NoRefNewTag", ociregistry.PushCondition{IfNoneMatch: list{any}}, "", "old", "v2", ociregistry.ErrPreconditionFailed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			backend := ocimem.New()
			qt.Assert(t, qt.IsNil(push(t.Context(), backend, "v1", "old")))
			ctx := ociregistry.WithPushCondition(t.Context(), test.condition)
			var tags []string
			if test.tag != "" {
				tags = append(tags, test.tag)
			}
			qt.Check(t, qt.ErrorIs(push(ctx, ocifilter.Immutable(backend), test.ref, test.contents, tags...), test.want))
			if test.want != nil {
				qt.Check(t, qt.DeepEquals(tagsOf(t, backend), map[string]ociregistry.Digest{"v1": old}))
			}
		})
	}
}
