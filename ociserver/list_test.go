package ociserver_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociserver"
)

// pages follows the Links from path on, and returns the answers.
func (s *site) pages(path string) []*answer {
	s.t.Helper()
	var all []*answer
	for ok := true; ok; {
		a := s.do("GET", path, "").want(s.t, http.StatusOK)
		all = append(all, a)
		qt.Assert(s.t, qt.IsTrue(len(all) < 1000))
		path, ok = wire.ParseNextLink(a.Header["Link"])
	}
	return all
}

func TestTagsList_HasThePageThatIsAskedFor(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.do("GET", "/v2/foo/tags/list", "").
		wantError(t, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
	s.do("GET", "/v2/foo/tags/list?n=0", "").want(t, http.StatusNotFound)

	s.pushBlob("foo", helloWorld)
	a := s.do("GET", "/v2/foo/tags/list", "").want(t, http.StatusOK).wantHeaders(t, "Content-Type", "application/json")
	qt.Check(t, qt.Equals(a.body, `{"name":"foo","tags":[]}`))

	s.pushManifest("foo", "tag1", "something")
	s.pushManifest("foo", "latest", "something")
	s.pushManifest("foo", "Zero", "something")
	tests := []struct{ query, tags, last string }{
		{"", `"Zero","latest","tag1"`, ""},
		{"?n=1000", `"Zero","latest","tag1"`, ""},
		{"?n=3", `"Zero","latest","tag1"`, ""},
		{"?n=2", `"Zero","latest"`, "latest"},
		{"?n=1", `"Zero"`, "Zero"},
		{"?n=1&last=Zero", `"latest"`, "latest"},
		{"?n=1&last=latest", `"tag1"`, ""},
		{"?last=latest", `"tag1"`, ""},
		{"?last=m", `"tag1"`, ""},
		{"?last=tag1", ``, ""},
		{"?last=%00", `"Zero","latest","tag1"`, ""},
		{"?n=0", ``, ""},
		{"?n=2147483647", `"Zero","latest","tag1"`, ""},
	}
	for _, test := range tests {
		a := s.do("GET", "/v2/foo/tags/list"+test.query, "").want(t, http.StatusOK)
		qt.Check(t, qt.Equals(a.body, `{"name":"foo","tags":[`+test.tags+`]}`), qt.Commentf("%s", test.query))
		link := ""
		if test.last != "" {
			link = `</v2/foo/tags/list?n=` + strings.TrimPrefix(strings.Split(test.query, "&")[0], "?n=") + `&last=` + test.last + `>; rel="next"`
		}
		a.wantHeaders(t, "Link", link)
	}
	for _, n := range []string{"INVALID", "-1", "", "1.5", "99999999999999999999"} {
		s.do("GET", "/v2/foo/tags/list?n="+n, "").
			wantError(t, http.StatusBadRequest, "UNKNOWN", "query parameter n is not a valid integer")
	}
	head := s.do("HEAD", "/v2/foo/tags/list", "").want(t, http.StatusOK)
	qt.Check(t, qt.Equals(head.body, ""))
	head.wantHeaders(t, "Content-Length", fmt.Sprint(len(`{"name":"foo","tags":["Zero","latest","tag1"]}`)))
}

func TestTagsList_LinksLeadThroughAllPages(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	names := numbered("t", 1001)
	for tags := range slices.Chunk(names, 200) {
		s.do("PUT", "/v2/foo/manifests/"+tags[0]+"?tag="+strings.Join(tags, "&tag="), "something").want(t, http.StatusCreated)
	}
	for query, wantPages := range map[string]int{"": 2, "?n=100": 11, "?n=1001": 1, "?n=999": 2, "?n=7": 143} {
		var got []string
		pages := s.pages("/v2/foo/tags/list" + query)
		for _, a := range pages {
			var list struct{ Tags []string }
			qt.Assert(t, qt.IsNil(json.Unmarshal([]byte(a.body), &list)))
			got = append(got, list.Tags...)
		}
		qt.Check(t, qt.DeepEquals(got, names), qt.Commentf("%s", query))
		qt.Check(t, qt.Equals(len(pages), wantPages), qt.Commentf("%s", query))
	}
}

func TestMaxListPageSize_RefusesLargerPages(t *testing.T) {
	t.Parallel()
	s := serve(t, &ociserver.Options{MaxListPageSize: 2})
	for _, tag := range []string{"a", "b", "c"} {
		s.pushManifest("foo", tag, "something")
	}
	for _, path := range []string{"/v2/foo/tags/list", "/v2/_catalog"} {
		s.do("GET", path+"?n=3", "").wantError(t, http.StatusBadRequest, "UNSUPPORTED", "query parameter n is too large (n=3, max=2)")
		s.do("GET", path+"?n=2", "").want(t, http.StatusOK)
	}
	qt.Check(t, qt.Equals(len(s.pages("/v2/foo/tags/list")), 2))
}

func TestCatalog_HasThePageThatIsAskedFor(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	a := s.do("GET", "/v2/_catalog", "").want(t, http.StatusOK)
	qt.Check(t, qt.Equals(a.body, `{"repositories":[]}`))
	for _, repo := range []string{"foo", "bar", "foo/bar"} {
		s.pushManifest(repo, "latest", "something")
	}
	tests := []struct{ query, repos, link string }{
		{"?n=1000", `"bar","foo","foo/bar"`, ""},
		{"", `"bar","foo","foo/bar"`, ""},
		{"?n=2", `"bar","foo"`, `</v2/_catalog?n=2&last=foo>; rel="next"`},
		{"?last=bar&n=1", `"foo"`, `</v2/_catalog?n=1&last=foo>; rel="next"`},
		{"?last=foo", `"foo/bar"`, ""},
		{"?n=0", ``, ""},
	}
	for _, test := range tests {
		a := s.do("GET", "/v2/_catalog"+test.query, "").want(t, http.StatusOK).wantHeaders(t, "Link", test.link)
		qt.Check(t, qt.Equals(a.body, `{"repositories":[`+test.repos+`]}`), qt.Commentf("%s", test.query))
	}
	s.do("GET", "/v2/_catalog?n=x", "").wantError(t, http.StatusBadRequest, "UNKNOWN", "query parameter n is not a valid integer")
}
