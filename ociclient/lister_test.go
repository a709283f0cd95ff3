package ociclient_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
)

const tagsURL = "GET /v2/foo/tags/list"

// tagList returns the response with a list of tags.
func tagList(tags ...string) string {
	data, _ := json.Marshal(map[string]any{"name": "foo", "tags": tags})
	return string(data)
}

func TestPagesAreFollowed(t *testing.T) {
	t.Parallel()
	page := func(on, link string, tags ...string) rule {
		return rule{On: tagsURL + on, Status: 200, Set: header{"Link": link}, Answer: tagList(tags...)}
	}
	all := []string{"a", "b", "c", "d", "e"}
	tests := []struct {
		name  string
		rules []rule // for n=2
		after string
		want  []string
		err   string
	}{
		{name: "one page", rules: []rule{page("?n=2$", "", "a")}, want: []string{"a"}},
		{name: "none", rules: []rule{page("?n=2$", "")}, want: nil},
		{name: "null", rules: []rule{{On: tagsURL, Status: 200, Answer: `{"tags":null}`}}, want: nil},
		{name: "links", rules: []rule{
			page("?n=2$", `</v2/foo/tags/list?next=1&n=2>; rel="next"`, "a", "b"),
			page("?next=1&n=2$", `<?next=2>; title="x, <y>; rel=next"; REL=prev, <list?next=3>; rel="prev next"`, "c", "d"),
			page("?next=3$", "", "e"),
		}, want: all},
		{name: "a relative link", rules: []rule{page("?n=2$", `<list?next=1>;rel=next`, "a", "b"), page("?next=1$", "", "c")}, want: all[:3]},
		{name: "a link of other relation", rules: []rule{page("?n=2$", `<?next=1>; rel="prev"`, "a")}, want: all[:1]},
		{name: "one of several relations", rules: []rule{page("?n=2$", `<?x>; rel=prev, <?next=1>; rel="last next"`, "a", "b"), page("?next=1$", "", "c")}, want: all[:3]},
		{name: "an empty page with a link", rules: []rule{page("?n=2$", `<?next=1>;rel=next`), page("?next=1$", "", "c")}, want: all[2:3]},
		{name: "links after links end", rules: []rule{page("?n=2$", `<?next=1>;rel=next`, "a", "b"), page("?next=1$", "", "c")}, want: all[:3]},
		{name: "last", rules: []rule{page("?n=2$", "", "a", "b"), page("?n=2&last=b$", "", "c", "d"), page("?n=2&last=d$", "", "e")}, want: all},
		{name: "last, and a full page at the end", rules: []rule{page("?n=2$", "", "a", "b"), page("?n=2&last=b$", "")}, want: all[:2]},
		{name: "last after a link", rules: []rule{page("?n=2$", `<?next=1>;rel=next`, "a", "b"), page("?next=1$", "", "c", "d"), page("?n=2&last=d$", "", "e")}, want: all},
		{name: "last is ignored", rules: []rule{page("?n=2", "", "a", "b")}, want: all[:2]},
		{name: "n is ignored", rules: []rule{page("?n=2$", "", all...)}, want: all},
		{name: "n and last are ignored", rules: []rule{page("?n=2", "", all...)}, after: "b", want: all[2:]},
		{name: "after", rules: []rule{page("?n=2&last=b$", "", "c", "d"), page("?n=2&last=d$", "", "e")}, after: "b", want: all[2:]},
		{name: "an order of its own", rules: []rule{page("?n=2$", "", "b", "a"), page("?n=2&last=a$", "", "c")}, want: all[:3]},
		{name: "names that cannot be", rules: []rule{page("?n=2$", "", "a", "../x", "b", "")}, want: all[:2]},
		{name: "a circle", rules: []rule{page("?n=2$", `<?next=1>;rel=next`, "a", "b"), page("?next=1$", `<?n=2>;rel=next`, "c", "d")}, want: all[:2], err: "loop"},
		{name: "a page that is its own next", rules: []rule{page("?n=2$", `<?n=2>;rel=next`, "a", "b")}, err: "loop"},
		{name: "another host", rules: []rule{page("?n=2$", `<http://elsewhere.test/v2/foo/tags/list?n=2>;rel=next`, "a", "b")}, err: "another host"},
		{name: "another scheme", rules: []rule{page("?n=2$", `<https:/v2/foo/tags/list>;rel=next`, "a", "b")}, err: "another host"},
		{name: "no URL", rules: []rule{page("?n=2$", `<%zz>;rel=next`, "a", "b")}, err: "not a URL"},
		{name: "no list", rules: []rule{{On: tagsURL, Status: 200, Answer: `<html>`}}, err: "not a list"},
		{name: "too long", rules: []rule{{On: tagsURL, Status: 200, Handler: func(w http.ResponseWriter, _ *http.Request) {
			for blank := []byte(strings.Repeat(" ", 1<<10)); ; {
				if _, err := w.Write(blank); err != nil {
					return
				}
			}
		}}}, err: "larger than the limit of 20000 bytes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			srv := faultserver.New(t, nil, test.rules...)
			reg := clientOf(t, srv, ociclient.Options{ListPageSize: 2, MaxManifestSize: 20000}, newClock())
			var got []string
			var err error
			for tag, e := range reg.Tags(ctx, "foo", test.after) {
				if err = e; err != nil {
					break
				}
				got = append(got, tag)
			}
			if test.err != "" {
				qt.Check(t, qt.ErrorMatches(err, ".*"+test.err+".*"))
			} else {
				qt.Check(t, qt.IsNil(err))
			}
			qt.Assert(t, qt.DeepEquals(got, test.want))
		})
	}
}

func TestPageSizeHasDefault(t *testing.T) {
	t.Parallel()
	var all []string
	for i := range 2500 {
		all = append(all, fmt.Sprintf("r%04d", i))
	}
	srv := faultserver.New(t, nil, rule{On: "GET /v2/_catalog", Handler: func(w http.ResponseWriter, req *http.Request) {
		q, _ := url.ParseQuery(req.URL.RawQuery)
		n, _ := strconv.Atoi(q.Get("n"))
		from, found := slices.BinarySearch(all, q.Get("last"))
		if found {
			from++
		}
		json.NewEncoder(w).Encode(map[string]any{"repositories": all[from:min(from+n, len(all))]})
	}})
	reg := clientOf(t, srv, ociclient.Options{}, newClock())
	got, err := ociregistry.All(reg.Repositories(ctx, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(got, all))
	qt.Assert(t, qt.DeepEquals(srv.Lines(), []string{
		"GET /v2/_catalog?n=1000", "GET /v2/_catalog?n=1000&last=r0999", "GET /v2/_catalog?n=1000&last=r1999",
	}))

	// A caller that stops early has caused no further requests.
	for range reg.Repositories(ctx, "") {
		break
	}
	qt.Assert(t, qt.HasLen(srv.Lines(), 1))
}
