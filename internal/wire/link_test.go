package wire

import (
	"testing"

	"github.com/go-quicktest/qt"
)

func TestParseNextLink(t *testing.T) {
	t.Parallel()
	tests := []struct {
		values []string
		want   string // empty for none
	}{
		{[]string{NextLink("/v2/_catalog?last=a&n=1")}, "/v2/_catalog?last=a&n=1"},
		{[]string{`<https://h/x?a,b;c>;rel="next"`}, "https://h/x?a,b;c"},
		{[]string{`</x>; rel=next`}, "/x"},
		{[]string{`</x>;  REL = "NEXT" ; title="a, b"`}, "/x"},
		{[]string{`</x>; title="\"; rel=\"prev"; rel="next"`}, "/x"},
		{[]string{`</x>; rel="prev next"`}, "/x"},
		{[]string{`</p>; rel="prev", </x>; rel="next"`}, "/x"},
		{[]string{`</p>; rel="prev"`, `</x>; rel="next"`}, "/x"},
		{[]string{`</a>; rel="next", </b>; rel="next"`}, "/a"},
		{[]string{`, ,</x>;;rel=next;`}, "/x"},
		{[]string{`</x>; crossorigin; rel=next`}, "/x"},
		{[]string{`/bad; title="a,</b>;rel=next", </x>; rel=next`}, "/x"},
		{[]string{`</bad> rel=next, </x>; rel=next`}, "/x"},
		{[]string{`</x>; rel*=prev; rel=next`}, "/x"},

		{nil, ""},
		{[]string{""}, ""},
		{[]string{`</x>`}, ""},
		{[]string{`</x>; rel`}, ""},
		{[]string{`</x>; rel=prev; rel=next`}, ""},
		{[]string{`</x>; rel="nextish"`}, ""},
		{[]string{`</x>; rel=next; anchor="#foo"`}, ""},
		{[]string{`</x; rel="next"`}, ""},
		{[]string{`</x>; rel="next`}, ""},
		{[]string{`<>; rel="next"`}, ""},
		{[]string{`/x; rel="next"`}, ""},
		{[]string{`</x>; title="</y>; rel=next"`}, ""},
	}
	for _, test := range tests {
		got, ok := ParseNextLink(test.values)
		qt.Check(t, qt.Equals(got, test.want), qt.Commentf("%q", test.values))
		qt.Check(t, qt.Equals(ok, test.want != ""), qt.Commentf("%q", test.values))
	}
}

func FuzzParseNextLink(f *testing.F) {
	f.Add(`</p>; rel="prev", </x>; rel="next"`, `</x>; title="\"; rel=\"prev"; rel="next"`)
	f.Add(`/bad; title="a,</b>;rel=next", </x>; rel=next`, `, ,</x>;;rel=next;`)
	f.Fuzz(func(t *testing.T, a, b string) {
		target, ok := ParseNextLink([]string{a, b})
		if ok != (target != "") {
			t.Fatalf("%q, %q: %q, %v", a, b, target, ok)
		}
		if !ok {
			return
		}
		if again, _ := ParseNextLink([]string{NextLink(target)}); again != target {
			t.Fatalf("%q, %q: %q becomes %q", a, b, target, again)
		}
	})
}
