package ocicopy

import (
	"cmp"
	"encoding/json"
	"slices"
	"testing"

	"github.com/go-quicktest/qt"
)

func mustSelect(t testing.TB, rule Rule) *Selector {
	t.Helper()
	s, err := NewSelector(rule)
	qt.Assert(t, qt.IsNil(err))
	return s
}

func TestBehaviour20_Destinations(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern, destination string
		strip                bool
		becomes              string
	}{
		{"fold/app", "/app", false, "app/fold/app"},
		{"fold/app", "/", false, "fold/app"},
		{"fold/app", "/app", true, "app"},
		{"fold/*", "/", true, "app"},
		{"fold/**", "/", true, "app"},
		{"fold/**", "/", false, "fold/app"},

		// Not in the table, by the same rules.
		{"fold/", "", true, "app"},
		{"fold/a*", "x/y/", true, "x/y/app"},
		{"f*/app", "x", true, "x/fold/app"},
		{"**", "x", true, "x/fold/app"},
		{"**/app", "x", false, "x/fold/app"},
		{"/fold/app", "/app", true, "app"},
		{"/fold/app", "/", false, "fold/app"},
		{"/fold/**", "/", true, "app"},
		{"/fold/", "/app/", true, "app/app"},
	}
	for _, test := range tests {
		s := mustSelect(t, Rule{Repositories: test.pattern, Destination: test.destination, Strip: test.strip})
		dst, ok := s.Destination("fold/app")
		qt.Check(t, qt.IsTrue(ok), qt.Commentf("%+v", test))
		qt.Check(t, qt.Equals(dst, test.becomes), qt.Commentf("%+v", test))
		src, ok := s.Source(test.becomes)
		qt.Check(t, qt.IsTrue(ok), qt.Commentf("%+v inverted", test))
		qt.Check(t, qt.Equals(src, "fold/app"), qt.Commentf("%+v inverted", test))
	}
}

func TestBehaviour20_Inverse(t *testing.T) {
	t.Parallel()
	repos := []string{"a", "a/b", "a/b/c", "b", "b/a", "x", "x/a", "x/a/b", "a/x", "ab", "xa/b"}
	for _, pattern := range []string{"a", "a/b", "a/*", "a/**", "a/", "*", "**", "**/b", "a/**/c", "*b"} {
		for _, destination := range []string{"", "x", "x/a"} {
			for _, strip := range []bool{false, true} {
				s, err := NewSelector(Rule{Repositories: pattern, Destination: destination, Strip: strip})
				if err != nil {
					continue
				}
				var want []string
				becomes := make(map[string]string)
				for _, repo := range repos {
					if dst, ok := s.Destination(repo); ok {
						becomes[dst] = repo
						want = append(want, repo)
						back, ok := s.Source(dst)
						qt.Check(t, qt.IsTrue(ok))
						qt.Check(t, qt.Equals(back, repo), qt.Commentf("%s to %s, strip %v", pattern, dst, strip))
					}
				}
				qt.Check(t, qt.IsTrue(len(want) > 0))
				for _, dst := range repos {
					if repo, ok := s.Source(dst); ok && slices.Contains(repos, repo) {
						qt.Check(t, qt.Equals(becomes[dst], repo))
					}
				}
			}
		}
	}
}

func TestBehaviour19_Repositories(t *testing.T) {
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
		s := mustSelect(t, Rule{Repositories: test.pattern})
		for _, repo := range slices.Concat(test.yes, test.no) {
			_, ok := s.Destination(repo)
			qt.Check(t, qt.Equals(ok, slices.Contains(test.yes, repo)), qt.Commentf("%s in %s", repo, test.pattern))
		}
	}
}

func TestBehaviour19_Tags(t *testing.T) {
	t.Parallel()
	hex := "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	all := []string{
		"1.10.0", "1.9.0", "1.9.0-rc.1", "1.9.0-rc.2", "1.9.0-rc.10", "v2.0.0", "2.0.0-alpha", "01.2.3", "1.2",
		"latest", "build-9", "build-10", hex, hex + ".sig", hex + ".other",
	}
	tests := []struct {
		rule TagRule
		want []string
	}{
		{TagRule{}, []string{
			"v2.0.0", "2.0.0-alpha", "1.10.0", "1.9.0", "1.9.0-rc.10", "1.9.0-rc.2", "1.9.0-rc.1", "1.2",
			hex + ".other", "latest", "build-10", "build-9", "01.2.3",
		}},
		{TagRule{SemVer: true}, []string{
			"v2.0.0", "2.0.0-alpha", "1.10.0", "1.9.0", "1.9.0-rc.10", "1.9.0-rc.2", "1.9.0-rc.1", "1.2",
		}},
		{TagRule{SemVer: true, Newest: 3}, []string{"v2.0.0", "2.0.0-alpha", "1.10.0"}},
		{TagRule{Match: "^build-", Newest: 1}, []string{"build-10"}},
		{TagRule{Match: "rc", SemVer: true}, []string{"1.9.0-rc.10", "1.9.0-rc.2", "1.9.0-rc.1"}},
		{TagRule{Match: "^1", Newest: 100}, []string{"1.10.0", "1.9.0", "1.9.0-rc.10", "1.9.0-rc.2", "1.9.0-rc.1", "1.2"}},
		{TagRule{Match: "^$"}, nil},
	}
	for _, test := range tests {
		s := mustSelect(t, Rule{Repositories: "**", Tags: test.rule})
		qt.Check(t, qt.DeepEquals(s.ChooseTags(all), test.want), qt.Commentf("%+v", test.rule))
	}
}

func TestBehaviour19_VersionOrder(t *testing.T) {
	t.Parallel()
	ordered := []string{ // by semver.org, section 11, after those that are none
		"1.", "01.2", "1.2.3.4", "010", "V2", "a", "a-1.2", "a-1.10", "v", "v1.x",
		"0", "v0.1", "1.0.0-0",
		"1.0.0-1", "1.0.0-2", "1.0.0-10", "1-alpha", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta",
		"1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1", "v1", "1.0", "v1.0", "1.0.0", "v1.0.0", "1.0.1",
		"1.2", "1.2.0", "1.2.1", "1.10", "1.10.0",
		"2.0.0", "18446744073709551616.0.0", "18446744073709551617.0.0",
	}
	for i, a := range ordered {
		for j, b := range ordered {
			qt.Check(t, qt.Equals(compareVersions(a, b), cmp.Compare(i, j)), qt.Commentf("%s and %s", a, b))
		}
	}
}

func TestBehaviour19_InvalidExpressions(t *testing.T) {
	t.Parallel()
	bad := []Rule{
		{},
		{Repositories: "Fold"},
		{Repositories: "fold//app"},
		{Repositories: "/"},
		{Repositories: "//fold"},
		{Repositories: "fold/["},
		{Repositories: "fold/a**"},
		{Repositories: "a", Tags: TagRule{Match: "("}},
		{Repositories: "a", Tags: TagRule{Newest: -1}},
		{Repositories: "a", Destination: "../b"},
		{Repositories: "a", Destination: "/", Strip: true},
		{Repositories: "a", Platforms: []string{"linux"}},
		{Repositories: "a", Platforms: []string{"linux/"}},
		{Repositories: "a", DropOthers: true},
	}
	src, dst := newSpy(newMem(t)), newSpy(newMem(t))
	for _, rule := range bad {
		_, err := NewSelector(rule)
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%+v", rule))
		m, err := NewMirror(dst, []Source{{Name: "hub", Registry: src, Rules: []Rule{{Repositories: "ok"}, rule}}}, nil)
		qt.Check(t, qt.ErrorMatches(err, `source "hub", rule 2: .+`), qt.Commentf("%+v", rule))
		qt.Check(t, qt.IsNil(m))
	}
	_, err := NewMirror(dst, []Source{{Name: "a"}, {Name: "a"}}, nil)
	qt.Check(t, qt.ErrorMatches(err, `source "a": .+`))
	qt.Check(t, qt.Equals(src.take()+dst.take(), ""))
}

func TestRuleAsJSON(t *testing.T) {
	t.Parallel()
	var rule Rule
	err := json.Unmarshal([]byte(`{
		"repositories": "fold/**",
		"destination": "/mirror",
		"strip": true,
		"tags": {"match": "^v", "semver": true, "newest": 3},
		"platforms": ["linux/arm/v7"],
		"dropOthers": true,
		"onlySigned": true,
		"signatureTypes": ["application/x"],
		"withoutReferrers": true,
		"skipBrokenReferrers": true,
		"delete": true
	}`), &rule)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(rule, Rule{
		Repositories:     "fold/**",
		Destination:      "/mirror",
		Strip:            true,
		Tags:             TagRule{Match: "^v", SemVer: true, Newest: 3},
		Platforms:        []string{"linux/arm/v7"},
		OnlySigned:       true,
		SignatureTypes:   []string{"application/x"},
		WithoutReferrers: true,
		Delete:           true,

		DropOthers:          true,
		SkipBrokenReferrers: true,
	}))
	text, err := json.Marshal(Rule{Repositories: "a"})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(text), `{"repositories":"a"}`))
	mustSelect(t, rule)
}
