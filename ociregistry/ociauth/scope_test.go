package ociauth_test

import (
	"slices"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

func TestParseScope(t *testing.T) {
	t.Parallel()
	rs := func(resourceType, resource, action string) ociauth.ResourceScope {
		return ociauth.ResourceScope{ResourceType: resourceType, Resource: resource, Action: action}
	}
	tests := []struct {
		s         string
		want      []ociauth.ResourceScope
		canonical string
	}{
		{"", nil, ""},
		{" ", nil, ""},
		{"repository:foo:pull", []ociauth.ResourceScope{rs("repository", "foo", "pull")}, "repository:foo:pull"},
		{"repository:foo:push,pull", []ociauth.ResourceScope{rs("repository", "foo", "pull"), rs("repository", "foo", "push")}, "repository:foo:pull,push"},
		{"repository:foo:push repository:foo:pull,push", []ociauth.ResourceScope{rs("repository", "foo", "pull"), rs("repository", "foo", "push")}, "repository:foo:pull,push"},
		{"repository:foo:pull  registry:catalog:*\n repository:a:pull", []ociauth.ResourceScope{ociauth.CatalogScope, rs("repository", "a", "pull"), rs("repository", "foo", "pull")},
			"registry:catalog:* repository:a:pull repository:foo:pull"},
		{"repository:localhost:5000/foo:pull", []ociauth.ResourceScope{rs("repository", "localhost:5000/foo", "pull")}, "repository:localhost:5000/foo:pull"},
		{"repository(plugin):foo:pull", []ociauth.ResourceScope{rs("repository(plugin)", "foo", "pull")}, "repository(plugin):foo:pull"},
		{"repository:foo:", []ociauth.ResourceScope{rs("repository", "foo", "")}, "repository:foo:"},
		{"aws a:b", []ociauth.ResourceScope{rs("a:b", "", ""), rs("aws", "", "")}, "a:b aws"},
		{"a a::pull a::push", []ociauth.ResourceScope{rs("a", "", ""), rs("a", "", "pull"), rs("a", "", "push")}, "a a::pull,push"},
	}
	for _, test := range tests {
		s := ociauth.ParseScope(test.s)
		comment := qt.Commentf("%q", test.s)
		qt.Check(t, qt.DeepEquals(slices.Collect(s.Iter()), test.want), comment)
		qt.Check(t, qt.Equals(s.Len(), len(test.want)), comment)
		qt.Check(t, qt.Equals(s.IsEmpty(), len(test.want) == 0), comment)
		qt.Check(t, qt.Equals(s.String(), test.s), comment)
		qt.Check(t, qt.Equals(s.Canonical().String(), test.canonical), comment)
		qt.Check(t, qt.Equals(ociauth.NewScope(test.want...).String(), test.canonical), comment)
		qt.Check(t, qt.IsTrue(s.Equal(ociauth.ParseScope(test.canonical))), comment)
	}
}

func TestScopesAreSets(t *testing.T) {
	t.Parallel()
	pull := ociauth.ParseScope("repository:foo:pull")
	both := ociauth.ParseScope("repository:foo:push,pull")
	bar := ociauth.ParseScope("repository:bar:pull")
	none, all := ociauth.Scope{}, ociauth.UnlimitedScope()
	contains := []struct {
		s, s1 ociauth.Scope
		want  bool
	}{
		{none, none, true}, {pull, none, true}, {none, pull, false},
		{both, pull, true}, {pull, both, false}, {pull, bar, false}, {pull, pull, true},
		{all, none, true}, {all, both, true}, {all, all, true}, {both, all, false}, {none, all, false},
	}
	for _, test := range contains {
		comment := qt.Commentf("%v, %v", test.s, test.s1)
		qt.Check(t, qt.Equals(test.s.Contains(test.s1), test.want), comment)
		qt.Check(t, qt.Equals(test.s.Equal(test.s1), test.want && test.s1.Contains(test.s)), comment)
		union := test.s.Union(test.s1)
		qt.Check(t, qt.IsTrue(union.Contains(test.s) && union.Contains(test.s1)), comment)
		qt.Check(t, qt.IsTrue(union.Equal(test.s1.Union(test.s))), comment)
		if test.want {
			qt.Check(t, qt.Equals(union.String(), test.s.String()), comment)
		}
	}
	qt.Check(t, qt.Equals(pull.Union(bar).String(), "repository:bar:pull repository:foo:pull"))
	qt.Check(t, qt.Equals(all.String(), "*"))
	qt.Check(t, qt.Equals(all.Len(), -1))
	qt.Check(t, qt.IsTrue(all.IsUnlimited() && !all.IsEmpty() && !both.IsUnlimited()))
	qt.Check(t, qt.HasLen(slices.Collect(all.Iter()), 0))
	push := ociauth.ResourceScope{ResourceType: "repository", Resource: "foo", Action: "push"}
	qt.Check(t, qt.IsTrue(all.Holds(push) && both.Holds(push) && !pull.Holds(push)))
	qt.Check(t, qt.IsTrue(push.Equal(push) && !push.Equal(ociauth.CatalogScope)))
	qt.Check(t, qt.Equals(push.Compare(ociauth.CatalogScope), 1))
}

// A scope does not change with the slice that it was made of.
func TestNewScopeCopies(t *testing.T) {
	t.Parallel()
	items := []ociauth.ResourceScope{{ResourceType: "b"}, {ResourceType: "a"}}
	s := ociauth.NewScope(items...)
	items[0].ResourceType = "c"
	qt.Check(t, qt.Equals(s.String(), "a b"))
	qt.Check(t, qt.Equals(items[1].ResourceType, "a"))
}

func TestContextCarriesScopeAndRequestInfo(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	qt.Check(t, qt.IsTrue(ociauth.ScopeFromContext(ctx).IsEmpty()))
	qt.Check(t, qt.IsTrue(ociauth.RequestInfoFromContext(ctx).RequiredScope.IsEmpty()))
	a, b := ociauth.ParseScope("a"), ociauth.ParseScope("b")
	ctx = ociauth.ContextWithScope(ctx, a)
	ctx = ociauth.ContextWithRequestInfo(ctx, ociauth.RequestInfo{RequiredScope: b})
	qt.Check(t, qt.IsTrue(ociauth.ScopeFromContext(ctx).Equal(a)))
	qt.Check(t, qt.IsTrue(ociauth.RequestInfoFromContext(ctx).RequiredScope.Equal(b)))
}

func FuzzParseScope(f *testing.F) {
	f.Add("repository:foo:pull,push registry:catalog:*")
	f.Add("a:b: ::, x")
	f.Fuzz(func(t *testing.T, s string) {
		scope := ociauth.ParseScope(s)
		again := ociauth.ParseScope(scope.Canonical().String())
		if !again.Equal(scope) || again.String() != again.Canonical().String() {
			t.Fatalf("%q: %q, then %q", s, scope.Canonical(), again.Canonical())
		}
	})
}
