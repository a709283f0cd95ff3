package ociclient_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// redirecting returns a client of a registry that redirects requests with a prefix to
// storage, which follows a script and has the content, too.
func redirecting(t *testing.T, opts ociclient.Options, on string, rules ...rule) (reg ociregistry.Interface, srv, storage *faultserver.Server) {
	backend := registryWith(t, content)
	storage = faultserver.New(t, ociserver.New(backend, nil), rules...)
	srv = faultserver.New(t, ociserver.New(backend, nil), rule{On: on, Handler: func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, storage.URL+req.URL.RequestURI(), http.StatusTemporaryRedirect)
	}})
	return clientOf(t, srv, opts, newClock()), srv, storage
}

var sentinels = []error{
	ociregistry.ErrBlobUnknown, ociregistry.ErrManifestUnknown, ociregistry.ErrNameUnknown, ociregistry.ErrDenied,
	ociregistry.ErrUnauthorized, ociregistry.ErrTooManyRequests, ociregistry.ErrRangeInvalid,
}

func TestAnswerOfAnotherOriginIsNotTheRegistrys(t *testing.T) {
	t.Parallel()
	calls := map[string]func(ociregistry.Interface) error{
		"ResolveBlob":     resolveBlob,
		"GetBlob":         func(r ociregistry.Interface) error { return second(readAll(getBlob(r))) },
		"GetBlobRange":    func(r ociregistry.Interface) error { return second(readAll(getRange(r))) },
		"GetManifest":     func(r ociregistry.Interface) error { return second(r.GetManifest(ctx, "foo", contentDigest)) },
		"GetTag":          func(r ociregistry.Interface) error { return second(getTag(r)) },
		"ResolveManifest": func(r ociregistry.Interface) error { return second(r.ResolveManifest(ctx, "foo", contentDigest)) },
		"ResolveTag":      func(r ociregistry.Interface) error { return second(r.ResolveTag(ctx, "foo", "latest")) },
		"Tags":            func(r ociregistry.Interface) error { return second(ociregistry.All(r.Tags(ctx, "foo", ""))) },
		"Repositories":    func(r ociregistry.Interface) error { return second(ociregistry.All(r.Repositories(ctx, ""))) },
		"Referrers": func(r ociregistry.Interface) error {
			return second(ociregistry.All(r.Referrers(ctx, "foo", contentDigest, "")))
		},
	}
	answers := map[string]rule{
		"403":        {Status: 403, Answer: "<Error><Code>AccessDenied</Code></Error>"},
		"404":        {Status: 404, Set: header{"Content-Type": "text/plain"}, Answer: "not here"},
		"401":        {Status: 401, Set: header{"Www-Authenticate": `Bearer realm="https://x.test/token"`}},
		"416":        {Status: 416, Answer: "<Error/>"},
		"429":        {Status: 429},
		"503":        {Status: 503, Answer: `{"errors":[{"code":"DENIED"}]}`},
		"another":    {Status: 204},
		"other JSON": {Status: 404, Answer: `{"errors":[]}`},
	}
	for name, call := range calls {
		for status, answer := range answers {
			for _, parts := range []int{0, 3} {
				if status == "416" && name == "GetBlobRange" {
					continue // see TestRangeThatStorageRefusesIsCutToTheSize
				}
				t.Run(name+" "+status, func(t *testing.T) {
					t.Parallel()
					opts := ociclient.Options{Parallel: ociclient.Parallel{Concurrency: parts, PartSize: 7}}
					reg, _, storage := redirecting(t, opts, "", answer)
					err := call(reg)
					qt.Assert(t, qt.IsNotNil(err))
					for _, sentinel := range sentinels {
						qt.Check(t, qt.IsFalse(errors.Is(err, sentinel)), qt.Commentf("%v is %v", err, sentinel))
					}
					qt.Check(t, qt.ErrorMatches(err, "(?s).*"+storage.Host()+".*"))
					body, code := ociregistry.MarshalError(err)
					qt.Check(t, qt.Equals(code, 500), qt.Commentf("%s", body))
				})
			}
		}
	}
}

// Some registries redirect requests for content that they do not have to a registry that
// says so.
func TestErrorListOfAnotherOriginCounts(t *testing.T) {
	t.Parallel()
	reg, _, _ := redirecting(t, ociclient.Options{}, "")
	_, err := readAll(reg.GetBlob(ctx, "foo", otherDigest))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUnknown))
	_, err = reg.ResolveBlob(ctx, "foo", otherDigest)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUnknown))
	_, err = reg.ResolveTag(ctx, "foo", "none")
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
	_, err = ociregistry.All(reg.Tags(ctx, "none", ""))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
}

func TestRefusedHeadAfterRedirectIsSettledByGet(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 401, 403, 404, 405, 501} {
		reg, _, storage := redirecting(t, ociclient.Options{}, "", rule{On: "HEAD ", Status: status})
		desc, err := reg.ResolveBlob(ctx, "foo", contentDigest)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(desc.Size, int64(len(content))))
		qt.Check(t, qt.DeepEquals(ranges(storage), []string{"bytes=0-0"}))
		_, err = reg.ResolveTag(ctx, "foo", "none")
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
	}
}

func TestRefusedSignatureIsAskedForAgainOnce(t *testing.T) {
	t.Parallel()
	read := map[string]func(ociregistry.Interface) (string, error){
		"whole": func(r ociregistry.Interface) (string, error) { return readAll(getBlob(r)) },
		"range": func(r ociregistry.Interface) (string, error) { return readAll(getRange(r)) },
	}
	for name, read := range read {
		for _, parts := range []int{0, 3} {
			opts := ociclient.Options{Parallel: ociclient.Parallel{Concurrency: parts, PartSize: 7}}
			reg, srv, _ := redirecting(t, opts, "", rule{Times: 1, Status: 403})
			got, err := read(reg)
			qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", name))
			qt.Check(t, qt.IsTrue(strings.Contains(content, got) && got != ""))
			srv.Lines()
			reg, srv, _ = redirecting(t, opts, "", rule{Status: 403})
			_, err = read(reg)
			qt.Check(t, qt.IsNotNil(err))
			qt.Check(t, qt.HasLen(srv.Lines(), 2))
		}
	}
	// A body that breaks continues with a new signature, too.
	reg, srv, _ := redirecting(t, ociclient.Options{}, "", rule{Times: 1, Cut: 10}, rule{Times: 1, Status: 403})
	wantBlob(t, reg, content)
	qt.Check(t, qt.HasLen(srv.Lines(), 3))
}

// Storage refuses ranges beyond the end in its own form. The registry knows the size.
func TestRangeThatStorageRefusesIsCutToTheSize(t *testing.T) {
	t.Parallel()
	reg, _, _ := redirecting(t, ociclient.Options{}, "GET ", rule{Status: 416, Answer: "<Error/>"})
	got, err := readAll(reg.GetBlobRange(ctx, "foo", contentDigest, 21, 30))
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got, ""))
	_, err = readAll(reg.GetBlobRange(ctx, "foo", contentDigest, 22, 30))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
	_, err = readAll(reg.GetBlobRange(ctx, "foo", contentDigest, 4, 10))
	qt.Check(t, qt.IsNotNil(err))
	qt.Check(t, qt.IsFalse(errors.Is(err, ociregistry.ErrRangeInvalid)))
}

// changes has calls that change foo, which has the manifest index.
var changes = map[string]func(ociregistry.Interface) error{
	"PushBlob": func(r ociregistry.Interface) error {
		return second(r.PushBlob(ctx, "foo", blobDesc("new"), strings.NewReader("new")))
	},
	"PushManifest": func(r ociregistry.Interface) error {
		return second(r.PushManifest(ctx, "foo", "v2", []byte(index), imageIndex, "v3"))
	},
	"MountBlob":      func(r ociregistry.Interface) error { return second(r.MountBlob(ctx, "foo", "bar", contentDigest)) },
	"DeleteBlob":     func(r ociregistry.Interface) error { return r.DeleteBlob(ctx, "foo", contentDigest) },
	"DeleteManifest": func(r ociregistry.Interface) error { return r.DeleteManifest(ctx, "foo", digest.FromString(index)) },
	"DeleteTag":      func(r ociregistry.Interface) error { return r.DeleteTag(ctx, "foo", "v1") },
}

// changing returns a client of a registry over a backend that redirects all changes to
// storage over another.
func changing(t *testing.T, backend, elsewhere ociregistry.Interface, rules ...rule) (reg ociregistry.Interface, storage *faultserver.Server) {
	storage = faultserver.New(t, ociserver.New(elsewhere, nil), rules...)
	to := func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, storage.URL+req.URL.RequestURI(), http.StatusTemporaryRedirect)
	}
	srv := faultserver.New(t, ociserver.New(backend, nil),
		rule{On: "PUT ", Handler: to}, rule{On: "DELETE ", Handler: to}, rule{On: "POST /v2/bar/", Handler: to})
	return clientOf(t, srv, ociclient.Options{}, newClock()), storage
}

func withIndex(t *testing.T) ociregistry.Interface {
	reg := registryWith(t, content)
	_, err := reg.PushManifest(ctx, "foo", "v1", []byte(index), imageIndex)
	qt.Assert(t, qt.IsNil(err))
	return reg
}

func TestSuccessOfAnotherOriginIsNone(t *testing.T) {
	t.Parallel()
	for name, call := range changes {
		for what, page := range map[string]rule{
			"page":        pages["a login page"],
			"created":     {Status: 201},
			"accepted":    {Status: 202},
			"no content":  {Status: 204},
			"other bytes": {Status: 201, Set: header{"Docker-Content-Digest": string(otherDigest)}},
		} {
			if name == "MountBlob" && (what == "accepted" || what == "no content") {
				continue // these are no mounts
			}
			t.Run(name+" "+what, func(t *testing.T) {
				t.Parallel()
				reg, storage := changing(t, withIndex(t), withIndex(t), page)
				err := call(reg)
				qt.Assert(t, qt.IsNotNil(err))
				if what != "other bytes" || strings.HasPrefix(name, "Delete") {
					qt.Check(t, qt.ErrorMatches(err, ".*"+storage.Host()+".*"))
				}
			})
		}
	}
}

// A page on the registry's own host is no success either.
func TestPageThatAnswersAChangeIsNoSuccess(t *testing.T) {
	t.Parallel()
	for name, call := range changes {
		if name == "MountBlob" {
			continue // 200 is no success of a mount
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page := pages["a login page"]
			put, del := page, page
			put.On, del.On = "PUT ", "DELETE "
			srv := faultserver.New(t, ociserver.New(withIndex(t), nil), put, del)
			qt.Check(t, qt.ErrorMatches(call(clientOf(t, srv, ociclient.Options{}, newClock())), ".*the answer is a web page"))
		})
	}
}

// A change that another origin made for the registry, without proof, is found by asking
// the registry.
func TestChangeByAnotherOriginIsSettled(t *testing.T) {
	t.Parallel()
	for name, call := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := withIndex(t)
			reg, _ := changing(t, backend, backend, rule{Set: header{"Docker-Content-Digest": ""}})
			qt.Check(t, qt.IsNil(call(reg)))
			tags, err := ociregistry.All(backend.Tags(ctx, "foo", ""))
			qt.Check(t, qt.IsNil(err))
			if name == "PushManifest" {
				qt.Check(t, qt.DeepEquals(tags, []string{"v1", "v2", "v3"}))
			}
		})
	}
}
