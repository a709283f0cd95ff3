package ociref

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
)

var (
	digest256 = Digest("sha256:" + strings.Repeat("0123456789abcdef", 4))
	digest512 = Digest("sha512:" + strings.Repeat("fedcba9876543210", 8))
)

// references are in the form that String returns.
var references = []struct {
	s    string
	want Reference
}{
	{"app", Reference{Repository: "app"}},
	{"app:v1", Reference{Repository: "app", Tag: "v1"}},
	{"app@" + string(digest256), Reference{Repository: "app", Digest: digest256}},
	{"app:v1@" + string(digest512), Reference{Repository: "app", Tag: "v1", Digest: digest512}},
	{"team/app/web", Reference{Repository: "team/app/web"}},
	{"team/app:Web_1.0-rc", Reference{Repository: "team/app", Tag: "Web_1.0-rc"}},

	// A name alone is a repository, whatever it looks like.
	{"example.com", Reference{Repository: "example.com"}},
	{"example.com:5000", Reference{Repository: "example.com", Tag: "5000"}},
	{"localhost", Reference{Repository: "localhost"}},
	{"localhost:5000", Reference{Repository: "localhost", Tag: "5000"}},
	{"10.0.0.1:5000@" + string(digest256), Reference{Repository: "10.0.0.1", Tag: "5000", Digest: digest256}},

	// Of several elements, the first one is a host if it can be.
	{"example.com/app", Reference{Host: "example.com", Repository: "app"}},
	{"example.com/app:v1", Reference{Host: "example.com", Repository: "app", Tag: "v1"}},
	{"example.com/app@" + string(digest512), Reference{Host: "example.com", Repository: "app", Digest: digest512}},
	{"example.com/app:v1@" + string(digest256), Reference{Host: "example.com", Repository: "app", Tag: "v1", Digest: digest256}},
	{"example.com/example.com/app", Reference{Host: "example.com", Repository: "example.com/app"}},
	{"example.com:443/team/app:443", Reference{Host: "example.com:443", Repository: "team/app", Tag: "443"}},
	{"Example.COM/app", Reference{Host: "Example.COM", Repository: "app"}},
	{"registry:5000/app", Reference{Host: "registry:5000", Repository: "app"}},
	{"localhost/app", Reference{Host: "localhost", Repository: "app"}},
	{"localhost:5000/app:v1", Reference{Host: "localhost:5000", Repository: "app", Tag: "v1"}},
	{"REGISTRY/app", Reference{Host: "REGISTRY", Repository: "app"}},
	{"10.0.0.1/app", Reference{Host: "10.0.0.1", Repository: "app"}},
	{"10.0.0.1:5000/app", Reference{Host: "10.0.0.1:5000", Repository: "app"}},
	{"[::1]/app", Reference{Host: "[::1]", Repository: "app"}},
	{"[fd00::c0a8:1]:5000/app:v1@" + string(digest256), Reference{Host: "[fd00::c0a8:1]:5000", Repository: "app", Tag: "v1", Digest: digest256}},

	// A first element that can't be a host is part of the repository.
	{"local_host.example/app", Reference{Repository: "local_host.example/app"}},
	{"localhosts/app", Reference{Repository: "localhosts/app"}},

	// The limits of each part are its own.
	{"example.com/" + strings.Repeat("r", 255) + ":" + strings.Repeat("t", 128), Reference{
		Host: "example.com", Repository: strings.Repeat("r", 255), Tag: strings.Repeat("t", 128),
	}},
}

func TestParseRelative(t *testing.T) {
	t.Parallel()
	for _, test := range references {
		t.Run(test.s, func(t *testing.T) {
			ref, err := ParseRelative(test.s)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(ref, test.want))
		})
	}
}

func TestParseWantsHost(t *testing.T) {
	t.Parallel()
	for _, test := range references {
		t.Run(test.s, func(t *testing.T) {
			ref, err := Parse(test.s)
			if test.want.Host == "" {
				qt.Check(t, qt.ErrorMatches(err, `invalid reference ".*": no host before the repository`))
				qt.Check(t, qt.Equals(ref, Reference{}))
				return
			}
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(ref, test.want))
		})
	}
}

func TestReferenceString(t *testing.T) {
	t.Parallel()
	for _, test := range references {
		qt.Check(t, qt.Equals(test.want.String(), test.s))
	}
	qt.Check(t, qt.Equals(Reference{}.String(), ""))
}

// TestParseError checks that an error says what is wrong with which part.
func TestParseError(t *testing.T) {
	t.Parallel()
	const separators = `needs a lower-case letter or digit before and after each '.', '_', '__' or run of '-'`
	hex := strings.Repeat("a", 64)
	tests := []struct {
		s, want string // want is what follows the reference
	}{
		{"", `repository "" is empty`},
		{":v1", `repository "" is empty`},
		{"@" + string(digest256), `repository "" is empty`},
		{"example.com/", `repository "" is empty`},
		{"example.com/:v1", `repository "" is empty`},
		{"/app", `repository "/app" has an empty path element`},
		{"app/", `repository "app/" has an empty path element`},
		{"example.com//app", `repository "/app" has an empty path element`},
		{"example.com/App", `repository "App" has an upper-case letter`},
		{"App", `repository "App" has an upper-case letter`},
		{"app-:v1", `repository "app-" ` + separators},
		{"a/../b", `repository "a/../b" ` + separators},
		{"äpp", `repository "äpp" has a character other than a-z, 0-9, '.', '_', '-' and '/'`},
		{"app\n", `repository "app\n" has a character other than a-z, 0-9, '.', '_', '-' and '/'`},

		{"app:", `tag "" is empty`},
		{"app:@" + string(digest256), `tag "" is empty`},
		{"app:-v1", `tag "-v1" begins with a period or hyphen`},
		{"app:v1:v2", `tag "v1:v2" has a character other than letters, digits, '_', '.' and '-'`},
		{"example.com/app:v1/x", `tag "v1/x" has a character other than letters, digits, '_', '.' and '-'`},
		{"app:" + strings.Repeat("t", 129), `tag "` + strings.Repeat("t", 129) + `" is longer than 128 bytes`},

		{"app@", `digest "" is not of the form algorithm:encoded`},
		{"app@sha256", `digest "sha256" is not of the form algorithm:encoded`},
		{"app@foo:abc", `digest "foo:abc" has an algorithm other than sha256 and sha512`},
		{"app@sha256:abc", `digest "sha256:abc" does not have 64 lower-case hexadecimal digits after its algorithm`},
		{"app@sha512:" + hex, `digest "sha512:` + hex + `" does not have 128 lower-case hexadecimal digits after its algorithm`},
		{"app@b@c", `digest "b@c" is not of the form algorithm:encoded`},

		{"app:v1/x", `host "app:v1" ` + hostProblem},
		{"https://example.com/app", `host "https:" ` + hostProblem},
		{"example.com:65536/app", `host "example.com:65536" ` + hostProblem},
		{"fd00::1/app", `host "fd00::1" ` + hostProblem},
		{"[fe80::1%eth0]:5000/app", `host "[fe80::1%eth0]:5000" ` + hostProblem},
	}
	for _, test := range tests {
		t.Run(test.s, func(t *testing.T) {
			for _, parse := range []func(string) (Reference, error){Parse, ParseRelative} {
				ref, err := parse(test.s)
				qt.Assert(t, qt.IsNotNil(err))
				qt.Check(t, qt.Equals(err.Error(), "invalid reference "+quote(test.s)+": "+test.want))
				qt.Check(t, qt.Equals(ref, Reference{}))
			}
		})
	}
}

// TestParseRepositoryTooLong checks the limit of 255 bytes, and that the host
// does not count.
func TestParseRepositoryTooLong(t *testing.T) {
	t.Parallel()
	name := strings.Repeat("a/", 127) + "a"
	ref, err := ParseRelative("example.com/" + name)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(ref.Repository, name))
	_, err = ParseRelative("example.com/" + name + "b")
	qt.Check(t, qt.ErrorMatches(err, `.* is longer than 255 bytes`))
}

// TestErrorsAreBounded checks that no function quotes a large input whole.
func TestErrorsAreBounded(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("\xff", 1<<20)
	for _, s := range []string{huge, "a:" + huge, "a@" + huge, huge + "/a", "a:" + huge + "/a", "a.b/" + huge, strings.Repeat("a", 1<<20)} {
		for _, parse := range []func(string) (Reference, error){Parse, ParseRelative, ParseDocker} {
			_, err := parse(s)
			qt.Assert(t, qt.IsNotNil(err))
			qt.Check(t, qt.IsTrue(len(err.Error()) < 2500), qt.Commentf("%d bytes", len(err.Error())))
			qt.Check(t, qt.StringContains(err.Error(), " bytes)"))
		}
	}
	_, err := ReferrersTag(Digest(huge))
	qt.Assert(t, qt.IsNotNil(err))
	qt.Check(t, qt.IsTrue(len(err.Error()) < 2500), qt.Commentf("%d bytes", len(err.Error())))
}

func FuzzParse(f *testing.F) {
	for _, test := range references {
		f.Add(test.s)
	}
	f.Add("https://example.com:99999/A//b:@")
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseRelative(s)
		if err != nil {
			qt.Assert(t, qt.Equals(ref, Reference{}))
			_, err := Parse(s)
			qt.Assert(t, qt.IsNotNil(err))
			return
		}
		checkValid(t, ref)
		qt.Assert(t, qt.Equals(ref.String(), s))

		abs, err := Parse(s)
		if ref.Host == "" {
			qt.Assert(t, qt.IsNotNil(err))
			return
		}
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(abs, ref))
	})
}

// checkValid checks that each part of a parsed reference is valid.
func checkValid(t *testing.T, ref Reference) {
	t.Helper()
	qt.Assert(t, qt.IsTrue(ref.Host == "" || IsValidHost(ref.Host)), qt.Commentf("host %q", ref.Host))
	qt.Assert(t, qt.IsTrue(IsValidRepository(ref.Repository)), qt.Commentf("repository %q", ref.Repository))
	qt.Assert(t, qt.IsTrue(ref.Tag == "" || IsValidTag(ref.Tag)), qt.Commentf("tag %q", ref.Tag))
	qt.Assert(t, qt.IsTrue(ref.Digest == "" || IsValidDigest(string(ref.Digest))), qt.Commentf("digest %q", ref.Digest))
}

// TestDigestIsGoDigest checks that references compose with packages that use
// go-digest.
func TestDigestIsGoDigest(t *testing.T) {
	t.Parallel()
	var d digest.Digest = Reference{Digest: digest256}.Digest
	qt.Check(t, qt.Equals(d.Algorithm(), digest.SHA256))
}

var sinkReference Reference

func BenchmarkParse(b *testing.B) {
	s := "registry.example.com:5000/team/app:v1.2.3@" + string(digest256)
	b.ReportAllocs()
	for b.Loop() {
		sinkReference, _ = Parse(s)
	}
}

func BenchmarkParseInvalid(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		sinkReference, _ = Parse("registry.example.com:5000/team/App:v1.2.3")
	}
}

func BenchmarkString(b *testing.B) {
	ref := Reference{Host: "registry.example.com:5000", Repository: "team/app", Tag: "v1.2.3", Digest: digest256}
	b.ReportAllocs()
	for b.Loop() {
		_ = ref.String()
	}
}
