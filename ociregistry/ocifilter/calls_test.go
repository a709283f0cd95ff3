package ocifilter_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocifilter"
)

// apiCall is a call of one method with valid arguments.
type apiCall struct {
	method string
	access ocifilter.AccessKind // what the method needs
	do     func(ctx context.Context, r ociregistry.Interface, repo string) error
}

const someDigest = ociregistry.Digest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

// apiCalls has every method of [ociregistry.Interface].
var apiCalls = []apiCall{
	{"GetBlob", ocifilter.AccessRead, func(ctx context.Context, r ociregistry.Interface, repo string) error {
		_, err := r.GetBlob(ctx, repo, someDigest)
		return err
	}},
	{"GetBlobRange", ocifilter.AccessRead, func(ctx context.Context, r ociregistry.Interface, repo string) error {
		_, err := r.GetBlobRange(ctx, repo, someDigest, 1, 2)
		return err
	}},
	{"GetManifest", ocifilter.AccessRead, func(ctx context.Context, r ociregistry.Interface, repo string) error {
		_, err := r.GetManifest(ctx, repo, someDigest)
		return err
	}},
	{"GetTag", ocifilter.AccessRead, func(ctx context.Context, r ociregistry.Interface, repo string) error {
		_, err := r.GetTag(ctx, repo, "latest")
		return err
	}},
	{"ResolveBlob", ocifilter.AccessRead, func(ctx context.Context, r ociregistry.Interface, repo string) error {
		_, err := r.ResolveBlob(ctx, repo, someDigest)
		return err
	}},
	{"ResolveManifest", ocifilter.AccessRead, func(ctx context.Context, r ociregistry.Interface, repo string) error {
		_, err := r.ResolveManifest(ctx, repo, someDigest)
		return err
	}},
	{"ResolveTag", ocifilter.AccessRead, func(ctx context.Context, r ociregistry.Interface, repo string) error {
		_, err := r.ResolveTag(ctx, repo, "latest")
		return err
	}},
	{"PushBlob", ocifilter.AccessWrite, func(ctx context.Context, r ociregistry.Interface, repo string) error {
		_, err := r.PushBlob(ctx, repo, ociregistry.Descriptor{Digest: someDigest}, strings.NewReader(""))
		return err
	}},
	{"PushBlobChunked", ocifilter.AccessWrite, func(ctx context.Context, r ociregistry.Interface, repo string) error {
		_, err := r.PushBlobChunked(ctx, repo, 0)
		return err
	}},
	{"PushBlobChunkedResume", ocifilter.AccessWrite, func(ctx context.Context, r ociregistry.Interface, repo string) error {
		_, err := r.PushBlobChunkedResume(ctx, repo, "some-id", 0, 0)
		return err
	}},
	{"MountBlob", ocifilter.AccessWrite, func(ctx context.Context, r ociregistry.Interface, repo string) error {
		_, err := r.MountBlob(ctx, "visible/source", repo, someDigest)
		return err
	}},
	{"PushManifest", ocifilter.AccessWrite, func(ctx context.Context, r ociregistry.Interface, repo string) error {
		_, err := r.PushManifest(ctx, repo, "latest", []byte("{}"), "application/x-test", "also")
		return err
	}},
	{"DeleteBlob", ocifilter.AccessDelete, func(ctx context.Context, r ociregistry.Interface, repo string) error {
		return r.DeleteBlob(ctx, repo, someDigest)
	}},
	{"DeleteManifest", ocifilter.AccessDelete, func(ctx context.Context, r ociregistry.Interface, repo string) error {
		return r.DeleteManifest(ctx, repo, someDigest)
	}},
	{"DeleteTag", ocifilter.AccessDelete, func(ctx context.Context, r ociregistry.Interface, repo string) error {
		return r.DeleteTag(ctx, repo, "latest")
	}},
	{"Repositories", ocifilter.AccessList, func(ctx context.Context, r ociregistry.Interface, _ string) error {
		_, err := ociregistry.All(r.Repositories(ctx, ""))
		return err
	}},
	{"Tags", ocifilter.AccessList, func(ctx context.Context, r ociregistry.Interface, repo string) error {
		_, err := ociregistry.All(r.Tags(ctx, repo, ""))
		return err
	}},
	{"Referrers", ocifilter.AccessList, func(ctx context.Context, r ociregistry.Interface, repo string) error {
		_, err := ociregistry.All(r.Referrers(ctx, repo, someDigest, ""))
		return err
	}},
}

func TestCalls_CoverTheInterface(t *testing.T) {
	t.Parallel()
	typ := reflect.TypeFor[ociregistry.Interface]()
	want := 0
	for i := range typ.NumMethod() {
		if typ.Method(i).IsExported() {
			want++
		}
	}
	qt.Check(t, qt.HasLen(apiCalls, want))
}

var errBackend = errors.New("from the backend")

// failing returns a registry whose every method fails with errBackend, and says
// with which repository it was called.
func failing(called func(method, repo string)) ociregistry.Interface {
	return &ociregistry.Funcs{
		NewError: func(_ context.Context, method, repo string) error {
			called(method, repo)
			return &ociregistry.OpError{Op: method, Repository: repo, Err: errBackend}
		},
	}
}

// unreachable returns a registry that must not be called.
func unreachable(t *testing.T) ociregistry.Interface {
	return failing(func(method, repo string) { t.Errorf("%s was called for repository %q", method, repo) })
}

// badNames are not repository names. Some would be if joined to another name by a
// slash, or cleaned as a path.
var badNames = []string{
	"", "/", ".", "..", "/a", "a/", "//", "a//b", "../a", "a/../b", "a/..", "./a", "a/.", "..%2fa", "a\\b",
	"A", "a b", "a\x00", "a\n", "-a", "a-", "a:b", "a@b", "*", "é", strings.Repeat("a", 256), strings.Repeat("../", 5000),
}

// pushManifest pushes a manifest of a type that registries do not parse.
func pushManifest(t *testing.T, r ociregistry.Interface, repo, contents string, tags ...string) ociregistry.Digest {
	t.Helper()
	desc, err := r.PushManifest(t.Context(), repo, "", []byte(contents), "application/x-test", tags...)
	qt.Assert(t, qt.IsNil(err))
	return desc.Digest
}

func pushBlob(t *testing.T, r ociregistry.Interface, repo, contents string) ociregistry.Digest {
	t.Helper()
	desc := ociregistry.Descriptor{Digest: digest.FromString(contents), Size: int64(len(contents))}
	_, err := r.PushBlob(t.Context(), repo, desc, strings.NewReader(contents))
	qt.Assert(t, qt.IsNil(err))
	return desc.Digest
}
