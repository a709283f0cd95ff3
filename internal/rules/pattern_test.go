package rules_test

import (
	"slices"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/rules"
)

func TestPatternMatchesWholeNames(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern string
		yes, no []string
	}{
		{"fold/app", []string{"fold/app"}, []string{"fold", "fold/app/x", "fold/app2", "x/fold/app"}},
		{"fold/", []string{"fold/a", "fold/a/b"}, []string{"fold", "folder", "folder/a"}},
		{"fold/**", []string{"fold/a", "fold/a/b"}, []string{"fold", "folder/a"}},
		{"fold/*", []string{"fold/a"}, []string{"fold", "fold/a/b"}},
		{"fold/a*z", []string{"fold/az", "fold/abcz"}, []string{"fold/a/z", "fold/azy"}},
		{"*/*", []string{"a/b"}, []string{"a", "a/b/c"}},
		{"**", []string{"a", "a/b/c"}, nil},
		{"**/app", []string{"app", "a/app", "a/b/app"}, []string{"a/app/b", "xapp"}},
		{"a/**/z", []string{"a/z", "a/b/z", "a/b/c/z"}, []string{"a/bz", "az"}},
		{"a.b", []string{"a.b"}, []string{"axb"}},

		// As other tools write them.
		{"/fold/app", []string{"fold/app"}, []string{"fold", "x/fold/app"}},
		{"/fold/", []string{"fold/a", "fold/a/b"}, []string{"fold", "x/fold/a"}},
		{"/fold/**", []string{"fold/a", "fold/a/b"}, []string{"fold"}},
		{"/**", []string{"a", "a/b/c"}, nil},
		{"/*", []string{"a"}, []string{"a/b"}},
	}
	for _, test := range tests {
		p, err := rules.ParsePattern(test.pattern)
		qt.Assert(t, qt.IsNil(err))
		for _, repo := range slices.Concat(test.yes, test.no) {
			qt.Check(t, qt.Equals(p.Match(repo), slices.Contains(test.yes, repo)), qt.Commentf("%s in %s", repo, test.pattern))
		}
	}
}

func TestPatternKnowsWhatComesBeforeItsWildcards(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern, prefix string
		literal         bool
	}{
		{"fold/app", "fold/app", true},
		{"/fold/app", "fold/app", true},
		{"fold/", "fold", false},
		{"a/b/*/c", "a/b", false},
		{"a/b*/c", "a", false},
		{"**/app", "", false},
	}
	for _, test := range tests {
		p, err := rules.ParsePattern(test.pattern)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(p.Prefix(), test.prefix), qt.Commentf("%s", test.pattern))
		qt.Check(t, qt.Equals(p.Literal(), test.literal), qt.Commentf("%s", test.pattern))
	}
}

func TestPatternsThatNoNameCanMatchAreRefused(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"", "Fold", "fold//app", "/", "//fold", "fold/[", "fold/a**"} {
		_, err := rules.ParsePattern(pattern)
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%q", pattern))
	}
}
