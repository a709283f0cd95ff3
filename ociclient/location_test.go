package ociclient_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociclient"
)

func TestUploadFollowsItsLocation(t *testing.T) {
	t.Parallel()
	const base = "https://registry.test"
	tests := []struct {
		name     string
		host     string
		location string
		put      string // where the PUT goes, without the digest
		trusted  bool   // the credentials go along
	}{
		{"relative", "registry.test", "some-id", base + "/v2/foo/blobs/uploads/some-id?", true},
		{"relative, upwards", "registry.test", "../../../u/1", base + "/v2/u/1?", true},
		{"a path", "registry.test", "/u/1", base + "/u/1?", true},
		{"a path with a query", "registry.test", "/u/1?state=a%2Fb+c&x", base + "/u/1?state=a%2Fb+c&x&", true},
		{"an opaque path", "registry.test", "/u//a%2Fb/%7E;x=1/", base + "/u//a%2Fb/%7E;x=1/?", true},
		{"a fragment", "registry.test", "/u/1#x", base + "/u/1?", true},
		{"a URL", "registry.test", base + "/u/1?a=b", base + "/u/1?a=b&", true},
		{"a URL with user", "registry.test", "https://me:secret@registry.test/u/1", base + "/u/1?", true},
		{"a URL without the port", "registry.test:443", base + "/u/1", base + ":443/u/1?", true},
		{"a URL with the port", "registry.test", base + ":443/u/1", base + "/u/1?", true},
		{"a URL in capitals", "registry.test", "HTTPS://Registry.Test/u/1", base + "/u/1?", true},
		{"by http", "registry.test", "http://registry.test/u/1?a=b", base + "/u/1?a=b&", true},
		{"by http, in capitals", "registry.test", "HTTP://Registry.Test/u/1", base + "/u/1?", true},
		{"by http, with the port", "registry.test", "http://registry.test:443/u/1", base + "/u/1?", true},
		{"by http, from a port", "registry.test:8443", "http://registry.test/u/1", base + ":8443/u/1?", true},
		{"by http, from and with a port", "registry.test:8443", "http://registry.test:8443/u/1", base + ":8443/u/1?", true},
		{"without its port", "registry.test:8443", base + "/u/1", base + ":8443/u/1?", true},
		{"another port than its own", "registry.test:8443", base + ":443/u/1", base + ":443/u/1?", false},
		{"without its port, IPv6", "[::1]:8443", "http://[::1]/u/1", "https://[::1]:8443/u/1?", true},
		{"another host", "registry.test", "https://elsewhere.test/u/1", "https://elsewhere.test/u/1?", false},
		{"a host below", "registry.test", "https://a.registry.test/u/1", "https://a.registry.test/u/1?", false},
		{"another port", "registry.test", base + ":8443/u/1", base + ":8443/u/1?", false},
		{"without scheme", "registry.test", "//elsewhere.test/u/1", "https://elsewhere.test/u/1?", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := &world{answers: map[string]*http.Response{
				"POST https://": answer(http.StatusAccepted, "Location", test.location),
				"PUT https://":  answer(http.StatusCreated),
			}}
			qt.Assert(t, qt.IsNil(push(clientIn(t, w, test.host, ociclient.Options{}))))
			want := "PUT " + test.put + "digest=" + url.QueryEscape(string(contentDigest))
			if test.trusted {
				want += " repository:foo:pull,push"
			}
			qt.Assert(t, qt.HasLen(w.log, 2))
			qt.Assert(t, qt.Equals(w.log[1], want))
		})
	}
}

func TestBadLocationIsAnError(t *testing.T) {
	t.Parallel()
	for _, location := range []string{"", "http://registry.test:80/u/1", "http://registry.test:5000/u/1", "http://elsewhere.test/u/1", "http://a.registry.test/u/1", "ftp://registry.test/u/1", "mailto:me", "https:///u/1", ":", "%zz"} {
		w := &world{answers: map[string]*http.Response{"POST https://": answer(http.StatusAccepted, "Location", location)}}
		err := push(clientIn(t, w, "registry.test", ociclient.Options{}))
		qt.Assert(t, qt.ErrorMatches(err, ".* Location header.*"), qt.Commentf("%q", location))
		qt.Assert(t, qt.HasLen(w.log, 1))
	}
}

func TestLocationIsRelativeToWhereRedirectLed(t *testing.T) {
	t.Parallel()
	w := &world{answers: map[string]*http.Response{
		"POST https://registry.test/": answer(http.StatusTemporaryRedirect, "Location", "https://eu.registry.test/v2/bar/blobs/uploads/"),
		"POST https://eu.":            answer(http.StatusAccepted, "Location", "1"),
		"PUT https://":                answer(http.StatusCreated),
	}}
	qt.Assert(t, qt.IsNil(push(clientIn(t, w, "registry.test", ociclient.Options{}))))
	qt.Assert(t, qt.DeepEquals(w.log, []string{
		"POST https://registry.test/v2/foo/blobs/uploads/ repository:foo:pull,push",
		"POST https://eu.registry.test/v2/bar/blobs/uploads/",
		"PUT https://eu.registry.test/v2/bar/blobs/uploads/1?digest=" + url.QueryEscape(string(contentDigest)),
	}))
}
