package ociclient

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/go-quicktest/qt"
)

// A registry's own name in a URL stands for the origin that was asked, also in links of
// lists.
func TestOwnNameStandsForWhereItWasAsked(t *testing.T) {
	t.Parallel()
	tests := []struct{ asked, ref, want, next string }{
		{"https://a.test/v2/", "http://a.test/x?y=1", "https://a.test/x?y=1", "https://a.test/x?y=1"},
		{"https://a.test/v2/", "http://a.test:443/x", "https://a.test/x", "https://a.test/x"},
		{"https://a.test:443/v2/", "http://A.test/x", "https://a.test:443/x", "https://a.test:443/x"},
		{"https://a.test:8443/v2/", "https://a.test/x", "https://a.test:8443/x", "https://a.test:8443/x"},
		{"https://a.test:8443/v2/", "//a.test/x", "https://a.test:8443/x", "https://a.test:8443/x"},
		{"https://a.test:8443/v2/", "https://a.test:443/x", "https://a.test:443/x", ""},
		{"https://a.test/v2/", "http://a.test:80/x", "http://a.test:80/x", ""},
		{"https://a.test/v2/", "http://b.test/x", "http://b.test/x", ""},
		{"http://a.test:5000/v2/", "http://a.test/x", "http://a.test:5000/x", "http://a.test:5000/x"},
		{"http://a.test:5000/v2/", "https://a.test/x", "https://a.test/x", ""}, // that is a step up
		{"https://[::1]:5000/v2/", "http://[::1]/x", "https://[::1]:5000/x", "https://[::1]:5000/x"},
	}
	for _, test := range tests {
		asked, err := url.Parse(test.asked)
		qt.Assert(t, qt.IsNil(err))
		u, err := resolve(asked, test.ref)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(u.String(), test.want))

		next, err := nextPage(&http.Response{
			Header:  http.Header{"Link": {"<" + test.ref + ">; rel=next"}},
			Request: &http.Request{URL: asked},
		})
		if test.next == "" {
			qt.Check(t, qt.ErrorMatches(err, ".*leads to another host"))
			continue
		}
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(next.String(), test.next))
	}
}
