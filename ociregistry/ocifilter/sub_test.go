package ocifilter_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
	"github.com/seed-40b21970/oci/ociregistry/ocifilter"
)

func TestSub_PutsThePrefixBeforeNames(t *testing.T) {
	t.Parallel()
	for _, c := range apiCalls {
		if c.method == "Repositories" {
			continue
		}
		t.Run(c.method, func(t *testing.T) {
			var got []string
			r := ocifilter.Sub(failing(func(method, repo string) { got = append(got, method, repo) }), "pre/fix")
			err := c.do(t.Context(), r, "foo/bar")
			qt.Check(t, qt.DeepEquals(got, []string{c.method, "pre/fix/foo/bar"}))

			// The error is about the repository that the caller named.
			qt.Check(t, qt.ErrorIs(err, errBackend))
			qt.Check(t, qt.Equals(err.Error(), c.method+" foo/bar: from the backend"))
		})
	}
}

func TestSub_MountsBelowThePrefix(t *testing.T) {
	t.Parallel()
	r := ocifilter.Sub(&ociregistry.Funcs{
		MountBlob_: func(_ context.Context, from, to string, _ ociregistry.Digest) (ociregistry.Descriptor, error) {
			return ociregistry.Descriptor{}, fmt.Errorf("from %s to %s", from, to)
		},
	}, "pre/fix")
	_, err := r.MountBlob(t.Context(), "foo", "bar/baz", someDigest)
	qt.Check(t, qt.ErrorMatches(err, "from pre/fix/foo to pre/fix/bar/baz"))
}

// Scopes in a context have the names of the view, in every method, and through a view
// of a view too.
func TestSub_PutsThePrefixBeforeScopes(t *testing.T) {
	t.Parallel()
	tests := []struct{ scope, want string }{
		{"", ""},
		{"repository:foo:pull", "repository:pre/fix/foo:pull"},
		{"repository:foo/bar:pull,push repository:x:pull", "repository:pre/fix/foo/bar:pull,push repository:pre/fix/x:pull"},
		{"*", "*"},
		{"registry:catalog:* repository:foo:pull repository some:other:thing", "registry:catalog:* repository repository:pre/fix/foo:pull some:other:thing"},
	}
	for _, c := range apiCalls {
		for _, test := range tests {
			var got ociauth.Scope
			backend := &ociregistry.Funcs{NewError: func(ctx context.Context, _, _ string) error {
				got = ociauth.ScopeFromContext(ctx)
				return errBackend
			}}
			scope := ociauth.ParseScope(test.scope)
			if test.scope == "*" {
				scope = ociauth.UnlimitedScope()
			}
			ctx := ociauth.ContextWithScope(t.Context(), scope)
			c.do(ctx, ocifilter.Sub(backend, "pre/fix"), "foo/bar")
			qt.Check(t, qt.Equals(got.Canonical().String(), test.want), qt.Commentf(c.method))
			c.do(ctx, ocifilter.Sub(ocifilter.Sub(backend, "pre"), "fix"), "foo/bar")
			qt.Check(t, qt.Equals(got.Canonical().String(), test.want), qt.Commentf(c.method))
		}
	}
}

// Sub never escapes its prefix.
func TestSub_RefusesBadNames(t *testing.T) {
	t.Parallel()
	r := ocifilter.Sub(unreachable(t), "pre/fix")
	for _, c := range apiCalls {
		if c.method == "Repositories" {
			continue
		}
		for _, name := range badNames {
			qt.Check(t, qt.ErrorIs(c.do(t.Context(), r, name), ociregistry.ErrNameInvalid), qt.Commentf("%s %.50q", c.method, name))
		}
		// Too long only with the prefix.
		long := strings.Repeat("a", 255-len("pre/fix/")+1)
		qt.Check(t, qt.ErrorIs(c.do(t.Context(), r, long), ociregistry.ErrNameInvalid), qt.Commentf(c.method))
	}
	for _, name := range badNames {
		if name == "" {
			continue // stands for any repository
		}
		_, err := r.MountBlob(t.Context(), name, "foo", someDigest)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameInvalid), qt.Commentf("%.50q", name))
	}
}

// Errors do not repeat names of any length.
func TestViews_ErrorsAreBounded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	long := strings.Repeat("é", 10_000)
	for _, r := range []ociregistry.Interface{
		ocifilter.Sub(ocimem.New(), "a"),
		ocifilter.Select(ocimem.New(), visible),
		ocifilter.Immutable(ocimem.New()),
	} {
		var errs []error
		for _, c := range apiCalls {
			errs = append(errs, c.do(ctx, r, long))
		}
		_, err := r.GetBlob(ctx, "foo", ociregistry.Digest(long))
		errs = append(errs, err)
		_, err = r.GetTag(ctx, "foo", long)
		errs = append(errs, err, push(ctx, r, "v1", "new", long))
		for _, err := range errs {
			if err != nil {
				qt.Check(t, qt.IsTrue(len(err.Error()) < 2000), qt.Commentf("%.100s", err))
			}
		}
	}
}

func TestSub_TakesTheLongestName(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	r := ocifilter.Sub(backend, "pre/fix")
	name := strings.Repeat("a", 255-len("pre/fix/"))
	pushBlob(t, r, name, "hello")
	got, err := ociregistry.All(backend.Repositories(t.Context(), ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, []string{"pre/fix/" + name}))
}

func TestSub_OfABadPrefixHasNothing(t *testing.T) {
	t.Parallel()
	for _, prefix := range badNames {
		if prefix == "" {
			continue
		}
		r := ocifilter.Sub(unreachable(t), prefix)
		for _, c := range apiCalls {
			qt.Check(t, qt.ErrorIs(c.do(t.Context(), r, "foo"), ociregistry.ErrNameInvalid), qt.Commentf("%s below %.50q", c.method, prefix))
		}
	}
}

func TestSub_OfNoPrefixIsAll(t *testing.T) {
	t.Parallel()
	r := ocimem.New()
	qt.Check(t, qt.Equals[ociregistry.Interface](ocifilter.Sub(r, ""), r))
}

func TestSub_ListsRepositoriesBelowThePrefix(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	// In byte order: '-' and '.' are before '/', digits and letters after it.
	for _, repo := range []string{
		"a", "a-b", "a-b/c", "a.b", "a/b", "a/b-c", "a/b.c", "a/b/c", "a/b0", "a/d", "a/d/a", "a0", "aa/b", "b/a/b", "x/a",
	} {
		pushBlob(t, backend, repo, "hello")
	}
	tests := []struct {
		prefix string
		want   []string
	}{
		{"a", []string{"b", "b-c", "b.c", "b/c", "b0", "d", "d/a"}},
		{"a/b", []string{"c"}},
		{"a/d", []string{"a"}},
		{"a/d/a", nil},
		{"a-b", []string{"c"}},
		{"b", []string{"a/b"}},
		{"aa", []string{"b"}},
		{"c", nil},
		{"zzz", nil},
	}
	for _, test := range tests {
		t.Run(test.prefix, func(t *testing.T) {
			ctx := t.Context()
			r := ocifilter.Sub(backend, test.prefix)
			got, err := ociregistry.All(r.Repositories(ctx, ""))
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(got, test.want))

			// Pages of one, each after the last of the one before.
			var paged []string
			for last, more := "", true; more; {
				more = false
				for name, err := range r.Repositories(ctx, last) {
					qt.Assert(t, qt.IsNil(err))
					paged = append(paged, name)
					last, more = name, true
					break
				}
			}
			qt.Check(t, qt.DeepEquals(paged, test.want))
		})
	}
}

// The name that a list starts after need not exist, and cannot lead outside.
func TestSub_ListStartsAfterAnyName(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	for _, repo := range []string{"a", "a/b", "a/b/c", "a/d", "b", "c"} {
		pushBlob(t, backend, repo, "hello")
	}
	r := ocifilter.Sub(backend, "a")
	for _, test := range []struct {
		startAfter string
		want       []string
	}{
		{"a", []string{"b", "b/c", "d"}},
		{"b", []string{"b/c", "d"}},
		{"b-", []string{"b/c", "d"}},
		{"b0", []string{"d"}},
		{"d", nil},
		{"\x00", []string{"b", "b/c", "d"}},
		{"\xff", nil},
		{"../a", []string{"b", "b/c", "d"}},
		{"/", []string{"b", "b/c", "d"}},
	} {
		got, err := ociregistry.All(r.Repositories(t.Context(), test.startAfter))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(got, test.want), qt.Commentf("after %q", test.startAfter))
	}
}

// A list costs as much as the view has repositories, not the registry.
func TestSub_ListReadsOnlyTheView(t *testing.T) {
	t.Parallel()
	taken := 0
	r := ocifilter.Sub(&ociregistry.Funcs{
		Repositories_: func(_ context.Context, startAfter string) seq[string] {
			qt.Check(t, qt.Equals(startAfter, "m/5"))
			return func(yield func(string, error) bool) {
				for _, name := range []string{"m/6", "m/7", "m0", "n", "o"} {
					taken++
					if !yield(name, nil) {
						return
					}
				}
			}
		},
	}, "m")
	repos := r.Repositories(t.Context(), "5")
	got, err := ociregistry.All(repos)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, []string{"6", "7"}))
	qt.Check(t, qt.Equals(taken, 3))

	taken = 0
	for range repos {
		break
	}
	qt.Check(t, qt.Equals(taken, 1))
}

func TestSub_DoesNotMountFromAnyRepository(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	ctx := t.Context()
	outside := pushBlob(t, backend, "other", "secret")
	inside := pushBlob(t, backend, "a/b", "public")
	r := ocifilter.Sub(backend, "a")
	for _, d := range []ociregistry.Digest{outside, inside} {
		_, err := r.MountBlob(ctx, "", "c", d)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrUnsupported))
		_, err = backend.ResolveBlob(ctx, "a/c", d)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
	}
	_, err := r.MountBlob(ctx, "", "c", "bad")
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
	_, err = r.MountBlob(ctx, "b", "c", inside)
	qt.Check(t, qt.IsNil(err))
	_, err = r.MountBlob(ctx, "other", "c", outside)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
}

func TestSub_OfASub(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	pushManifest(t, ocifilter.Sub(ocifilter.Sub(backend, "a/b"), "c"), "d", "hello", "latest")
	_, err := backend.ResolveTag(t.Context(), "a/b/c/d", "latest")
	qt.Check(t, qt.IsNil(err))
	_, err = ocifilter.Sub(ocifilter.Sub(backend, "a/b"), "c").ResolveTag(t.Context(), "e", "latest")
	qt.Check(t, qt.ErrorMatches(err, "ResolveTag e:latest: .*"))
}

// Errors with more than the view knows stay unchanged.
func TestSub_ErrorsNameRepositoriesAsTheViewDoes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		err  error
		want string
	}{
		{&ociregistry.OpError{Op: "X", Repository: "a/b", Ref: "t", Err: errBackend}, "X b:t: from the backend"},
		{&ociregistry.OpError{Op: "X", Err: errBackend}, "X: from the backend"},
		{&ociregistry.OpError{Op: "X", Repository: "other/b", Err: errBackend}, "X other/b: from the backend"},
		{&ociregistry.OpError{Op: "X", Registry: "example.com", Repository: "a/b", Err: errBackend}, "X example.com/a/b: from the backend"},
		{fmt.Errorf("a/b: %w", errBackend), "a/b: from the backend"},
	}
	for _, test := range tests {
		before := test.err.Error()
		r := ocifilter.Sub(&ociregistry.Funcs{
			NewError: func(context.Context, string, string) error { return test.err },
		}, "a")
		for _, c := range apiCalls {
			err := c.do(t.Context(), r, "b")
			qt.Check(t, qt.Equals(err.Error(), test.want), qt.Commentf(c.method))
			qt.Check(t, qt.ErrorIs(err, errBackend))
		}
		qt.Check(t, qt.Equals(test.err.Error(), before), qt.Commentf("the registry's error was changed"))
	}
}
