package ociweb_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociweb"
)

// everything pushes at least one of everything that pages show.
func everything(c content) {
	config := `{"os":"linux","architecture":"amd64","created":"2024-05-06T07:08:09Z","config":{"Labels":{"a":"b"}},"history":[{"created_by":"ADD x"}]}`
	for _, repo := range []string{"v2/healthz", "style.css", "a", "r/r", "json/a__b-c.d", "compare/compare"} {
		c.repo = repo
		amd64 := c.image(config, []ociregistry.Descriptor{layer("base", 5_000_000)}, "1.0-amd64")
		arm64 := c.image(config, []ociregistry.Descriptor{layer("base", 5_000_000), layer("arm", 70)})
		missing := on(layer("missing", 100), "linux", "s390x")
		missing.MediaType = ocispec.MediaTypeImageManifest
		inner := c.index([]ociregistry.Descriptor{on(arm64, "linux", "arm64")})
		index := c.index([]ociregistry.Descriptor{on(amd64, "linux", "amd64"), on(arm64, "linux", "arm64"), missing, inner}, "1.0", "latest")
		c.index([]ociregistry.Descriptor{on(arm64, "linux", "amd64")}, "1.1")
		signature := c.artifact("application/vnd.cncf.notary.signature", &index, map[string]string{"x": "https://example.com/"})
		c.artifact("application/spdx+json", &signature, nil)
		gone := layer("gone", 3)
		c.artifact("application/x", &gone, nil, "orphan")
		c.manifest("text/html; charset=utf-8", "<script>alert(1)</script>", "page")
		c.artifact("", nil, nil, "sha256-"+index.Digest.Encoded()+".sig", "_", "A.b-c_d")
	}
	for i := range 70 {
		c.repo = "many"
		c.manifest("text/plain", "x", "tag-"+strings.Repeat("0", i))
		c.repo = "z/" + strings.Repeat("z", i+1)
		c.manifest("text/plain", "x", "v1")
	}
}

// crawl follows all links from one page on, and returns how many pages there are.
func crawl(t *testing.T, client *http.Client, start string) int {
	t.Helper()
	first, err := url.Parse(start)
	qt.Assert(t, qt.IsNil(err))
	todo, seen := []*url.URL{first}, map[string]bool{start: true}
	for n := 0; n < len(todo); n++ {
		resp, err := client.Get(todo[n].String())
		qt.Assert(t, qt.IsNil(err))
		a := checked(t, resp)
		qt.Assert(t, qt.Equals(a.status, http.StatusOK), qt.Commentf("%s: %s", todo[n], a.body))
		for _, link := range a.links {
			to, err := todo[n].Parse(link)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsTrue(strings.HasPrefix(to.String(), start)), qt.Commentf("%s on %s", link, todo[n]))
			if !seen[to.String()] {
				seen[to.String()] = true
				todo = append(todo, to)
			}
		}
	}
	return len(todo)
}

func TestPages_HaveOnlyLinksThatResolve(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, prefix string
		opts         ociweb.Options
		reg          func(t *testing.T) ociregistry.Interface
	}{
		{"memory", "", ociweb.Options{}, func(t *testing.T) ociregistry.Interface {
			return ocimem.NewWithConfig(&ocimem.Config{Sparse: true})
		}},
		{"directory behind a prefix", "/some/prefix", ociweb.Options{}, func(t *testing.T) ociregistry.Interface {
			reg, err := ocifs.New(t.TempDir(), &ocifs.Options{Sparse: true, NoSync: true})
			qt.Assert(t, qt.IsNil(err))
			t.Cleanup(func() { reg.Close() })
			return reg
		}},
		{"few names at a time", "", ociweb.Options{MaxNames: 60}, func(t *testing.T) ociregistry.Interface {
			return ocimem.NewWithConfig(&ocimem.Config{Sparse: true})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := content{t, test.reg(t), ""}
			everything(c)
			srv := httptest.NewServer(http.StripPrefix(test.prefix, ociweb.New(c.reg, &test.opts)))
			defer srv.Close()
			n := crawl(t, srv.Client(), srv.URL+test.prefix+"/")
			qt.Check(t, qt.IsTrue(n > 150), qt.Commentf("%d pages", n))
		})
	}
}

// Of an index in another registry, nobody asks which manifests are there.
func TestPages_OfARemoteRegistryLinkToWhatItNames(t *testing.T) {
	t.Parallel()
	c := newContent(t, "foo")
	missing := on(layer("missing", 100), "linux", "s390x")
	missing.MediaType = ocispec.MediaTypeImageManifest
	c.index([]ociregistry.Descriptor{missing}, "v1")
	link := "../r/foo@" + string(missing.Digest)
	qt.Check(t, qt.SliceContains(page(t, ociweb.New(c.reg, &ociweb.Options{Remote: true}), "/r/foo:v1").links, link))
	qt.Check(t, qt.Not(qt.SliceContains(page(t, ociweb.New(c.reg, nil), "/r/foo:v1").links, link)))
}

func TestPrefix_WithoutASlashLeadsToTheFirstPage(t *testing.T) {
	t.Parallel()
	c := newContent(t, "foo")
	c.manifest("text/plain", "x", "v1")
	srv := httptest.NewServer(http.StripPrefix("/some/prefix", ociweb.New(c.reg, nil)))
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL + "/some/prefix")
	qt.Assert(t, qt.IsNil(err))
	a := checked(t, resp)
	qt.Check(t, qt.Equals(a.status, http.StatusOK))
	qt.Check(t, qt.Equals(resp.Request.URL.Path, "/some/prefix/"))
	qt.Check(t, qt.SliceContains(a.links, "./r/foo"))
}
