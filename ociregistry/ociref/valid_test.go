package ociref

import (
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
)

// The expressions that the distribution specification has for <name> and for
// tags ("Pulling manifests").
var (
	nameRegexp = regexp.MustCompile(`^(?:[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*)$`)
	tagRegexp  = regexp.MustCompile(`^(?:[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127})$`)
)

type validTest struct {
	s    string
	want bool
}

var repositoryTests = []validTest{
	{"a", true},
	{"0", true},
	{"a/b", true},
	{"library/hello-world", true},
	{"a.b_c__d-e--f---g", true},
	{"example.com/app", true},
	{"foo/blobs/index.json", true},
	{strings.Repeat("a/", 127) + "a", true},
	{strings.Repeat("a", 255), true},
	{strings.Repeat("a", 256), false},
	{strings.Repeat("a/", 127) + "ab", false},
	{"", false},
	{"/", false},
	{"a/", false},
	{"/a", false},
	{"a//b", false},
	{".", false},
	{"..", false},
	{"a/..", false},
	{"../a", false},
	{"a/./b", false},
	{".a", false},
	{"a.", false},
	{"a..b", false},
	{"a._b", false},
	{"a_.b", false},
	{"a-_b", false},
	{"_a", false},
	{"a_", false},
	{"a__", false},
	{"a___b", false},
	{"-a", false},
	{"a-", false},
	{"a--", false},
	{"a/-b", false},
	{"a-/b", false},
	{"A", false},
	{"aB", false},
	{"a:b", false},
	{"a@b", false},
	{"a b", false},
	{"a\n", false},
	{"a\x00", false},
	{`a\b`, false},
	{"a%2fb", false},
	{"ä", false},
	{"a\u0301", false},
	{"\xff", false},
}

func TestIsValidRepository(t *testing.T) {
	t.Parallel()
	for _, test := range repositoryTests {
		qt.Check(t, qt.Equals(IsValidRepository(test.s), test.want), qt.Commentf("%q", test.s))
	}
}

var tagTests = []validTest{
	{"a", true},
	{"Z", true},
	{"0", true},
	{"_", true},
	{"latest", true},
	{"v1.2.3-rc.1", true},
	{"a..b--c__d", true},
	{"a.", true},
	{"a-", true},
	{strings.Repeat("a", 64), true},
	{strings.Repeat("a", 128), true},
	{strings.Repeat("a", 129), false},
	{"", false},
	{".", false},
	{"..", false},
	{".a", false},
	{"-", false},
	{"-a", false},
	{"a+b", false},
	{"a/b", false},
	{"a:b", false},
	{"a@b", false},
	{"a b", false},
	{"a\n", false},
	{"a\x00", false},
	{"ä", false},
	{"\xff", false},
	{string(digest256), false},
}

// TestIsValidTag includes the empty tag, which must not panic.
func TestIsValidTag(t *testing.T) {
	t.Parallel()
	for _, test := range tagTests {
		qt.Check(t, qt.Equals(IsValidTag(test.s), test.want), qt.Commentf("%q", test.s))
	}
}

var digestTests = []validTest{
	{string(digest256), true},
	{string(digest512), true},
	{string(digest256)[:70], false},
	{string(digest256) + "0", false},
	{string(digest512)[:134], false},
	{string(digest512) + "0", false},
	{"sha256:" + strings.Repeat("A", 64), false},
	{"sha256:" + strings.Repeat("g", 64), false},
	{"sha256:" + strings.Repeat("\x00", 64), false},
	{"sha512:" + strings.Repeat("A", 128), false},
	{"sha256:" + strings.Repeat("0", 128), false},
	{"sha512:" + strings.Repeat("0", 64), false},
	{"SHA256:" + strings.Repeat("0", 64), false},
	{"sha256-" + strings.Repeat("0", 64), false},
	{"sha256::" + strings.Repeat("0", 63), false},
	{"sha256:" + strings.Repeat("0", 63) + "\n", false},
	{" " + string(digest256), false},
	{"sha256:", false},
	{"sha256", false},
	{":", false},
	{":" + strings.Repeat("0", 64), false},
	{"", false},
	{strings.Repeat("0", 64), false},
	{"sha256:../../../../etc/passwd", false},

	// Algorithms that are not supported, though they match the grammar.
	{"sha384:" + strings.Repeat("0", 96), false},
	{"foo:abc", false},
	{"md5:d41d8cd98f00b204e9800998ecf8427e", false},
	{"blake3:" + strings.Repeat("0", 64), false},
	{"sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564", false},
	{"multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8", false},
}

func TestIsValidDigest(t *testing.T) {
	t.Parallel()
	for _, test := range digestTests {
		qt.Check(t, qt.Equals(IsValidDigest(test.s), test.want), qt.Commentf("%q", test.s))
	}
}

// TestValidDigestCanBeVerified checks that the hashes of valid digests are
// linked in. Without, go-digest panics.
func TestValidDigestCanBeVerified(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		d := algorithm.FromString("content")
		qt.Assert(t, qt.IsTrue(IsValidDigest(string(d))))
		v := d.Verifier()
		io.WriteString(v, "content")
		qt.Check(t, qt.IsTrue(v.Verified()))
	}
}

// TestChecksDoNotAllocate holds for what is valid and for what is not: a
// registry checks names that anyone sends.
func TestChecksDoNotAllocate(t *testing.T) {
	for _, check := range checks {
		for _, test := range check.tests {
			allocs := testing.AllocsPerRun(10, func() { check.isValid(test.s) })
			qt.Check(t, qt.Equals(allocs, 0), qt.Commentf("%s %q", check.name, test.s))
		}
	}
}

var checks = []struct {
	name    string
	isValid func(string) bool
	tests   []validTest
}{
	{"Repository", IsValidRepository, repositoryTests},
	{"Tag", IsValidTag, tagTests},
	{"Digest", IsValidDigest, digestTests},
	{"Host", IsValidHost, hostTests},
}

func FuzzIsValidRepository(f *testing.F) {
	for _, test := range repositoryTests {
		f.Add(test.s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		qt.Assert(t, qt.Equals(IsValidRepository(s), len(s) <= 255 && nameRegexp.MatchString(s)))
	})
}

func FuzzIsValidTag(f *testing.F) {
	for _, test := range tagTests {
		f.Add(test.s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		qt.Assert(t, qt.Equals(IsValidTag(s), tagRegexp.MatchString(s)))
	})
}

func TestIsDigest_KnowsDigestsThatCannotBeVerified(t *testing.T) {
	t.Parallel()
	for _, test := range digestTests {
		if test.want {
			qt.Check(t, qt.IsTrue(IsDigest(test.s)), qt.Commentf("%q", test.s))
		}
	}
	tests := []struct {
		s    string
		want bool
	}{
		{"sha384:abc", true},
		{"multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8", true},
		{"b2.x_y-1:A=_-z", true},
		{"md5:" + strings.Repeat("0", 251), true},
		{"md5:" + strings.Repeat("0", 252), false},
		{"sha256:abc", false}, // it is not what SHA-256 gives
		{"sha512:" + strings.Repeat("0", 64), false},
		{"", false},
		{":", false},
		{"md5", false},
		{"md5:", false},
		{":abc", false},
		{"+md5:abc", false},
		{"md5+:abc", false},
		{"m++d:abc", false},
		{"MD5:abc", false},
		{"md5:a:b", false},
		{"md5:a/b", false},
		{"md5:a\x00", false},
		{"md5:é", false},
	}
	for _, test := range tests {
		qt.Check(t, qt.Equals(IsDigest(test.s), test.want), qt.Commentf("%q", test.s))
		if test.want {
			qt.Check(t, qt.IsFalse(IsValidDigest(test.s)), qt.Commentf("%q", test.s))
		}
	}
}

// FuzzIsDigest compares the grammar with that of go-digest.
func FuzzIsDigest(f *testing.F) {
	for _, test := range digestTests {
		f.Add(test.s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want := digest.DigestRegexpAnchored.MatchString(s) && len(s) <= maxDigest
		if strings.HasPrefix(s, "sha256:") || strings.HasPrefix(s, "sha512:") {
			want = IsValidDigest(s)
		}
		qt.Assert(t, qt.Equals(IsDigest(s), want), qt.Commentf("%q", s))
	})
}

func FuzzIsValidDigest(f *testing.F) {
	for _, test := range digestTests {
		f.Add(test.s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want := Digest(s).Validate() == nil && !strings.HasPrefix(s, "sha384:")
		qt.Assert(t, qt.Equals(IsValidDigest(s), want))
	})
}

func BenchmarkIsValid(b *testing.B) {
	for name, bm := range map[string]struct {
		isValid func(string) bool
		s       string
	}{
		"Repository":     {IsValidRepository, "team/project/some-app.v2"},
		"RepositoryLong": {IsValidRepository, strings.Repeat("ab-cd/", 42) + "app"},
		"RepositoryBad":  {IsValidRepository, "team/project/Some-app"},
		"Tag":            {IsValidTag, "v1.2.3-rc.1"},
		"TagLong":        {IsValidTag, strings.Repeat("t", 128)},
		"SHA256":         {IsValidDigest, string(digest256)},
		"SHA512":         {IsValidDigest, string(digest512)},
		"HostName":       {IsValidHost, "registry.example.com:5000"},
		"HostIPv6":       {IsValidHost, "[2001:db8::1]:5000"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bm.isValid(bm.s)
			}
		})
	}
}
