package ociserver_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

func TestNamespace_ChoosesTheBackendOfReads(t *testing.T) {
	t.Parallel()
	upstream := ocimem.New()
	direct := serveBackend(t, upstream, nil)
	d := string(direct.pushManifest("library/debian", "latest", "upstream"))
	blob := string(direct.pushBlob("library/debian", helloWorld))

	s := serve(t, &ociserver.Options{Namespace: func(ns string) (ociregistry.Interface, bool) {
		return upstream, ns != "quay.io"
	}})
	s.pushManifest("library/debian", "latest", "own")
	for _, path := range []string{
		"/v2/library/debian/manifests/latest", "/v2/library/debian/manifests/" + d,
		"/v2/library/debian/blobs/" + blob, "/v2/library/debian/tags/list", "/v2/library/debian/referrers/" + d,
	} {
		for _, method := range []string{"GET", "HEAD"} {
			s.do(method, path+"?ns=docker.io", "").want(t, http.StatusOK).wantHeaders(t, "OCI-Namespace", "docker.io")
		}
		for _, ns := range []string{"quay.io", "..", "a%0Ab", "%00"} {
			s.do("GET", path+"?ns="+ns, "").want(t, http.StatusNotFound).wantHeaders(t, "OCI-Namespace", "")
		}
	}
	a := s.do("GET", "/v2/library/debian/manifests/latest?ns=docker.io", "").want(t, http.StatusOK)
	qt.Check(t, qt.Equals(a.body, "upstream"))
	a = s.do("GET", "/v2/library/debian/manifests/latest", "").want(t, http.StatusOK).wantHeaders(t, "OCI-Namespace", "")
	qt.Check(t, qt.Equals(a.body, "own"))

	// Pages stay in their namespace.
	direct.pushManifest("library/debian", "stable", "upstream")
	pages := s.pages("/v2/library/debian/tags/list?n=1&ns=docker.io")
	qt.Check(t, qt.Equals(len(pages), 2))
	qt.Check(t, qt.IsTrue(slices.ContainsFunc(pages, func(a *answer) bool { return strings.Contains(a.body, "stable") })))

	// Whether there is such a namespace is not to be found out without leave.
	guarded := serve(t, &ociserver.Options{
		Authorize: (&guard{err: ociregistry.ErrDenied}).authorize,
		Namespace: func(string) (ociregistry.Interface, bool) { return nil, false },
	})
	guarded.do("GET", "/v2/foo/tags/list?ns=docker.io", "").want(t, http.StatusForbidden)

	// Who redirects knows nothing of namespaces.
	redirecting := serve(t, &ociserver.Options{
		Namespace: func(string) (ociregistry.Interface, bool) { return upstream, true },
		BlobRedirect: func(context.Context, string, ociregistry.Digest) (string, time.Time, error) {
			return "", time.Time{}, ociregistry.ErrBlobUnknown
		},
	})
	redirecting.do("GET", "/v2/library/debian/blobs/"+blob+"?ns=docker.io", "").want(t, http.StatusOK)
	redirecting.do("GET", "/v2/library/debian/blobs/"+blob, "").want(t, http.StatusNotFound)

	// What is no read goes to the registry itself, and without the option so
	// does everything.
	s.do("PUT", "/v2/foo/manifests/x?ns=docker.io", "something").want(t, http.StatusCreated)
	direct.do("GET", "/v2/foo/manifests/x", "").want(t, http.StatusNotFound)
	a = direct.do("GET", "/v2/library/debian/manifests/latest?ns=quay.io", "").want(t, http.StatusOK).wantHeaders(t, "OCI-Namespace", "")
	qt.Check(t, qt.Equals(a.body, "upstream"))
}
