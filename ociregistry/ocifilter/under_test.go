package ocifilter_test

import (
	"context"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
	"github.com/seed-40b21970/oci/ociregistry/ocifilter"
)

func TestUnder_TakesThePrefixFromNames(t *testing.T) {
	t.Parallel()
	for _, c := range apiCalls {
		if c.method == "Repositories" || c.method == "MountBlob" { // it mounts from elsewhere
			continue
		}
		var got []string
		r := ocifilter.Under(failing(func(method, repo string) { got = append(got, method, repo) }), "pre/fix")
		err := c.do(t.Context(), r, "pre/fix/foo/bar")
		qt.Check(t, qt.DeepEquals(got, []string{c.method, "foo/bar"}))
		qt.Check(t, qt.ErrorIs(err, errBackend))
		qt.Check(t, qt.Equals(err.Error(), c.method+" pre/fix/foo/bar: from the backend"))
	}
}

func TestUnder_HasNothingElse(t *testing.T) {
	t.Parallel()
	r := ocifilter.Under(unreachable(t), "pre/fix")
	for _, c := range apiCalls {
		if c.method == "Repositories" {
			continue
		}
		for _, name := range badNames {
			qt.Check(t, qt.ErrorIs(c.do(t.Context(), r, name), ociregistry.ErrNameInvalid), qt.Commentf("%s %.50q", c.method, name))
		}
		for _, name := range []string{"pre", "pre/fix", "pre/fix-a", "pre/fi/x", "foo"} {
			qt.Check(t, qt.ErrorIs(c.do(t.Context(), r, name), ociregistry.ErrNameUnknown), qt.Commentf("%s %q", c.method, name))
		}
	}
	for _, prefix := range badNames {
		if prefix == "" {
			continue
		}
		r := ocifilter.Under(unreachable(t), prefix)
		for _, c := range apiCalls {
			qt.Check(t, qt.ErrorIs(c.do(t.Context(), r, prefix+"/foo"), ociregistry.ErrNameInvalid), qt.Commentf("%s below %.50q", c.method, prefix))
		}
	}
}

func TestUnder_MountsFromAny(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	r := ocifilter.Under(backend, "pre")
	pushBlob(t, backend, "foo", "hello")
	digest := pushBlob(t, r, "pre/bar", "world")
	got, err := r.MountBlob(t.Context(), "", "pre/foo", digest)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got.Digest, digest))
	_, err = r.MountBlob(t.Context(), "elsewhere", "pre/baz", digest)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
}

func TestUnder_ListsAllNames(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	long := strings.Repeat("z", 255-len("m/")+1)
	for _, repo := range []string{"a", "a/b", "b", long} {
		pushBlob(t, backend, repo, "hello")
	}
	r := ocifilter.Under(backend, "m")
	for _, test := range []struct{ startAfter, want string }{
		{"", "m/a m/a/b m/b"},
		{"a", "m/a m/a/b m/b"},
		{"m", "m/a m/a/b m/b"},
		{"m-", "m/a m/a/b m/b"},
		{"m/", "m/a m/a/b m/b"},
		{"m/a", "m/a/b m/b"},
		{"m/a0", "m/b"},
		{"m/b", ""},
		{"m0", ""},
		{"n", ""},
	} {
		got, err := ociregistry.All(r.Repositories(t.Context(), test.startAfter))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(strings.Join(got, " "), test.want), qt.Commentf("after %q", test.startAfter))
	}
	qt.Check(t, qt.Equals[ociregistry.Interface](ocifilter.Under(backend, ""), backend))
}

func TestUnder_TakesThePrefixFromScopes(t *testing.T) {
	t.Parallel()
	var got ociauth.Scope
	r := ocifilter.Under(&ociregistry.Funcs{NewError: func(ctx context.Context, _, _ string) error {
		got = ociauth.ScopeFromContext(ctx)
		return errBackend
	}}, "pre")
	scope := ociauth.ParseScope("repository:pre/foo:pull repository:other:push registry:catalog:*")
	r.GetTag(ociauth.ContextWithScope(t.Context(), scope), "pre/foo", "latest")
	qt.Check(t, qt.Equals(got.Canonical().String(), "registry:catalog:* repository:foo:pull"))
}
