package rules_test

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/rules"
)

// version is the grammar of the specification (semver.org, 2.0.0, "Backus–Naur Form Grammar"),
// with what tags may leave out.
var version = regexp.MustCompile(`^v?(0|[1-9][0-9]*)(?:\.(0|[1-9][0-9]*))?(?:\.(0|[1-9][0-9]*))?` +
	`(?:-((?:` + identifier + `)(?:\.(?:` + identifier + `))*))?$`)

const identifier = `0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*`

func FuzzCompareVersions(f *testing.F) {
	for _, s := range []string{"1.2.3", "v1-alpha.1", "1.0.0-0a.-", "1.00", "1.2.", "1-", "1-01", "latest", "build-10", "build-9b", "", "1.2.3.4", "v", "1048575.1", "1048576.0", "99999999999999999999.1"} {
		f.Add(s, "1.2.3", "build-9")
		f.Add(s, "1048575.2", "-")
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		qt.Check(t, qt.Equals(rules.IsVersion(a), version.MatchString(a) && !strings.HasSuffix(a, "\n")), qt.Commentf("%q", a))
		qt.Check(t, qt.Equals(rules.CompareVersions(a, b), -rules.CompareVersions(b, a)))
		qt.Check(t, qt.Equals(rules.CompareVersions(a, b) == 0, a == b), qt.Commentf("%q and %q", a, b))
		if ka, kb := rules.ParseVersion(a).Key(), rules.ParseVersion(b).Key(); ka != kb {
			qt.Check(t, qt.Equals(rules.CompareVersions(a, b), cmp.Compare(ka, kb)), qt.Commentf("%q and %q", a, b))
			qt.Check(t, qt.IsTrue(max(ka, kb) < 1<<62))
		}
		sorted := []string{a, b, c}
		slices.SortFunc(sorted, rules.CompareVersions)
		qt.Check(t, qt.IsTrue(rules.CompareVersions(sorted[0], sorted[2]) <= 0), qt.Commentf("%q", sorted))
	})
}

func BenchmarkCompareVersions(b *testing.B) {
	v, w := rules.ParseVersion("v1.20.3-rc.10"), rules.ParseVersion("v1.20.3-rc.9")
	b.ReportAllocs()
	for b.Loop() {
		v.Compare(w)
	}
}
