package ociweb_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociweb"
)

// repositoriesOf returns the repositories that a list shows, in order.
func repositoriesOf(a answer) (repos []string) {
	for _, link := range a.links {
		if repo, ok := strings.CutPrefix(link, "./r/"); ok {
			repos = append(repos, repo)
		}
	}
	return repos
}

// tagsOf returns the tags that a list shows, in order.
func tagsOf(a answer) (tags []string) {
	for _, link := range a.links {
		if _, tag, ok := strings.Cut(link, ":"); ok && !strings.Contains(link, "@") {
			tags = append(tags, tag)
		}
	}
	return tags
}

// next returns the path of the next page, or "".
func next(a answer) string {
	m := regexp.MustCompile(`rel="next" href="[./]+/([^"]*)"`).FindStringSubmatch(a.body)
	if m == nil {
		return ""
	}
	return "/" + strings.ReplaceAll(m[1], "&amp;", "&")
}

func TestRepositories_ComeInPagesAndAreFound(t *testing.T) {
	t.Parallel()
	c := newContent(t, "")
	var all []string
	for i := range 250 {
		c.repo = fmt.Sprintf("team-%d/app-%03d", i%2, i)
		c.manifest("text/plain", "x", "v1")
		all = append(all, c.repo)
	}
	slices.Sort(all)
	for _, test := range []struct {
		opts  ociweb.Options
		q     string
		pages int
	}{
		{ociweb.Options{}, "", 3},
		{ociweb.Options{}, "TEAM-1", 2},
		{ociweb.Options{}, "9", 1},
		{ociweb.Options{MaxNames: 70}, "", 4},
		{ociweb.Options{MaxNames: 70}, "team-1", 4},
		{ociweb.Options{MaxNames: 70}, "nothing", 4},
	} {
		h := ociweb.New(c.reg, &test.opts)
		var want, got []string
		for _, repo := range all {
			if strings.Contains(repo, strings.ToLower(test.q)) {
				want = append(want, repo)
			}
		}
		pages := 0
		for path := "/?q=" + test.q; path != ""; pages++ {
			a := page(t, h, path)
			got = append(got, slices.DeleteFunc(repositoriesOf(a), func(s string) bool { return s == test.q })...) // that is to be opened
			path = next(a)
		}
		qt.Check(t, qt.DeepEquals(got, want), qt.Commentf("%+v", test))
		qt.Check(t, qt.Equals(pages, test.pages), qt.Commentf("%+v", test))
	}
}

func TestTags_AreInTheOrderOfVersions(t *testing.T) {
	t.Parallel()
	c := newContent(t, "foo")
	signature := "sha256-" + strings.Repeat("0", 64) + ".sig"
	c.manifest("text/plain", "x", "1.9", "1.10.0", "1.10.0-rc.1", "v2", "latest", "main", "build-9", "build-10", signature)
	h := ociweb.New(c.reg, nil)
	for path, want := range map[string][]string{
		"/r/foo":                {"latest", "v2", "1.10.0", "1.10.0-rc.1", "1.9", "main", "build-10", "build-9", signature},
		"/r/foo?sort=version":   {"latest", "v2", "1.10.0", "1.10.0-rc.1", "1.9", "main", "build-10", "build-9", signature},
		"/r/foo?q=BUILD":        {"build-10", "build-9"},
		"/r/foo?q=1.":           {"1.10.0", "1.10.0-rc.1", "1.9"},
		"/r/foo?q=nothing":      nil,
		"/r/foo?sort=name&q=1.": {"1.10.0", "1.10.0-rc.1", "1.9"},
	} {
		qt.Check(t, qt.DeepEquals(tagsOf(page(t, h, path)), want), qt.Commentf("%s", path))
	}
}

func TestTags_ComeInPagesOfTheirOrder(t *testing.T) {
	t.Parallel()
	c := newContent(t, "foo")
	var tags []string
	for i := range 120 {
		tags = append(tags, fmt.Sprintf("1.%d", i))
	}
	c.manifest("text/plain", "x", tags...)
	byName := slices.Sorted(slices.Values(tags))
	slices.Reverse(tags)
	for _, test := range []struct {
		opts ociweb.Options
		path string
		want []string
		note string
	}{
		{ociweb.Options{}, "/r/foo", tags, "1–50 of 120 tags"},
		{ociweb.Options{MaxNames: 120}, "/r/foo", tags, "1–50 of 120 tags"},
		{ociweb.Options{Remote: true}, "/r/foo", tags, "1–50 of 120 tags"},
		{ociweb.Options{MaxNames: 119}, "/r/foo", byName, "This repository has more than 119 tags. They are in the order of their names."},
	} {
		h := ociweb.New(c.reg, &test.opts)
		var got []string
		qt.Check(t, qt.StringContains(page(t, h, test.path).body, test.note))
		for path := test.path; path != ""; {
			a := page(t, h, path)
			got = append(got, tagsOf(a)...)
			path = next(a)
		}
		qt.Check(t, qt.DeepEquals(got, test.want), qt.Commentf("%+v", test))
	}
	a := page(t, ociweb.New(c.reg, nil), "/r/foo?page=1000000")
	qt.Check(t, qt.StringContains(a.body, "101–120 of 120 tags"))
}

func TestTags_CanBeInTheOrderOfTimeAndSize(t *testing.T) {
	t.Parallel()
	c := newContent(t, "foo")
	for i, day := range []string{"2024-03-01", "2024-01-01", "2024-02-01"} {
		c.image(`{"os":"linux","architecture":"amd64","created":"`+day+`T00:00:00Z"}`, []ociregistry.Descriptor{layer(day, int64(1000<<(4*i)))}, fmt.Sprintf("v%d", i))
	}
	c.manifest("text/plain", "x", "none")
	h := ociweb.New(c.reg, nil)
	for order, want := range map[string][]string{
		"version": {"v2", "v1", "v0", "none"},
		"newest":  {"v0", "v2", "v1", "none"},
		"size":    {"v2", "v1", "v0", "none"},
		"name":    {"none", "v0", "v1", "v2"},
	} {
		a := page(t, h, "/r/foo?sort="+order)
		qt.Check(t, qt.DeepEquals(tagsOf(a), want), qt.Commentf("%s", order))
		qt.Check(t, qt.StringContains(a.body, `aria-current="true">`+order))
		qt.Check(t, qt.Matches(a.body, `(?s).*:v0">v0</a> <span class="badge">newest</span>.*`))
		qt.Check(t, qt.Equals(strings.Count(a.body, "badge"), 1))
	}
	for i := range 200 {
		c.manifest("text/plain", "x", fmt.Sprintf("more-%d", i))
	}
	a := page(t, h, "/r/foo?sort=newest")
	qt.Check(t, qt.StringContains(a.body, `aria-current="true">version`))
	qt.Check(t, qt.Not(qt.StringContains(a.body, ">newest</a>")))
	qt.Check(t, qt.StringContains(a.body, "Up to 200 tags can be ordered by time and size: search for fewer."))
	a = page(t, h, "/r/foo?q=v&sort=newest")
	qt.Check(t, qt.StringContains(a.body, `aria-current="true">newest`))
	qt.Check(t, qt.Not(qt.StringContains(a.body, "search for fewer")))
}

func TestTags_SayWhatTheyPointAt(t *testing.T) {
	t.Parallel()
	c := newContent(t, "foo")
	config := `{"os":"linux","architecture":"arm64","variant":"v8","created":"2024-05-06T07:08:09Z"}`
	image := c.image(config, []ociregistry.Descriptor{layer("a", 12_345_678)}, "image")
	attestation := c.artifact("", nil, nil)
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	c.index([]ociregistry.Descriptor{on(image, "windows", "arm64"), on(image, "linux", "amd64"), on(attestation, "unknown", "unknown")}, "index")
	c.index(nil, "empty")
	c.artifact("application/vnd.cncf.helm.config.v1+json", nil, map[string]string{"org.opencontainers.image.created": "2024-06-06T07:08:09Z"}, "chart")
	c.manifest("text/x-foreign", "hello", "foreign")
	a := page(t, ociweb.New(c.reg, nil), "/r/foo")
	for tag, want := range map[string][]string{
		"image":   {"linux/arm64", "12\u00a0MB", `datetime="2024-05-06T07:08:09Z"`},
		"index":   {"linux/amd64</span> <span>windows/arm64", "12\u00a0MB", `datetime="2024-05-06T07:08:09Z"`},
		"empty":   {"Index"},
		"chart":   {"Helm chart", "2\u00a0B", `datetime="2024-06-06T07:08:09Z"`},
		"foreign": {"text/x-foreign"},
	} {
		_, row, _ := strings.Cut(a.body, ">"+tag+"</a>")
		row, _, _ = strings.Cut(row, "</tr>")
		for _, text := range want {
			qt.Check(t, qt.StringContains(row, text), qt.Commentf("%s", tag))
		}
		qt.Check(t, qt.Not(qt.StringContains(row, "unknown")))
	}
	a = page(t, ociweb.New(c.reg, &ociweb.Options{Remote: true}), "/r/foo")
	qt.Check(t, qt.DeepEquals(tagsOf(a), []string{"index", "image", "foreign", "empty", "chart"}))
	qt.Check(t, qt.Not(qt.StringContains(a.body, "linux")))
}
