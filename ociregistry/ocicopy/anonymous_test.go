package ocicopy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
	"github.com/seed-40b21970/oci/ociserver"
)

// A source shows more to authenticated clients. When its token server refuses the
// credentials, a mirror copies what anonymous clients see, and deletes nothing that they
// do not see: neither by the list nor by a single answer.
func TestMirror_DeletesNothingThatAnonymousReadersDoNotSee(t *testing.T) {
	t.Parallel()
	src, dst := newMem(t), newMem(t)
	mustPush(t, src, "a", image(1), "public")
	mustPush(t, src, "a", image(2), "private")
	const unknown = `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`

	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, unknown)
	}))
	t.Cleanup(elsewhere.Close)
	var locked atomic.Bool
	registry := ociserver.New(src, nil)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _, stored := req.BasicAuth()
		token := req.Header.Get("Authorization")
		switch {
		case req.URL.Path == "/token" && stored && locked.Load():
			w.WriteHeader(http.StatusUnauthorized)
		case req.URL.Path == "/token" && stored:
			io.WriteString(w, `{"token":"ours"}`)
		case req.URL.Path == "/token":
			io.WriteString(w, `{"token":"anyones"}`)
		case token == "", token == "Bearer ours" && locked.Load():
			w.Header().Set("WWW-Authenticate", `Bearer realm="/token"`)
			w.WriteHeader(http.StatusUnauthorized)
		case token == "Bearer anyones" && strings.HasSuffix(req.URL.Path, "/tags/list"):
			io.WriteString(w, `{"name":"a","tags":["public"]}`)
		case token == "Bearer anyones" && strings.HasSuffix(req.URL.Path, "/private"):
			http.Redirect(w, req, elsewhere.URL, http.StatusTemporaryRedirect)
		default:
			registry.ServeHTTP(w, req)
		}
	}))
	t.Cleanup(s.Close)
	connections := &http.Transport{}
	t.Cleanup(connections.CloseIdleConnections)
	host := strings.TrimPrefix(s.URL, "http://")
	client, err := ociclient.New(host, &ociclient.Options{
		Insecure: true,
		Transport: ociauth.NewStdTransport(ociauth.StdTransportParams{
			Config:    credentials{host, ociauth.ConfigEntry{Username: "user", Password: "pass"}},
			Transport: connections,
		}),
	})
	qt.Assert(t, qt.IsNil(err))
	m := mustMirror(t, dst, &MirrorOptions{Attempts: -1}, hub(client, Rule{Repositories: "a", Delete: true}))
	qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 2}))

	locked.Store(true)
	mustPush(t, src, "a", image(3), "public")
	summary := mustPass(t, m)
	qt.Check(t, qt.Equals(summary.Updated, 1))
	qt.Check(t, qt.Equals(summary.Deleted, 0))
	qt.Assert(t, qt.HasLen(summary.Failures, 1))
	qt.Check(t, qt.Equals(summary.Failures[0].Tag, "private"))
	qt.Check(t, qt.ErrorIs(summary.Failures[0].Err, error(ociregistry.ErrUnauthorized)))
	qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), "private public"))
	mustHave(t, dst, "a", image(3))

	// With working credentials, the mirror sees that the tag is gone.
	locked.Store(false)
	qt.Assert(t, qt.IsNil(src.DeleteTag(t.Context(), "a", "private")))
	summary = mustPass(t, m)
	qt.Check(t, qt.Equals(summary.Deleted, 1))
	qt.Check(t, qt.HasLen(summary.Failures, 0))
	qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), "public"))
}
