package ocifilter_test

import (
	"context"
	"errors"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocifilter"
)

type access struct {
	Repository string
	Kind       ocifilter.AccessKind
}

// wantAccess returns the accesses that c needs in repo.
func wantAccess(c apiCall, repo string) []access {
	switch c.method {
	case "MountBlob":
		return []access{{"visible/source", ocifilter.AccessRead}, {repo, ocifilter.AccessWrite}}
	case "Repositories":
		return []access{{"*", ocifilter.AccessList}}
	}
	return []access{{repo, c.access}}
}

func TestAccessChecker_AsksBeforeEachCall(t *testing.T) {
	t.Parallel()
	for _, c := range apiCalls {
		t.Run(c.method, func(t *testing.T) {
			var asked []access
			called := 0
			r := ocifilter.AccessChecker(failing(func(method, _ string) {
				called++
				qt.Check(t, qt.Equals(method, c.method))
			}), func(repo string, kind ocifilter.AccessKind) error {
				qt.Check(t, qt.Equals(called, 0))
				asked = append(asked, access{repo, kind})
				return nil
			})
			qt.Check(t, qt.ErrorIs(c.do(t.Context(), r, "foo/bar"), errBackend))
			qt.Check(t, qt.DeepEquals(asked, wantAccess(c, "foo/bar")))
			qt.Check(t, qt.Equals(called, 1))
		})
	}
}

func TestAccessChecker_MakesNoCallThatIsRefused(t *testing.T) {
	t.Parallel()
	no := errors.New("no")
	for _, c := range apiCalls {
		for i, refused := range wantAccess(c, "foo/bar") {
			t.Run(c.method, func(t *testing.T) {
				asked := 0
				r := ocifilter.AccessChecker(unreachable(t), func(repo string, kind ocifilter.AccessKind) error {
					asked++
					if (access{repo, kind}) == refused {
						return no
					}
					return nil
				})
				err := c.do(t.Context(), r, "foo/bar")
				qt.Check(t, qt.ErrorIs(err, no))
				qt.Check(t, qt.Equals(asked, i+1))
				var op *ociregistry.OpError
				qt.Assert(t, qt.ErrorAs(err, &op))
				qt.Check(t, qt.Equals(op.Op, c.method))
				if c.method != "Repositories" {
					qt.Check(t, qt.Equals(op.Repository, refused.Repository))
				}
			})
		}
	}
}

// A check gets only names that can exist.
func TestAccessChecker_ChecksNamesFirst(t *testing.T) {
	t.Parallel()
	for _, c := range apiCalls {
		if c.method == "Repositories" {
			continue
		}
		t.Run(c.method, func(t *testing.T) {
			for _, name := range badNames {
				r := ocifilter.AccessChecker(unreachable(t), func(repo string, kind ocifilter.AccessKind) error {
					if repo != "visible/source" {
						t.Errorf("asked about %q", repo)
					}
					return nil
				})
				qt.Check(t, qt.ErrorIs(c.do(t.Context(), r, name), ociregistry.ErrNameInvalid), qt.Commentf("%.50q", name))
			}
		})
	}
	r := ocifilter.AccessChecker(unreachable(t), func(string, ocifilter.AccessKind) error { return nil })
	_, err := r.MountBlob(t.Context(), "../a", "foo", "bad digest")
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameInvalid))
}

func TestAccessChecker_ListsWhatMayBeRead(t *testing.T) {
	t.Parallel()
	var allowed map[string]bool
	var startedAfter []string
	r := ocifilter.AccessChecker(&ociregistry.Funcs{
		Repositories_: func(_ context.Context, startAfter string) seq[string] {
			startedAfter = append(startedAfter, startAfter)
			return ociregistry.SliceSeq([]string{"a", "b", "c", "d"})
		},
	}, func(repo string, kind ocifilter.AccessKind) error {
		if repo == "*" && kind == ocifilter.AccessList || kind == ocifilter.AccessRead && allowed[repo] {
			return nil
		}
		return ociregistry.ErrDenied
	})

	allowed = map[string]bool{"b": true, "d": true}
	repos := r.Repositories(t.Context(), "x")
	got, err := ociregistry.All(repos)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, []string{"b", "d"}))
	qt.Check(t, qt.DeepEquals(startedAfter, []string{"x"}))

	// Ranging again asks again.
	allowed = map[string]bool{"c": true}
	got, err = ociregistry.All(repos)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, []string{"c"}))
}

func TestAccessChecker_ListsLazily(t *testing.T) {
	t.Parallel()
	taken := 0
	r := ocifilter.AccessChecker(&ociregistry.Funcs{
		Repositories_: func(context.Context, string) seq[string] {
			return func(yield func(string, error) bool) {
				for _, name := range []string{"a", "b", "c", "d"} {
					taken++
					if !yield(name, nil) {
						return
					}
				}
			}
		},
	}, func(repo string, _ ocifilter.AccessKind) error {
		if repo == "a" {
			return ociregistry.ErrDenied
		}
		return nil
	})
	for name, err := range r.Repositories(t.Context(), "") {
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(name, "b"))
		break
	}
	qt.Check(t, qt.Equals(taken, 2))
}

func TestAccessChecker_PassesOnErrorsInLists(t *testing.T) {
	t.Parallel()
	r := ocifilter.AccessChecker(&ociregistry.Funcs{
		Repositories_: func(context.Context, string) seq[string] {
			return func(yield func(string, error) bool) {
				_ = yield("a", nil) && yield("", errBackend)
			}
		},
	}, func(string, ocifilter.AccessKind) error { return nil })
	got, err := ociregistry.All(r.Repositories(t.Context(), ""))
	qt.Check(t, qt.Equals(err, errBackend))
	qt.Check(t, qt.DeepEquals(got, []string{"a"}))
}

// A repository for which check returns ErrNameUnknown has no referrers, like one that
// does not exist. Other errors are returned.
func TestAccessChecker_UnknownRepositoryHasNoReferrers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ err, want error }{
		{ociregistry.ErrNameUnknown, nil},
		{ociregistry.ErrDenied, ociregistry.ErrDenied},
	} {
		r := ocifilter.AccessChecker(unreachable(t), func(string, ocifilter.AccessKind) error { return test.err })
		got, err := ociregistry.All(r.Referrers(t.Context(), "foo", someDigest, ""))
		qt.Check(t, qt.ErrorIs(err, test.want))
		qt.Check(t, qt.HasLen(got, 0))
	}
}

func TestAccessChecker_DoesNotMountFromAnyRepository(t *testing.T) {
	t.Parallel()
	r := ocifilter.AccessChecker(unreachable(t), func(string, ocifilter.AccessKind) error { return nil })
	_, err := r.MountBlob(t.Context(), "", "foo", someDigest)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrUnsupported))

	// A caller who may not write does not learn that.
	r = ocifilter.AccessChecker(unreachable(t), func(repo string, kind ocifilter.AccessKind) error {
		qt.Check(t, qt.Equals(access{repo, kind}, access{"foo", ocifilter.AccessWrite}))
		return ociregistry.ErrDenied
	})
	_, err = r.MountBlob(t.Context(), "", "foo", someDigest)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied))
}
