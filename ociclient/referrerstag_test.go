package ociclient_test

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

const index = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`

var indexDigest = digest.FromString(index)

const (
	signature = "application/vnd.test.signature"
	sbom      = "application/vnd.test.sbom"
)

func TestReferrersAreListedByTagWithoutAPI(t *testing.T) {
	t.Parallel()
	a, b := referrer("a", signature), referrer("b", sbom)
	list := indexOf("", descJSON(a), descJSON(b))
	byTag := rule{On: "GET " + manifests + strings.Replace(string(contentDigest), ":", "-", 1), Status: 200, Set: header{"Content-Type": imageIndex}, Answer: list}
	tests := []struct {
		name string
		rule rule
		want string // "tag", "empty", or part of an error
	}{
		{"404", rule{Status: 404}, "tag"},
		{"404 with another code", rule{Status: 404, Answer: `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`}, "tag"},
		{"404 of the repository", rule{Status: 404, Answer: `{"errors":[{"code":"NAME_UNKNOWN"}]}`}, "empty"},
		{"400", rule{Status: 400}, "tag"},
		{"405", rule{Status: 405}, "tag"},
		{"406", rule{Status: 406}, "tag"},
		{"HTML", rule{Status: 200, Set: header{"Content-Type": "text/html"}, Answer: "<html>"}, "tag"},
		{"another JSON", rule{Status: 200, Answer: `{"tags":[]}`}, "tag"},
		{"a manifest", rule{Status: 200, Answer: `{"schemaVersion":2,"mediaType":"` + imageManifest + `"}`}, "tag"},
		{"500", rule{Status: 500}, "500"},
		{"503", rule{Status: 503}, "503"},
		{"401", rule{Status: 401}, "401"},
		{"403", rule{Status: 403}, "403"},
		{"parameters", rule{Status: 200, Set: header{"Content-Type": imageIndex + "; charset=utf-8"}, Answer: list}, "API"},
		{"application/json", rule{Status: 200, Set: header{"Content-Type": "application/json"}, Answer: list}, "API"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.rule.On = "GET /v2/foo/referrers/"
			reg, srv := scripted(t, test.rule, byTag)
			referrers := func() ([]ociregistry.Descriptor, error) {
				return ociregistry.All(reg.Referrers(ctx, "foo", contentDigest, signature))
			}
			got, err := referrers()
			asked := len(srv.Requests("GET /v2/foo/referrers/"))
			switch test.want {
			case "tag", "API":
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.DeepEquals(names(got), names([]ociregistry.Descriptor{a})))
			case "empty":
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.HasLen(got, 0))
			default:
				qt.Assert(t, qt.ErrorMatches(err, ".*"+test.want+".*"))
			}
			// The next call shows whether the state has changed.
			srv.Lines()
			_, err = referrers()
			lines := srv.Lines()
			if test.want == "tag" {
				qt.Assert(t, qt.Equals(asked, 1))
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.HasLen(lines, 1))
				qt.Assert(t, qt.StringContains(lines[0], "/manifests/"))
			} else {
				qt.Assert(t, qt.StringContains(lines[0], "/referrers/"))
			}
		})
	}
}

func TestAbsenceOfReferrersAPIIsRememberedForAWhile(t *testing.T) {
	t.Parallel()
	clock := newClock()
	srv := faultserver.New(t, nil,
		rule{On: "GET /v2/foo/referrers/", Times: 1, Status: 404},
		rule{On: "GET /v2/foo/referrers/", Status: 200, Answer: indexOf("")},
		rule{On: "GET " + manifests, Status: 404},
	)
	reg := clientOf(t, srv, ociclient.Options{}, clock)
	for _, want := range []string{"/referrers/ /manifests/", "/manifests/", "/referrers/"} {
		_, err := ociregistry.All(reg.Referrers(ctx, "foo", contentDigest, ""))
		qt.Assert(t, qt.IsNil(err))
		for i, line := range srv.Lines() {
			qt.Assert(t, qt.StringContains(line, strings.Fields(want)[i]))
		}
		if want == "/manifests/" {
			clock.Sleep(ctx, 11*60*1e9)
		}
	}
}

func TestReferrersPolicyAvoidsRequests(t *testing.T) {
	t.Parallel()
	for policy, want := range map[ociclient.ReferrersPolicy]string{ociclient.ReferrersAPI: "/referrers/", ociclient.ReferrersTag: "/manifests/"} {
		srv := faultserver.New(t, nil, rule{On: "GET ", Status: 404})
		reg := clientOf(t, srv, ociclient.Options{Referrers: policy}, newClock())
		_, err := ociregistry.All(reg.Referrers(ctx, "foo", contentDigest, ""))
		qt.Assert(t, qt.Equals(err == nil, policy == ociclient.ReferrersTag))
		lines := srv.Lines()
		qt.Assert(t, qt.HasLen(lines, 1))
		qt.Assert(t, qt.StringContains(lines[0], want))
	}
}

// withoutAPI returns a client of a registry without the referrers API that has a subject
// and an empty config, its server, and the subject.
func withoutAPI(t testing.TB, opts ociclient.Options, rules ...rule) (reg ociregistry.Interface, srv *faultserver.Server, subject ociregistry.Descriptor) {
	backend := ocimem.New()
	_, err := backend.PushBlob(ctx, "foo", blobDesc("{}"), strings.NewReader("{}"))
	qt.Assert(t, qt.IsNil(err))
	subject, err = backend.PushManifest(ctx, "foo", "", []byte(index), imageIndex)
	qt.Assert(t, qt.IsNil(err))
	srv = faultserver.New(t, ociserver.New(backend, &ociserver.Options{DisableReferrersAPI: true}), rules...)
	return clientOf(t, srv, opts, newClock()), srv, subject
}

// artifact returns a manifest with a subject. The type may be empty.
func artifact(artifactType, name string, subject ociregistry.Descriptor) []byte {
	typ := ""
	if artifactType != "" {
		typ = `"artifactType":"` + artifactType + `",`
	}
	return []byte(`{"schemaVersion":2,"mediaType":"` + imageManifest + `",` + typ + `"config":` + artifactConfig +
		`,"layers":[],"subject":{"mediaType":"` + imageIndex + `","digest":"` + string(subject.Digest) + `","size":` + strconv.FormatInt(subject.Size, 10) +
		`},"annotations":{"name":"` + name + `"}}`)
}

func TestReferrersTagFollowsPushesAndDeletes(t *testing.T) {
	t.Parallel()
	reg, srv, subject := withoutAPI(t, ociclient.Options{})
	tag := strings.Replace(string(subject.Digest), ":", "-", 1)
	list := func() []ociregistry.Descriptor {
		got, err := ociregistry.All(reg.Referrers(ctx, "foo", subject.Digest, ""))
		qt.Assert(t, qt.IsNil(err))
		return got
	}
	push := func(contents []byte) ociregistry.Descriptor {
		desc, err := reg.PushManifest(ctx, "foo", "", contents, imageManifest)
		qt.Assert(t, qt.IsNil(err))
		return desc
	}

	a := push(artifact(signature, "a", subject))
	qt.Assert(t, qt.Equals(srv.Requests("PUT " + manifests + tag)[0].Header.Get("If-None-Match"), "*"))
	qt.Assert(t, qt.DeepEquals(methods(srv.Lines()), []string{"PUT", "GET", "PUT"}))
	got := list()
	a.ArtifactType, a.Annotations = signature, map[string]string{"name": "a"}
	qt.Assert(t, qt.DeepEquals(got, []ociregistry.Descriptor{a}))

	b := push(artifact("", "b", subject)) // without a type of its own
	qt.Assert(t, qt.DeepEquals(methods(srv.Lines()[2:]), []string{"PUT", "GET", "PUT", "DELETE"}))
	got = list()
	qt.Assert(t, qt.HasLen(got, 2))
	for _, d := range got {
		if d.Digest == b.Digest {
			qt.Assert(t, qt.Equals(d.ArtifactType, "application/vnd.oci.empty.v1+json"))
		}
	}

	srv.Lines()
	push(artifact(signature, "a", subject)) // once more
	qt.Assert(t, qt.DeepEquals(methods(srv.Lines()), []string{"PUT", "GET"}))

	qt.Assert(t, qt.IsNil(reg.DeleteManifest(ctx, "foo", a.Digest)))
	qt.Assert(t, qt.DeepEquals(names(list()), names([]ociregistry.Descriptor{b})))
	_, err := reg.ResolveManifest(ctx, "foo", a.Digest)
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
	qt.Assert(t, qt.IsNil(reg.DeleteManifest(ctx, "foo", b.Digest)))
	qt.Assert(t, qt.HasLen(list(), 0))
	r, err := readAll(reg.GetTag(ctx, "foo", tag))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.StringContains(r, `"manifests":[]`))
}

// A change that another client makes at the same time stays.
func TestReferrersTagKeepsConcurrentChanges(t *testing.T) {
	t.Parallel()
	reg, srv, subject := withoutAPI(t, ociclient.Options{})
	tag := strings.Replace(string(subject.Digest), ":", "-", 1)
	other := clientOf(t, srv, ociclient.Options{}, newClock())
	for _, name := range []string{"a", "b"} { // without and with an existing list
		pushed := false
		srv.Script(rule{On: "PUT " + manifests + tag, Do: func(*http.Request) {
			if pushed {
				return
			}
			pushed = true
			_, err := other.PushManifest(ctx, "foo", "", artifact(sbom, name, subject), imageManifest)
			qt.Check(t, qt.IsNil(err))
		}})
		_, err := reg.PushManifest(ctx, "foo", "", artifact(signature, name, subject), imageManifest)
		qt.Assert(t, qt.IsNil(err))
	}
	got, err := ociregistry.All(reg.Referrers(ctx, "foo", subject.Digest, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(got, 4))
	qt.Assert(t, qt.HasLen(srv.Requests("PUT "+manifests+tag), 6)) // two of these were refused
}

// A weak entity tag never matches (RFC 9110, section 13.1.1).
func TestWeakETagIsNoCondition(t *testing.T) {
	t.Parallel()
	reg, srv, subject := withoutAPI(t, ociclient.Options{}, rule{On: "GET ", Set: header{"ETag": `W/"x"`}})
	for _, name := range []string{"a", "b"} {
		_, err := reg.PushManifest(ctx, "foo", "", artifact(signature, name, subject), imageManifest)
		qt.Assert(t, qt.IsNil(err))
	}
	for _, r := range srv.Requests("PUT ") {
		qt.Assert(t, qt.Equals(r.Header.Get("If-Match"), ""))
	}
}

// Pushes that come while the list is being written are written together.
func TestConcurrentChangesOfReferrersAreMerged(t *testing.T) {
	t.Parallel()
	const n = 10
	release := make(chan struct{})
	reg, srv, subject := withoutAPI(t, ociclient.Options{})
	tag := strings.Replace(string(subject.Digest), ":", "-", 1)
	srv.Script(rule{On: "GET " + manifests + tag, Times: 1, Wait: release})
	results := make(chan error, n)
	for i := range n {
		go func() {
			_, err := reg.PushManifest(ctx, "foo", "", artifact(signature, strconv.Itoa(i), subject), imageManifest)
			results <- err
		}()
	}
	ociclient.AwaitReferrers(reg, n)
	close(release)
	for range n {
		qt.Assert(t, qt.IsNil(<-results))
	}
	got, err := ociregistry.All(reg.Referrers(ctx, "foo", subject.Digest, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(got, n))
	qt.Assert(t, qt.IsTrue(len(srv.Requests("PUT "+manifests+tag)) <= 2))
}

// A caller that is cancelled before its turn does not lose the others' changes.
func TestCancelledChangeOfReferrersLosesNoOthers(t *testing.T) {
	t.Parallel()
	reg, srv, subject := withoutAPI(t, ociclient.Options{})
	tag := strings.Replace(string(subject.Digest), ":", "-", 1)
	srv.Script(rule{On: "GET " + manifests + tag, Times: 1, Wait: make(chan struct{})})
	ctx, cancel := context.WithCancel(ctx)
	first := make(chan error)
	go func() {
		_, err := reg.PushManifest(ctx, "foo", "", artifact(signature, "a", subject), imageManifest)
		first <- err
	}()
	ociclient.AwaitReferrers(reg, 1)
	second := make(chan error)
	go func() {
		_, err := reg.PushManifest(context.Background(), "foo", "", artifact(signature, "b", subject), imageManifest)
		second <- err
	}()
	ociclient.AwaitReferrers(reg, 2)
	cancel()
	qt.Assert(t, qt.ErrorIs(<-first, context.Canceled))
	qt.Assert(t, qt.IsNil(<-second))
	got, err := ociregistry.All(reg.Referrers(context.Background(), "foo", subject.Digest, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(got, 1))
}

// Content at the tag that is not a list belongs to somebody else.
func TestForeignContentAtReferrersTagIsKept(t *testing.T) {
	t.Parallel()
	bad := map[string]rule{
		"no JSON":    {Status: 200, Answer: "<html>"},
		"a manifest": {Status: 200, Answer: `{"schemaVersion":2,"mediaType":"` + imageManifest + `"}`},
		"denied":     {Status: 403},
	}
	for name, answer := range bad {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg, srv, subject := withoutAPI(t, ociclient.Options{})
			tag := strings.Replace(string(subject.Digest), ":", "-", 1)
			answer.On = "GET " + manifests + tag
			srv.Script(answer)
			_, err := reg.PushManifest(ctx, "foo", "", artifact(signature, "a", subject), imageManifest)
			qt.Assert(t, qt.ErrorMatches(err, ".*referrers at tag "+tag+".*"))
			qt.Assert(t, qt.HasLen(srv.Requests("PUT "+manifests+tag), 0))
		})
	}
}

// With the API, the client neither writes tags nor asks for them.
func TestReferrersTagIsNotUsedWithAPI(t *testing.T) {
	t.Parallel()
	backend := registryWith(t, "{}")
	srv := faultserver.New(t, ociserver.New(backend, nil))
	reg := clientOf(t, srv, ociclient.Options{}, newClock())
	a, err := reg.PushManifest(ctx, "foo", "", artifact(signature, "a", blobDesc(content)), imageManifest)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(reg.DeleteManifest(ctx, "foo", a.Digest)))
	qt.Assert(t, qt.DeepEquals(methods(srv.Lines()), []string{"PUT", "DELETE"}))
}
