package ocigc_test

import (
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const day = 24 * time.Hour

func TestSelector_TheFirstPolicyThatMatchesHolds(t *testing.T) {
	t.Parallel()
	s, err := ocigc.NewSelector(&ocigc.Options{
		Delay:    3 * time.Hour,
		Dangling: true,
		Policies: []ocigc.Policy{
			{Repositories: []string{"team/app", "x/**/y"}, Untagged: true, UntaggedDelay: time.Minute},
			{Repositories: []string{"team/**"}, Dangling: true, DanglingDelay: -5},
		},
	})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(s.Delay(), 3*time.Hour))
	tests := []struct {
		repo                         string
		untagged, dangling           bool
		untaggedDelay, danglingDelay time.Duration
	}{
		{"team/app", true, false, time.Minute, 3 * time.Hour},
		{"x/a/b/y", true, false, time.Minute, 3 * time.Hour},
		{"team/other", false, true, 3 * time.Hour, -1},
		{"team", false, true, 3 * time.Hour, 3 * time.Hour},
	}
	for _, test := range tests {
		p := s.Policy(test.repo)
		qt.Check(t, qt.Equals(p.Untagged, test.untagged), qt.Commentf("%s", test.repo))
		qt.Check(t, qt.Equals(p.Dangling, test.dangling), qt.Commentf("%s", test.repo))
		qt.Check(t, qt.Equals(p.UntaggedDelay, test.untaggedDelay), qt.Commentf("%s", test.repo))
		qt.Check(t, qt.Equals(p.DanglingDelay, test.danglingDelay), qt.Commentf("%s", test.repo))
	}
	s, err = ocigc.NewSelector(nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(s.Delay(), ocigc.DefaultDelay))
	qt.Check(t, qt.IsFalse(s.Policy("app").Untagged))
	qt.Check(t, qt.IsFalse(s.Policy("app").Dangling))
}

func TestSelector_KeepsTagsForWhichOneRuleHolds(t *testing.T) {
	t.Parallel()
	signature := "sha256-" + strings.Repeat("a", 64) + ".sig"
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	tags := []ocigc.Tag{
		{Name: "v1.0", Pushed: ago(9 * day), Pulled: ago(day)},
		{Name: "v1.1", Pushed: ago(8 * day)},
		{Name: "v1.2", Pushed: ago(7 * day), Pulled: ago(6 * day)},
		{Name: "main-3", Pushed: ago(3 * day)},
		{Name: "main-1", Pushed: ago(2 * day)},
		{Name: "main-2", Pushed: ago(4 * day), Pulled: ago(3 * day)},
		{Name: "unknown"},
		{Name: signature, Pushed: ago(100 * day)},
	}
	tests := []struct {
		name string
		keep []ocigc.TagRule
		want string // the tags that stay but the signature, which always does
	}{
		{"no rules", nil, "v1.0 v1.1 v1.2 main-3 main-1 main-2 unknown"},
		{"the zero rule", []ocigc.TagRule{{}}, "v1.0 v1.1 v1.2 main-3 main-1 main-2 unknown"},
		{"match", []ocigc.TagRule{{Match: "^main"}}, "main-3 main-1 main-2"},
		{"semver", []ocigc.TagRule{{SemVer: true}}, "v1.0 v1.1 v1.2"},
		{"newest", []ocigc.TagRule{{SemVer: true, Newest: 2}}, "v1.1 v1.2"},
		{"newest of other tags", []ocigc.TagRule{{Match: "main", Newest: 2}}, "main-3 main-2"},
		{"last pushed", []ocigc.TagRule{{Match: "main", LastPushed: 2}}, "main-3 main-1"},
		{"what nobody knows was pushed last", []ocigc.TagRule{{LastPushed: 2}}, "main-1 unknown"},
		{"pushed within", []ocigc.TagRule{{PushedWithin: 3 * day}}, "main-3 main-1 unknown"},
		{"pulled within", []ocigc.TagRule{{PulledWithin: 3 * day}}, "v1.0 main-2"},
		{"all fields must hold", []ocigc.TagRule{{SemVer: true, PulledWithin: 10 * day, Newest: 1}}, "v1.2"},
		{"newest of those that are timely", []ocigc.TagRule{{PulledWithin: 3 * day, Newest: 1}}, "v1.0"},
		{"one of the rules", []ocigc.TagRule{{SemVer: true, Newest: 1}, {Match: "^main-1$"}}, "v1.2 main-1"},
		{"nothing", []ocigc.TagRule{{Match: "^$"}}, ""},
	}
	for _, test := range tests {
		s, err := ocigc.NewSelector(&ocigc.Options{Policies: []ocigc.Policy{{Keep: test.keep}}})
		qt.Assert(t, qt.IsNil(err))
		left := make(map[string]bool)
		for _, tag := range s.Dropped("app", tags, now) {
			left[tag] = true
		}
		var kept []string
		for _, tag := range tags {
			if !left[tag.Name] && tag.Name != signature {
				kept = append(kept, tag.Name)
			}
		}
		qt.Check(t, qt.Equals(strings.Join(kept, " "), test.want), qt.Commentf("%s", test.name))
		qt.Check(t, qt.IsFalse(left[signature]), qt.Commentf("%s", test.name))
	}
}

func TestParsePolicies_UnderstandsWhatItsDocumentationShows(t *testing.T) {
	t.Parallel()
	got, err := ocigc.ParsePolicies([]byte(`{
	  "policies": [{
	    "repositories": ["team/**", "app"],
	    "untagged": true, "untaggedDelay": "24h",
	    "dangling": true, "danglingDelay": "0s",
	    "keep": [
	      {"semver": true, "newest": 10},
	      {"match": "^main-", "lastPushed": 5, "pushedWithin": "30d"},
	      {"pulledWithin": "90d"}
	    ]
	  }, {}]
	}`))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, []ocigc.Policy{{
		Repositories: []string{"team/**", "app"},
		Untagged:     true, UntaggedDelay: day,
		Dangling: true, DanglingDelay: -1,
		Keep: []ocigc.TagRule{
			{SemVer: true, Newest: 10},
			{Match: "^main-", LastPushed: 5, PushedWithin: 30 * day},
			{PulledWithin: 90 * day},
		},
	}, {}}))
}

func TestParsePolicies_SaysWhatIsWrongAndWhere(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"nothing", ``, `.*EOF`},
		{"no policies", `{}`, `there are no policies`},
		{"no JSON", "{\n  \"policies\": [{},\n   x]}", `line 3, column 4: .*`},
		{"two values", `{"policies": []} {}`, `there is more than one JSON value`},
		{"an unknown field", `{"policy": []}`, `.*unknown field "policy"`},
		{"an unknown field of a policy", `{"policies": [{}, {"untaged": true}]}`, `policies\[1\]: .*unknown field "untaged"`},
		{"an unknown field of a rule", `{"policies": [{"keep": [{}, {"tags": 1}]}]}`, `policies\[0\]\.keep\[1\]: .*unknown field "tags"`},
		{"a wrong type", `{"policies": [{"keep": [{"newest": "5"}]}]}`, `policies\[0\]\.keep\[0\]: .*newest.*`},
		{"a wrong pattern", `{"policies": [{"repositories": ["a", "A"]}]}`, `policies\[0\]\.repositories\[1\]: "A" is not a pattern.*`},
		{"a wrong expression", `{"policies": [{"keep": [{"match": "("}]}]}`, `policies\[0\]\.keep\[0\]: .*missing closing.*`},
		{"a negative number", `{"policies": [{"keep": [{"newest": -1}]}]}`, `policies\[0\]\.keep\[0\]: newest is negative`},
		{"another negative number", `{"policies": [{"keep": [{"lastPushed": -1}]}]}`, `policies\[0\]\.keep\[0\]: lastPushed is negative`},
		{"no duration", `{"policies": [{"untaggedDelay": "1y"}]}`, `policies\[0\]: "1y" is not a duration such as 12h or 30d`},
		{"a negative duration", `{"policies": [{"keep": [{"pushedWithin": "-1h"}]}]}`, `policies\[0\]\.keep\[0\]: "-1h" is not a duration.*`},
		{"too many days", `{"policies": [{"untaggedDelay": "100001d"}]}`, `policies\[0\]: .*is not a duration.*`},
	}
	for _, test := range tests {
		_, err := ocigc.ParsePolicies([]byte(test.text))
		qt.Check(t, qt.ErrorMatches(err, test.want), qt.Commentf("%s", test.name))
	}
}
