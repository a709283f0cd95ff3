package ociweb_test

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/locked"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociweb"
	"github.com/seed-40b21970/oci/ociserver"
)

func TestHandler_AnswersOnlyPathsOfPages(t *testing.T) {
	t.Parallel()
	c := newContent(t, "foo")
	desc := c.manifest("text/plain", "x", "v1")
	h := ociweb.New(c.reg, nil)
	for path, want := range map[string]int{
		"/":                                http.StatusOK,
		"/?q=%zz&after=%00&page=x":         http.StatusOK,
		"/style.css":                       http.StatusOK,
		"/icon.svg":                        http.StatusOK,
		"/robots.txt":                      http.StatusOK,
		"/r/foo":                           http.StatusOK,
		"/r/foo?page=-1&sort=nonsense":     http.StatusOK,
		"/r/foo?page=99999999999999999999": http.StatusOK,
		"/r/foo:v1":                        http.StatusOK,
		"/r/foo:v2":                        http.StatusNotFound,
		"/r/foo@" + string(desc.Digest):    http.StatusOK,
		"/r/foo:v1@" + string(desc.Digest): http.StatusOK,
		"/r/foo@sha256:" + strings.Repeat("0", 64): http.StatusNotFound,
		"/r/foo@sha256:0":                          http.StatusNotFound,
		"/r/foo@md5:" + strings.Repeat("0", 32):    http.StatusNotFound,
		"/r/bar":                                   http.StatusNotFound,
		"/r/":                                      http.StatusNotFound,
		"/r/foo/":                                  http.StatusNotFound,
		"/r/Foo":                                   http.StatusNotFound,
		"/r/foo:":                                  http.StatusNotFound,
		"/r/foo@":                                  http.StatusNotFound,
		"/r/../foo":                                http.StatusNotFound,
		"/r/foo%2Fbar":                             http.StatusNotFound,
		"/r/foo%00":                                http.StatusNotFound,
		"/r":                                       http.StatusNotFound,
		"/foo":                                     http.StatusNotFound,
		"/v2/":                                     http.StatusNotFound,
		"/json/foo":                                http.StatusNotFound,
		"/json/foo:v1":                             http.StatusOK,
		"/compare/foo":                             http.StatusOK,
		"/compare/bar":                             http.StatusNotFound,
		"/compare/foo:v1":                          http.StatusNotFound,
		"/compare/foo?ref=v1&ref=v1":               http.StatusOK,
		"/compare/foo?ref=v1&ref=v2":               http.StatusNotFound,
		"/compare/foo?ref=v1&ref=..":               http.StatusNotFound,
		"/compare/foo?ref=v1&ref=a&ref=b":          http.StatusNotFound,
		"/pages/style.css":                         http.StatusNotFound,
		"//":                                       http.StatusNotFound,
	} {
		a := get(t, h, path)
		qt.Check(t, qt.Equals(a.status, want), qt.Commentf("%s", path))
		qt.Check(t, qt.Not(qt.StringContains(a.body, "ZgotmplZ")), qt.Commentf("%s", path))
	}
}

func TestHandler_OnlyReads(t *testing.T) {
	t.Parallel()
	h := ociweb.New(newContent(t, "foo").reg, nil)
	for _, test := range []struct {
		method, path string
		status       int
	}{
		{"HEAD", "/", http.StatusOK},
		{"POST", "/", http.StatusMethodNotAllowed},
		{"DELETE", "/r/foo", http.StatusMethodNotAllowed},
		{"OPTIONS", "/r/foo", http.StatusMethodNotAllowed},
		{"PUT", "/elsewhere", http.StatusNotFound},
		{"CONNECT", "", http.StatusNotFound},
	} {
		rec := httptest.NewRecorder()
		req := httptest.NewRequest("GET", "/", nil)
		req.Method, req.URL.Path = test.method, test.path
		h.ServeHTTP(rec, req)
		a := checked(t, rec.Result())
		qt.Check(t, qt.Equals(a.status, test.status), qt.Commentf("%+v", test))
		qt.Check(t, qt.Equals(a.header.Get("Allow") != "", test.status == http.StatusMethodNotAllowed))
	}
}

// A browser may keep the style sheet for ever, because its name changes with it, and asks again
// for pages.
func TestHandler_SaysWhatBrowsersMayKeep(t *testing.T) {
	t.Parallel()
	h := ociweb.New(newContent(t, "foo").reg, nil)
	a := page(t, h, "/")
	qt.Check(t, qt.Equals(a.header.Get("Cache-Control"), "private, no-cache"))
	_, rest, _ := strings.Cut(a.body, `rel="stylesheet" href="./`)
	name, _, _ := strings.Cut(rest, `"`)
	css := get(t, h, "/"+name)
	qt.Check(t, qt.Equals(css.header.Get("Cache-Control"), "max-age=31536000, immutable"))
	qt.Check(t, qt.Equals(css.header.Get("Content-Type"), "text/css; charset=utf-8"))
	qt.Check(t, qt.Not(qt.Matches(css.body, `(?s).*(@import|url\().*`)))
}

// authorizer permits clients with a password to do everything, and others what is public.
func authorizer(wanted *[]ociserver.Access) ociserver.AuthorizeFunc {
	return func(req *http.Request, want []ociserver.Access) (func(ociserver.Access) bool, error) {
		*wanted = want
		_, password, _ := req.BasicAuth()
		may := func(a ociserver.Access) bool {
			return password == "opensesame" || a.Action == ociserver.ActionList || strings.HasPrefix(a.Repository, "public/")
		}
		for _, access := range want {
			switch {
			case strings.HasPrefix(access.Repository, "denied/"):
				return nil, ociregistry.ErrDenied
			case !may(access):
				return nil, ociserver.Unauthorized(`Basic realm="example"`)
			}
		}
		return may, nil
	}
}

func TestAuthorize_DecidesWhatPagesShow(t *testing.T) {
	t.Parallel()
	c := newContent(t, "public/a")
	for _, repo := range []string{"public/a", "private/b", "denied/c"} {
		c.repo = repo
		c.manifest("text/plain", "x", "v1")
	}
	var wanted []ociserver.Access
	authorize := authorizer(&wanted)
	h := ociweb.New(c.reg, &ociweb.Options{Authorize: authorize})
	api := ociserver.New(c.reg, &ociserver.Options{Authorize: authorize})
	pull := func(repo string) []ociserver.Access {
		return []ociserver.Access{{Repository: repo, Action: ociserver.ActionPull}}
	}
	for _, test := range []struct {
		path, sameAs string
		status       int
		want         []ociserver.Access
	}{
		{"/", "/v2/_catalog", http.StatusOK, []ociserver.Access{{Action: ociserver.ActionList}}},
		{"/r/public/a", "/v2/public/a/tags/list", http.StatusOK, pull("public/a")},
		{"/r/public/a:v1", "/v2/public/a/manifests/v1", http.StatusOK, pull("public/a")},
		{"/r/private/b", "/v2/private/b/tags/list", http.StatusUnauthorized, pull("private/b")},
		{"/r/private/b:v1", "/v2/private/b/manifests/v1", http.StatusUnauthorized, pull("private/b")},
		{"/r/private/unknown", "/v2/private/unknown/tags/list", http.StatusUnauthorized, pull("private/unknown")},
		{"/json/private/b:v1", "/v2/private/b/manifests/v1", http.StatusUnauthorized, pull("private/b")},
		{"/compare/private/b?ref=v1&ref=v1", "/v2/private/b/manifests/v1", http.StatusUnauthorized, pull("private/b")},
		{"/r/denied/c", "/v2/denied/c/tags/list", http.StatusForbidden, pull("denied/c")},
		{"/style.css", "/v2/", http.StatusOK, nil},
	} {
		wanted = nil
		a := get(t, h, test.path)
		qt.Check(t, qt.Equals(a.status, test.status), qt.Commentf("%s", test.path))
		qt.Check(t, qt.DeepEquals(wanted, test.want))
		rec := httptest.NewRecorder()
		api.ServeHTTP(rec, httptest.NewRequest("GET", test.sameAs, nil))
		qt.Check(t, qt.Equals(rec.Code, test.status), qt.Commentf("%s", test.sameAs))
		qt.Check(t, qt.Equals(a.header.Get("WWW-Authenticate"), rec.Header().Get("WWW-Authenticate")))
	}
	a := page(t, h, "/")
	qt.Check(t, qt.SliceContains(a.links, "./r/public/a"))
	qt.Check(t, qt.Not(qt.StringContains(a.body, "private")))
	req := httptest.NewRequest("GET", "/", nil)
	req.SetBasicAuth("ali", "opensesame")
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	qt.Check(t, qt.SliceContains(checked(t, rec.Result()).links, "./r/private/b"))
}

// What the registry itself refuses, no password of the browser opens.
func TestErrors_OfTheRegistryAreAnsweredAsTheAPIDoes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		err    error
		opts   ociweb.Options
		status int
		text   string // in the page
		logged bool
	}{
		{"unknown", ociregistry.ErrNameUnknown, ociweb.Options{}, http.StatusNotFound, "Repository name not known to registry.", false},
		{"denied", ociregistry.ErrDenied, ociweb.Options{}, http.StatusForbidden, "Requested access to the resource is denied.", false},
		{"unauthorized", ociregistry.ErrUnauthorized, ociweb.Options{}, http.StatusForbidden, "Authentication required.", false},
		{"too many", ociregistry.ErrTooManyRequests, ociweb.Options{}, http.StatusTooManyRequests, "Too many requests.", false},
		{"broken", errors.New("open /secret/path: <b>"), ociweb.Options{}, http.StatusInternalServerError, "beside the reference ", true},
		{"broken origin", errors.New("dial 10.0.0.1: refused"), ociweb.Options{Remote: true}, http.StatusBadGateway, "beside the reference ", true},
	} {
		var log locked.Buffer
		opts := test.opts
		opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
		h := ociweb.New(&ociregistry.Funcs{
			NewError: func(context.Context, string, string) error { return test.err },
			Tags_: func(context.Context, string, string) iter.Seq2[string, error] {
				return ociregistry.ErrorSeq[string](test.err)
			},
		}, &opts)
		for _, path := range []string{"/r/foo", "/r/foo:v1", "/json/foo:v1", "/compare/foo?ref=a&ref=b"} {
			a := get(t, h, path)
			qt.Check(t, qt.Equals(a.status, test.status), qt.Commentf("%s: %s", test.name, path))
			qt.Check(t, qt.StringContains(a.body, test.text), qt.Commentf("%s", test.name))
			qt.Check(t, qt.Not(qt.Matches(a.body, `(?s).*(secret|10\.0\.0\.1).*`)))
			qt.Check(t, qt.Equals(a.header.Get("WWW-Authenticate"), ""))
		}
		qt.Check(t, qt.Equals(strings.Contains(log.String(), test.err.Error()), test.logged), qt.Commentf("%s: %s", test.name, log.String()))
	}
}

// A page reads several manifests at a time: one that panics does not end the process.
func TestPanics_AreAnsweredAndLogged(t *testing.T) {
	t.Parallel()
	for name, reg := range map[string]*ociregistry.Funcs{
		"of the page": {Tags_: func(context.Context, string, string) iter.Seq2[string, error] { panic("oh") }},
		"of a row": {
			Tags_: func(context.Context, string, string) iter.Seq2[string, error] {
				return ociregistry.SliceSeq([]string{"v1", "v2"})
			},
			GetTag_: func(context.Context, string, string) (ociregistry.BlobReader, error) { panic("oh") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log locked.Buffer
			h := ociweb.New(reg, &ociweb.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			qt.Check(t, qt.Equals(get(t, h, "/r/foo").status, http.StatusInternalServerError))
			qt.Check(t, qt.StringContains(log.String(), "panic=oh"))
		})
	}
}

// Many registries have no catalog. A page that opens what is known by name is better than an
// error.
func TestRepositories_CanBeOpenedByNameWhereTheyAreNotListed(t *testing.T) {
	t.Parallel()
	for _, err := range []error{ociregistry.ErrUnsupported, ociregistry.ErrUnauthorized, ociregistry.ErrDenied} {
		h := ociweb.New(&ociregistry.Funcs{Repositories_: func(context.Context, string) iter.Seq2[string, error] {
			return ociregistry.ErrorSeq[string](err)
		}}, nil)
		qt.Check(t, qt.StringContains(page(t, h, "/").body, "does not list its repositories"))
		for q, want := range map[string]string{
			"library/alpine":                 "./r/library/alpine",
			"library/alpine:3.20":            "./r/library/alpine:3.20",
			"+example.com/library/alpine+++": "./r/library/alpine", // the host of the request
		} {
			qt.Check(t, qt.SliceContains(page(t, h, "/?q="+q).links, want))
		}
		qt.Check(t, qt.HasLen(page(t, h, "/?q=Not/a:Name:").links, 1)) // that of the header
	}
}

// Pages that take long keep others waiting, and not more than so many in memory.
func TestConcurrency_IsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := ociweb.New(&ociregistry.Funcs{Tags_: func(ctx context.Context, repo, _ string) iter.Seq2[string, error] {
			if repo == "slow" {
				<-release
			}
			return ociregistry.SliceSeq([]string{"v1"})
		}}, &ociweb.Options{Concurrency: 1, Remote: true})
		answers := make(chan answer, 3)
		ask := func(ctx context.Context, path string) {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, httptest.NewRequestWithContext(ctx, "GET", path, nil))
			answers <- checked(t, rec.Result())
		}
		go ask(t.Context(), "/r/slow")
		synctest.Wait()
		page(t, h, "/style.css")

		start := time.Now()
		ask(t.Context(), "/r/quick")
		a := <-answers
		qt.Check(t, qt.Equals(a.status, http.StatusServiceUnavailable))
		qt.Check(t, qt.Equals(a.header.Get("Retry-After"), "10"))
		qt.Check(t, qt.Equals(time.Since(start), 10*time.Second)) // of the bubble's clock

		gone, cancel := context.WithCancel(t.Context())
		cancel()
		start = time.Now()
		ask(gone, "/r/quick")
		qt.Check(t, qt.Equals((<-answers).status, http.StatusServiceUnavailable))
		qt.Check(t, qt.Equals(time.Since(start), 0))

		go ask(t.Context(), "/r/quick")
		synctest.Wait()
		close(release)
		qt.Check(t, qt.Equals((<-answers).status, http.StatusOK))
		qt.Check(t, qt.Equals((<-answers).status, http.StatusOK))
	})
}

// deadlines is a ResponseWriter that notes until when it may be written.
type deadlines struct {
	*httptest.ResponseRecorder
	until time.Time
}

func (d *deadlines) SetWriteDeadline(until time.Time) error {
	d.until = until
	return nil
}

func TestAnswerTimeout_EndsAnswersThatNobodyReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for timeout, want := range map[time.Duration]time.Time{
			0:           time.Now().Add(5 * time.Minute),
			time.Second: time.Now().Add(time.Second),
			-1:          {},
		} {
			for _, path := range []string{"/", "/style.css", "/nonsense"} {
				w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
				h := ociweb.New(newContent(t, "foo").reg, &ociweb.Options{AnswerTimeout: timeout})
				h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
				qt.Check(t, qt.Equals(w.until, want), qt.Commentf("%v: %s", timeout, path))
			}
		}
	})
}
