package ociunify_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocifilter"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

func mustRoute(t testing.TB, list ...ociunify.Route) ociregistry.Interface {
	r, err := ociunify.Routes(list)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRoutes_KeepTheContract has routes for some of the repositories that the suite uses.
func TestRoutes_KeepTheContract(t *testing.T) {
	ocitest.Run(t, func(t testing.TB) ociregistry.Interface {
		return mustRoute(t,
			ociunify.Route{Registry: newDirectory(t)},
			ociunify.Route{Prefix: "foo", Registry: newDirectory(t)},
			ociunify.Route{Prefix: "foo/bar", Registry: ocifilter.Under(newDirectory(t), "foo")},
		)
	}, &ocitest.Options{Absent: ocitest.MountFromAny})
}

func pushTo(t *testing.T, r ociregistry.Interface, repo string, seed uint64) ociregistry.Descriptor {
	b := ocitest.NewBlob(seed, 100)
	_, err := r.PushBlob(t.Context(), repo, b.Descriptor, b.NewReader())
	qt.Assert(t, qt.IsNil(err))
	return b.Descriptor
}

func names(t *testing.T, r ociregistry.Interface, startAfter string) string {
	got, err := ociregistry.All(r.Repositories(t.Context(), startAfter))
	qt.Assert(t, qt.IsNil(err))
	return strings.Join(got, " ")
}

func TestRoutes_LongestPrefixWins(t *testing.T) {
	t.Parallel()
	all, team, app := ocimem.New(), ocimem.New(), ocimem.New()
	r := mustRoute(t, ociunify.Route{Prefix: "team", Registry: team}, ociunify.Route{Prefix: "", Registry: all}, ociunify.Route{Prefix: "team/app", Registry: ocifilter.Under(app, "team")})
	for i, repo := range []string{"team", "team/app", "team/app/x", "team/apps", "team/b", "team-a", "team.a", "teams", "a", "z"} {
		pushTo(t, r, repo, uint64(i))
	}
	qt.Check(t, qt.Equals(names(t, all, ""), "a team-a team.a teams z"))
	qt.Check(t, qt.Equals(names(t, team, ""), "team team/apps team/b"))
	qt.Check(t, qt.Equals(names(t, app, ""), "app app/x"))

	// What is there already, and where another route leads, is hidden.
	pushTo(t, all, "team/hidden", 100)
	pushTo(t, team, "elsewhere", 100)
	pushTo(t, team, "team/app/hidden", 100)
	pushTo(t, app, "elsewhere", 100)
	want := strings.Fields("a team team-a team.a team/app team/app/x team/apps team/b teams z")
	for i, after := range append([]string{""}, want...) {
		qt.Check(t, qt.Equals(names(t, r, after), strings.Join(want[i:], " ")), qt.Commentf("after %q", after))
	}
	qt.Check(t, qt.Equals(names(t, r, "team/"), strings.Join(want[4:], " ")))
	_, err := ociregistry.All(r.Tags(t.Context(), "team/hidden", ""))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
}

func TestRouteOf_IsThatWithTheLongestPrefix(t *testing.T) {
	t.Parallel()
	list := []ociunify.Route{{Prefix: "team"}, {Prefix: "team/app"}, {Prefix: "b"}}
	for repo, want := range map[string]int{
		"team": 0, "team/x": 0, "team/apps": 0, "team/app": 1, "team/app/x": 1, "b/team/app": 2, "teams": -1, "a": -1, "": -1,
	} {
		qt.Check(t, qt.Equals(ociunify.RouteOf(list, repo), want), qt.Commentf("%s", repo))
	}
	qt.Check(t, qt.Equals(ociunify.RouteOf(append(list, ociunify.Route{}), "a"), 3))
}

func TestRoutes_MountCopiesBetweenRegistries(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b := ocimem.New(), ocimem.New()
	r := mustRoute(t, ociunify.Route{Prefix: "a", Registry: a}, ociunify.Route{Prefix: "b", Registry: b})
	desc := pushTo(t, r, "a/x", 1)
	got, err := r.MountBlob(ctx, "a/x", "b/y", desc.Digest)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got.Size, desc.Size))
	rd, err := b.GetBlob(ctx, "b/y", desc.Digest)
	qt.Assert(t, qt.IsNil(err))
	n, err := io.Copy(io.Discard, rd)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(n, desc.Size))
	qt.Check(t, qt.IsNil(rd.Close()))
	for _, test := range []struct {
		from, to string
		want     error
	}{
		{"a/x", "a/z", nil},
		{"", "a/w", ociregistry.ErrUnsupported},
		{"a/absent", "b/z", ociregistry.ErrBlobUnknown},
		{"c/x", "b/z", ociregistry.ErrNameUnknown},
		{"a/x", "c/z", ociregistry.ErrNameUnknown},
		{"A", "b/z", ociregistry.ErrNameInvalid},
		{"a/x", "B", ociregistry.ErrNameInvalid},
	} {
		_, err := r.MountBlob(ctx, test.from, test.to, desc.Digest)
		if test.want == nil {
			qt.Check(t, qt.IsNil(err))
		} else {
			qt.Check(t, qt.IsTrue(errors.Is(err, test.want) || errors.Is(err, ociregistry.ErrNameUnknown)), qt.Commentf("%s to %s: %v", test.from, test.to, err))
		}
	}
}

func TestRoutes_SessionsGoOnWhereTheyBegan(t *testing.T) {
	t.Parallel()
	a := ocimem.New()
	r := mustRoute(t, ociunify.Route{Prefix: "", Registry: ocimem.New()}, ociunify.Route{Prefix: "a", Registry: a})
	w, err := r.PushBlobChunked(t.Context(), "a/x", 0)
	qt.Assert(t, qt.IsNil(err))
	_, err = w.Write([]byte("first"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(w.Close()))
	again, err := a.PushBlobChunkedResume(t.Context(), "a/x", w.ID(), 5, 0)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(again.Size(), 5))
	qt.Check(t, qt.IsNil(again.Close()))
	again, err = r.PushBlobChunkedResume(t.Context(), "a/x", w.ID(), 5, 0)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(again.Cancel()))
}

func TestRoutes_ListsOfOtherRegistries(t *testing.T) {
	t.Parallel()
	list := func(err error) ociregistry.Interface {
		return &ociregistry.Funcs{Repositories_: func(context.Context, string) iter.Seq2[string, error] {
			return ociregistry.ErrorSeq[string](err)
		}}
	}
	a := ocimem.New()
	pushTo(t, a, "a/x", 1)
	r := mustRoute(t, ociunify.Route{Prefix: "a", Registry: a}, ociunify.Route{Prefix: "b", Registry: list(ociregistry.ErrUnsupported)})
	qt.Check(t, qt.Equals(names(t, r, ""), "a/x"))
	failure := errors.New("failure")
	r = mustRoute(t, ociunify.Route{Prefix: "a", Registry: a}, ociunify.Route{Prefix: "b", Registry: list(failure)})
	_, err := ociregistry.All(r.Repositories(t.Context(), ""))
	qt.Check(t, qt.ErrorIs(err, failure))
}

func TestRoutes_RefusesPrefixesThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, list := range [][]ociunify.Route{
		{{Prefix: "a/"}}, {{Prefix: "/a"}}, {{Prefix: "A"}}, {{Prefix: "a"}, {Prefix: "a"}}, {{}, {}},
	} {
		_, err := ociunify.Routes(list)
		qt.Check(t, qt.IsNotNil(err))
	}
	r := mustRoute(t)
	qt.Check(t, qt.Equals(names(t, r, ""), ""))
	_, err := r.GetTag(t.Context(), "a", "latest")
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
	_, err = r.GetTag(t.Context(), "A", "latest")
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameInvalid))
}

func ExampleRoutes() {
	fast, archive := ocimem.New(), ocimem.New()
	// Repositories below archive are in a registry of their own, without that in their names.
	r, err := ociunify.Routes([]ociunify.Route{
		{Registry: fast},
		{Prefix: "archive", Registry: ocifilter.Under(archive, "archive")},
	})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	image := ocitest.NewImage(ocitest.Spec{})
	image.Push(ctx, r, "app", "v2")
	image.Push(ctx, r, "archive/app", "v1")
	for name, err := range r.Repositories(ctx, "") {
		if err != nil {
			panic(err)
		}
		fmt.Println(name)
	}
	// Output:
	// app
	// archive/app
}
