package rules_test

import (
	"cmp"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ociregistry"
)

const hexDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestTagsAreChosenTheHighestVersionFirst(t *testing.T) {
	t.Parallel()
	about := "sha256-" + hexDigest
	all := []string{
		"1.10.0", "1.9.0", "1.9.0-rc.1", "1.9.0-rc.2", "1.9.0-rc.10", "v2.0.0", "2.0.0-alpha", "01.2.3", "1.2",
		"latest", "build-9", "build-10", about, about + ".sig", about + ".other",
	}
	tests := []struct {
		rule rules.TagRule
		want []string
	}{
		{rules.TagRule{}, []string{
			"v2.0.0", "2.0.0-alpha", "1.10.0", "1.9.0", "1.9.0-rc.10", "1.9.0-rc.2", "1.9.0-rc.1", "1.2",
			about + ".other", "latest", "build-10", "build-9", "01.2.3",
		}},
		{rules.TagRule{SemVer: true}, []string{
			"v2.0.0", "2.0.0-alpha", "1.10.0", "1.9.0", "1.9.0-rc.10", "1.9.0-rc.2", "1.9.0-rc.1", "1.2",
		}},
		{rules.TagRule{SemVer: true, Newest: 3}, []string{"v2.0.0", "2.0.0-alpha", "1.10.0"}},
		{rules.TagRule{Match: "^build-", Newest: 1}, []string{"build-10"}},
		{rules.TagRule{Match: "rc", SemVer: true}, []string{"1.9.0-rc.10", "1.9.0-rc.2", "1.9.0-rc.1"}},
		{rules.TagRule{Match: "^1", Newest: 100}, []string{"1.10.0", "1.9.0", "1.9.0-rc.10", "1.9.0-rc.2", "1.9.0-rc.1", "1.2"}},
		{rules.TagRule{Match: "^$"}, nil},
	}
	for _, test := range tests {
		tags, err := rules.NewTags(test.rule)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(tags.Choose(all), test.want), qt.Commentf("%+v", test.rule))
	}
}

func TestTagRulesThatAreWrongAreRefused(t *testing.T) {
	t.Parallel()
	for _, rule := range []rules.TagRule{{Match: "("}, {Newest: -1}} {
		_, err := rules.NewTags(rule)
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%+v", rule))
	}
}

func TestVersionsAreInOrder(t *testing.T) {
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
		qt.Check(t, qt.Equals(rules.IsVersion(a), i >= 10), qt.Commentf("%s", a))
		for j, b := range ordered {
			qt.Check(t, qt.Equals(rules.CompareVersions(a, b), cmp.Compare(i, j)), qt.Commentf("%s and %s", a, b))
		}
	}
}

func TestTagsAboutADigestAreThoseThatHaveItForASubject(t *testing.T) {
	t.Parallel()
	const digest = ociregistry.Digest("sha256:" + hexDigest)
	tags := rules.TagsAbout(digest)
	qt.Check(t, qt.HasLen(tags, 1+len(rules.CosignSuffixes)))
	for _, tag := range tags {
		subject, _, ok := rules.Subject(tag)
		qt.Check(t, qt.IsTrue(ok && subject == digest), qt.Commentf("%s", tag))
	}
	qt.Check(t, qt.HasLen(rules.TagsAbout("sha512:"+hexDigest+hexDigest), 0))
}

func TestSubjectOfTagsThatAreMadeOfADigest(t *testing.T) {
	t.Parallel()
	const digest = ociregistry.Digest("sha256:" + hexDigest)
	about := rules.CosignTag(digest)
	tests := []struct {
		tag, suffix string
		ok          bool
	}{
		{about, "", true},
		{about + ".sig", ".sig", true},
		{about + ".att", ".att", true},
		{about + ".sbom", ".sbom", true},
		{about + ".other", "", false},
		{about + "0", "", false},
		{about[:len(about)-1], "", false},
		{strings.ToUpper(about), "", false},
		{"sha256-" + strings.Repeat("g", 64), "", false},
		{"latest", "", false},
	}
	for _, test := range tests {
		subject, suffix, ok := rules.Subject(test.tag)
		qt.Check(t, qt.Equals(ok, test.ok), qt.Commentf("%s", test.tag))
		qt.Check(t, qt.Equals(suffix, test.suffix), qt.Commentf("%s", test.tag))
		qt.Check(t, qt.Equals(subject == digest, test.ok), qt.Commentf("%s", test.tag))
	}
	qt.Check(t, qt.Equals(rules.CosignTag("sha512:"+hexDigest+hexDigest), ""))
}
