package wire

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

type params = map[string]string

func TestParseChallenges(t *testing.T) {
	t.Parallel()
	bearer := Challenge{Scheme: "bearer", Params: params{"realm": "https://auth.example.com/token", "service": "s", "scope": "repository:a:pull,push"}}
	basic := Challenge{Scheme: "basic", Params: params{"realm": "r"}}
	tests := []struct {
		values []string
		want   []Challenge
	}{
		{nil, nil},
		{[]string{""}, nil},
		{[]string{" , ,, "}, nil},
		{[]string{`Bearer realm="https://auth.example.com/token",service="s",scope="repository:a:pull,push"`}, []Challenge{bearer}},
		{[]string{`BEARER Realm = "https://auth.example.com/token" , SERVICE=s,, scope	=	"repository:a:pull,push" `}, []Challenge{bearer}},
		{[]string{`bearer realm=https://auth.example.com/token,service=s,scope="repository:a:pull,push"`}, []Challenge{bearer}},

		// Several challenges in one value, and in several.
		{[]string{`Basic realm="r", Bearer realm="https://auth.example.com/token",service="s",scope="repository:a:pull,push"`}, []Challenge{basic, bearer}},
		{[]string{`Basic realm=r`, `Bearer realm="https://auth.example.com/token",service="s",scope="repository:a:pull,push"`}, []Challenge{basic, bearer}},
		{[]string{`Negotiate, Basic realm="r"`}, []Challenge{{Scheme: "negotiate"}, basic}},
		{[]string{`Negotiate ,Basic realm="r", NTLM`}, []Challenge{{Scheme: "negotiate"}, basic, {Scheme: "ntlm"}}},
		{[]string{`Newauth realm="apps", type=1, title="Login to \"apps\"", Basic realm="simple"`}, []Challenge{
			{Scheme: "newauth", Params: params{"realm": "apps", "type": "1", "title": `Login to "apps"`}},
			{Scheme: "basic", Params: params{"realm": "simple"}},
		}},

		// Token68.
		{[]string{`Negotiate abc=, Basic realm="r"`}, []Challenge{{Scheme: "negotiate", Token68: "abc="}, basic}},
		{[]string{`Negotiate a/b+c==`}, []Challenge{{Scheme: "negotiate", Token68: "a/b+c=="}}},
		{[]string{`Negotiate abc , Basic realm="r"`}, []Challenge{{Scheme: "negotiate", Token68: "abc"}, basic}},

		// Quoted strings.
		{[]string{`Basic realm="a, Bearer realm=\"b\", c=d\\"`}, []Challenge{{Scheme: "basic", Params: params{"realm": `a, Bearer realm="b", c=d\`}}}},
		{[]string{`Basic realm=""`}, []Challenge{{Scheme: "basic", Params: params{"realm": ""}}}},
		{[]string{`Basic realm="r", realm="other"`}, []Challenge{basic}},

		// Malformed challenges are skipped.
		{[]string{`Basic realm="unterminated`}, nil},
		{[]string{`Basic realm="r", scope="unterminated`}, []Challenge{basic}},
		{[]string{`realm="x", Basic realm="r"`}, []Challenge{basic}},
		{[]string{`"quoted, Bearer x", Basic realm="r"`}, []Challenge{basic}},
		{[]string{`Basic realm="a" b="c", Basic realm="r"`}, []Challenge{basic}},
		{[]string{`Basic realm=`, `Basic realm="r"`}, []Challenge{{Scheme: "basic", Token68: "realm="}, basic}},
		{[]string{`Ba/sic realm="x", Basic realm="r"`}, []Challenge{basic}},
		{[]string{"Basic\x00 realm=x"}, nil},
		{[]string{`Basic {`}, nil},
	}
	for _, test := range tests {
		qt.Check(t, qt.DeepEquals(ParseChallenges(test.values), test.want), qt.Commentf("%q", test.values))
	}
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://a/token",service="s",scope="repository:a:pull,push"`, `Basic realm=x`)
	f.Add(`Negotiate abc==, Newauth realm="a\"b", type=1`, ``)
	f.Add(`a b="c\`, `,,= "`)
	f.Fuzz(func(t *testing.T, a, b string) {
		list := ParseChallenges([]string{a, b})
		var again strings.Builder
		for i, c := range list {
			if scheme, rest := cutStrictToken(c.Scheme); scheme == "" || rest != "" || scheme != strings.ToLower(scheme) {
				t.Fatalf("scheme %q", c.Scheme)
			}
			if i > 0 {
				again.WriteString(", ")
			}
			again.WriteString(formatChallenge(c))
		}
		qt.Assert(t, qt.DeepEquals(ParseChallenges([]string{again.String()}), list))
	})
}

func formatChallenge(c Challenge) string {
	s := c.Scheme + " " + c.Token68
	for i, name := range slices.Sorted(maps.Keys(c.Params)) {
		if i > 0 {
			s += ","
		}
		s += name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(c.Params[name]) + `"`
	}
	return s
}
