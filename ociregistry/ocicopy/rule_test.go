package ocicopy

import (
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

func TestSelector_PutsRepositoriesBelowTheDestination(t *testing.T) {
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

		// Further cases of the same rules.
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

func TestSelector_SourceInvertsDestination(t *testing.T) {
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

func TestSelector_ChoosesRepositoriesAndTags(t *testing.T) {
	t.Parallel()
	s := mustSelect(t, Rule{Repositories: "fold/", Tags: TagRule{Match: "^[0-9]", SemVer: true, Newest: 2}})
	for repo, want := range map[string]bool{"fold/a": true, "fold/a/b": true, "fold": false, "folder/a": false} {
		_, ok := s.Destination(repo)
		qt.Check(t, qt.Equals(ok, want), qt.Commentf("%s", repo))
	}
	qt.Check(t, qt.DeepEquals(s.ChooseTags([]string{"1.9", "1.10", "1.8", "v2", "latest"}), []string{"1.10", "1.9"}))
	qt.Check(t, qt.IsTrue(s.ChoosesTag("1.8")))
	qt.Check(t, qt.IsFalse(s.ChoosesTag("v2")))
}

func TestMirror_RefusesInvalidRules(t *testing.T) {
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

func TestRule_SurvivesJSON(t *testing.T) {
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
