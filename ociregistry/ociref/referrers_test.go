package ociref

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
)

// TestReferrersTag begins with the table of the distribution specification,
// "Referrers Tag Schema".
func TestReferrersTag(t *testing.T) {
	t.Parallel()
	tests := []struct {
		digest Digest
		want   string
	}{
		{
			Digest("sha256:" + strings.Repeat("a", 64)),
			"sha256-" + strings.Repeat("a", 64),
		},
		{
			Digest("sha512:" + strings.Repeat("a", 128)),
			"sha512-" + strings.Repeat("a", 64),
		},
		{
			"test+algorithm+using+algorithm+separators+and+lots+of+characters+to+excercise+overall+truncation:" +
				"alsoSome=InTheEncodedSectionToShowHyphenReplacementAndLotsAndLotsOfCharactersToExcerciseEncodedTruncation",
			"test-algorithm-using-algorithm-s-" +
				"alsoSome-InTheEncodedSectionToShowHyphenReplacementAndLotsAndLot",
		},

		{digest512, "sha512-" + strings.Repeat("fedcba9876543210", 4)},
		{"sha256:0", "sha256-0"},
		{"0:_", "0-_"},
		{"a.b_c-d+e:A=-_z", "a.b_c-d-e-A--_z"},
		{
			Digest(strings.Repeat("a", 32) + ":" + strings.Repeat("b", 64)),
			strings.Repeat("a", 32) + "-" + strings.Repeat("b", 64),
		},
		{
			Digest(strings.Repeat("a", 33) + ":" + strings.Repeat("b", 65)),
			strings.Repeat("a", 32) + "-" + strings.Repeat("b", 64),
		},
	}
	for _, test := range tests {
		t.Run(string(test.digest), func(t *testing.T) {
			tag, err := ReferrersTag(test.digest)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(tag, test.want))
			qt.Check(t, qt.IsTrue(IsValidTag(tag)))
		})
	}
}

func TestReferrersTagError(t *testing.T) {
	t.Parallel()
	for _, d := range []Digest{
		"", ":", "sha256", "sha256:", ":abc", "sha256:a:b", "sha256:a/b", "sha256:a.b", "sha256:ä",
		"SHA256:a", "+a:b", "a+:b", "a++b:c", "a._b:c", "a/b:c", "..:a", "-:a",
	} {
		tag, err := ReferrersTag(d)
		qt.Assert(t, qt.IsNotNil(err), qt.Commentf("%q", d))
		qt.Check(t, qt.Equals(err.Error(), "no referrers tag for digest "+quote(string(d))+": it is not of the form algorithm:encoded"))
		qt.Check(t, qt.Equals(tag, ""))
	}
}

func FuzzReferrersTag(f *testing.F) {
	for _, test := range digestTests {
		f.Add(test.s)
	}
	f.Add("test+algorithm_a.b-c:a=b_c-d")
	f.Fuzz(func(t *testing.T, s string) {
		tag, err := ReferrersTag(Digest(s))
		qt.Assert(t, qt.Equals(err == nil, digest.DigestRegexpAnchored.MatchString(s)))
		qt.Assert(t, qt.Equals(err == nil, IsValidTag(tag)), qt.Commentf("%q", tag))
	})
}

func BenchmarkReferrersTag(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		ReferrersTag(digest256)
	}
}
