package serve

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociserver"
)

// fetch returns the status and the body of a GET.
func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	qt.Assert(t, qt.IsNil(err))
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	qt.Assert(t, qt.IsNil(err))
	return resp.StatusCode, string(body)
}

// pushText pushes a manifest.
func pushText(t *testing.T, url, repo, tag string) {
	t.Helper()
	req, err := http.NewRequest("PUT", url+"/"+repo+"/manifests/"+tag, strings.NewReader("hello"))
	qt.Assert(t, qt.IsNil(err))
	req.Header.Set("Content-Type", "text/x-hello")
	resp, err := http.DefaultClient.Do(req)
	qt.Assert(t, qt.IsNil(err))
	resp.Body.Close()
	qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusCreated))
}

// Pages are beside the API and /healthz, and take no path of theirs.
func TestPages_AreAtTheRoot(t *testing.T) {
	t.Parallel()
	url, log, stop := start(t)
	root := strings.TrimSuffix(url, "v2")
	pushText(t, url, "v2/healthz", "v1")
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"":                        {200, `<a href="./r/v2/healthz">`},
		"r/v2/healthz":            {200, "text/x-hello"},
		"r/v2/healthz:v1":         {200, "Signatures"},
		"v2":                      {200, ""},
		"v2/":                     {200, ""},
		"v2/healthz/tags/list":    {404, "NAME_UNKNOWN"},
		"v2/v2/healthz/tags/list": {200, `"v1"`},
		"healthz":                 {200, "ok"},
		"v2x":                     {404, "There is no such page."},
		"nonsense":                {404, "There is no such page."},
	} {
		status, body := fetch(t, root+path)
		qt.Check(t, qt.Equals(status, want.status), qt.Commentf("/%s: %s", path, body))
		qt.Check(t, qt.StringContains(body, want.text), qt.Commentf("/%s", path))
	}
	qt.Assert(t, qt.Equals(stop(), 0))
	qt.Check(t, qt.StringContains(log.String(), "method=GET path=/r/v2/healthz:v1"))
}

func TestPages_CanBeTurnedOff(t *testing.T) {
	t.Parallel()
	url, _, _ := start(t, "-web=false")
	status, body := fetch(t, strings.TrimSuffix(url, "v2"))
	qt.Check(t, qt.Equals(status, http.StatusNotFound))
	qt.Check(t, qt.Equals(body, `{"errors":[{"code":"UNKNOWN","message":"page not found"}]}`))
}

// The tags of directories are shown with what they point at. A proxy and a cache are not made to
// ask for that.
func TestPages_AreThoseOfEachKindOfRegistry(t *testing.T) {
	t.Parallel()
	o := startOrigin(t, ociserver.New(ocimem.New(), nil))
	pushText(t, o.URL+"/v2", "app", "v1")
	directory := t.TempDir()
	for _, test := range []struct {
		args   []string
		repo   string
		remote bool
	}{
		{nil, "app", false},
		{[]string{"-dir", directory}, "app", false},
		{[]string{"-layout", directory + "/app", "-repo", "b"}, "b", false},
		{[]string{"-proxy", o.URL}, "app", true},
		{[]string{"-cache", o.URL}, "app", true},
		{[]string{"-cache", o.URL, "-dir", t.TempDir(), "-whole", "all"}, "app", true},
	} {
		url, _, stop := start(t, test.args...)
		if test.repo == "app" && !test.remote {
			pushText(t, url, "app", "v1")
		}
		root := strings.TrimSuffix(url, "v2")
		status, body := fetch(t, root)
		qt.Check(t, qt.Equals(status, 200))
		qt.Check(t, qt.StringContains(body, `<a href="./r/`+test.repo+`">`), qt.Commentf("%v", test.args))
		o.asked()
		status, body = fetch(t, root+"r/"+test.repo)
		qt.Check(t, qt.Equals(status, 200))
		qt.Check(t, qt.StringContains(body, ":v1"))
		qt.Check(t, qt.Equals(strings.Contains(body, "text/x-hello"), !test.remote), qt.Commentf("%v: %s", test.args, body))
		for _, request := range o.asked() {
			qt.Check(t, qt.Not(qt.StringContains(request, "/manifests/")), qt.Commentf("%v", test.args))
		}
		status, body = fetch(t, root+"r/"+test.repo+":v1")
		qt.Check(t, qt.Equals(status, 200))
		qt.Check(t, qt.StringContains(body, "text/x-hello"))
		qt.Check(t, qt.Equals(stop(), 0))
	}
}
