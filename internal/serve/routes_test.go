package serve

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociserver"
)

// clientOf returns a client of what is served at a URL.
func clientOf(t *testing.T, url string) ociregistry.Interface {
	t.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	host := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/v2")
	reg, err := ociclient.New(host, &ociclient.Options{Insecure: true, Transport: transport})
	qt.Assert(t, qt.IsNil(err))
	return reg
}

func testImage(seed uint64) *ocitest.Artifact {
	return ocitest.NewImage(ocitest.Spec{Seed: seed, Layers: []int64{100, 20_000}})
}

// Repositories are where the longest prefix leads, in the catalog they are one registry, and a
// mount goes across.
func TestRoutes_LeadRepositoriesToTheirStores(t *testing.T) {
	t.Parallel()
	whole, stripped := t.TempDir(), t.TempDir()
	url, _, stop := start(t,
		"-route", "team/=dir:"+whole+";no-sync", "-route", "team/own/=dir:"+stripped+";strip;no-sync;immutable",
		"-gc-interval", "1h")
	reg := clientOf(t, url)
	image := testImage(1)
	for _, repo := range []string{"app", "team/app", "team/own/app"} {
		qt.Assert(t, qt.IsNil(image.Push(t.Context(), reg, repo, "v1")))
		qt.Check(t, qt.IsNil(image.Verify(t.Context(), reg, repo)))
	}
	_, err := reg.MountBlob(t.Context(), "team/app", "team/own/other", image.Blobs[0].Descriptor.Digest)
	qt.Check(t, qt.IsNil(err))
	names, err := ociregistry.All(reg.Repositories(t.Context(), ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(names, []string{"app", "team/app", "team/own/app", "team/own/other"}))
	_, err = reg.PushManifest(t.Context(), "team/own/app", "v1", testImage(2).Manifest, image.Descriptor.MediaType)
	qt.Check(t, qt.IsNotNil(err)) // its own settings hold there
	qt.Assert(t, qt.Equals(stop(), 0))

	for dir, want := range map[string][]string{whole: {"team/app"}, stripped: {"app", "other"}} {
		r, err := ocifs.New(dir, &ocifs.Options{ReadOnly: true})
		qt.Assert(t, qt.IsNil(err))
		names, err := ociregistry.All(r.Repositories(t.Context(), ""))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(names, want))
		qt.Check(t, qt.IsNil(r.Close()))
	}
}

// Without memory, a directory or the like for the rest, there is nothing else.
func TestRoutes_CanBeAllThereIs(t *testing.T) {
	t.Parallel()
	url, _, _ := start(t, "-mem=false", "-route", "team/=mem:")
	reg := clientOf(t, url)
	image := testImage(1)
	qt.Check(t, qt.IsNil(image.Push(t.Context(), reg, "team/app", "v1")))
	qt.Check(t, qt.ErrorIs(image.Push(t.Context(), reg, "app", "v1"), error(ociregistry.ErrNameUnknown)))
}

// Requests with the parameter ns go to the store for that host, and to no other host.
func TestNamespaces_AreThoseThatAreConfigured(t *testing.T) {
	t.Parallel()
	origins := make(map[string]string)
	for seed, host := range []string{"docker.io", "quay.io"} {
		r := ocimem.New()
		qt.Assert(t, qt.IsNil(testImage(uint64(seed)).Push(t.Context(), r, "app", "v1")))
		srv := httptest.NewServer(ociserver.New(r, nil))
		t.Cleanup(srv.Close)
		origins[host] = srv.URL
	}
	url, _, _ := start(t, "-ns", "docker.io=cache:"+origins["docker.io"], "-ns", "quay.io=proxy:"+origins["quay.io"])
	for seed, host := range []string{"docker.io", "quay.io"} {
		got, status := getText(t, url+"/app/manifests/v1?ns="+host)
		qt.Check(t, qt.Equals(status, http.StatusOK))
		qt.Check(t, qt.Equals(got, string(testImage(uint64(seed)).Manifest)))
	}
	for _, ns := range []string{"?ns=ghcr.io", ""} {
		_, status := getText(t, url+"/app/manifests/v1"+ns)
		qt.Check(t, qt.Equals(status, http.StatusNotFound))
	}
}

func getText(t *testing.T, url string) (body string, status int) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	qt.Assert(t, qt.IsNil(err))
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	qt.Assert(t, qt.IsNil(err))
	return string(text), resp.StatusCode
}

func TestPathPrefix_IsThatOfAllPathsButTheHealths(t *testing.T) {
	t.Parallel()
	url, _, _ := start(t, "-path-prefix", "/some/registry")
	qt.Assert(t, qt.StringContains(url, "/some/registry/v2"))
	root, _, _ := strings.Cut(url, "/some")
	for path, want := range map[string]int{
		"/some/registry/v2/": http.StatusOK, "/some/registry/v2/_catalog": http.StatusOK, "/some/registry/": http.StatusOK,
		"/healthz": http.StatusOK, "/v2/": http.StatusNotFound, "/": http.StatusNotFound,
	} {
		_, status := getText(t, root+path)
		qt.Check(t, qt.Equals(status, want), qt.Commentf("%s", path))
	}
}

func TestRoutes_RefuseWhatTheyCannotMean(t *testing.T) {
	t.Parallel()
	s, _ := newShelf(t)
	for _, test := range []struct {
		args []string
		err  string
	}{
		{[]string{"-route", "team=mem:"}, "no prefix such as team/"},
		{[]string{"-route", "/=mem:"}, "no prefix such as team/"},
		{[]string{"-route", "Team/=mem:"}, "no prefix such as team/"},
		{[]string{"-route", "team/"}, "it leads nowhere"},
		{[]string{"-route", "team/=:x"}, "it leads nowhere"},
		{[]string{"-route", "team/=disc:x"}, "flag provided but not defined: -disc"},
		{[]string{"-route", "team/=dir:"}, "-dir needs a path"},
		{[]string{"-route", "team/=dir:x;read-only;no-sync"}, "exclude each other"},
		{[]string{"-route", "team/=mem:;addr=x"}, "flag provided but not defined: -addr"},
		{[]string{"-route", "team/=shelf:top;redirect=x"}, "flag provided but not defined: -redirect"},
		{[]string{"-ns", "docker.io"}, "it leads nowhere"},
		{[]string{"-ns", "a b=mem:"}, "no host"},
		{[]string{"-ns", "docker.io=mem:", "-ns", "docker.io=mem:"}, "given twice"},
		{[]string{"-ns", "docker.io=mem:;strip"}, "strip is for -route"},
		{[]string{"-mem=false"}, "leaves nothing to serve"},
		{[]string{"-mem=false", "-ns", "docker.io=mem:"}, "leaves nothing to serve"},
		{[]string{"-redirect", "x"}, "-redirect is for -shelf"},
		{[]string{"-path-prefix", "x"}, "not a path"},
		{[]string{"-path-prefix", "/"}, "not a path"},
		{[]string{"-path-prefix", "/x/"}, "not a path"},
		{[]string{"-path-prefix", "/x y"}, "not a path"},
		{[]string{"-proxy", "example.com", "-route", "team/=cache:example.com", "-gc-interval", "1h"}, "-gc-interval is not for"},
	} {
		_, err := Program{Storages: []Storage{s.storage()}}.parseFlags(test.args, io.Discard)
		qt.Check(t, qt.ErrorMatches(err, "(?s).*"+test.err+".*"), qt.Commentf("%v", test.args))
	}
	_, err := Program{Storages: []Storage{s.storage()}}.parseFlags([]string{"-redirect", "x", "-route", "team/=shelf:top?a;immutable", "-proxy", "example.com", "-gc-interval", "1h"}, io.Discard)
	qt.Check(t, qt.IsNil(err))
}

// A route to storage that sends clients elsewhere does, by the names that the storage has.
func TestRoutes_RedirectAsTheirStoresDo(t *testing.T) {
	t.Parallel()
	s, image := newShelf(t)
	url, _, _ := startWith(t, Program{Storages: []Storage{s.storage()}}, "-route", "team/=shelf:top;strip", "-redirect", "http://elsewhere/")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	digest := string(image.Blobs[0].Descriptor.Digest)
	resp, err := client.Get(url + "/team/app/blobs/" + digest)
	qt.Assert(t, qt.IsNil(err))
	resp.Body.Close()
	qt.Check(t, qt.Equals(resp.Header.Get("Location"), "http://elsewhere/app/"+digest))
	_, status := getText(t, url+"/app/blobs/"+digest)
	qt.Check(t, qt.Equals(status, http.StatusNotFound))
}
