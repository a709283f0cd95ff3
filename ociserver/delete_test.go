package ociserver_test

import (
	"net/http"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestDelete_RemovesWhatIsNotInUse(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.do("DELETE", "/v2/foo/blobs/"+string(absent), "").
		wantError(t, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
	s.do("DELETE", "/v2/foo/manifests/"+string(absent), "").
		wantError(t, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
	s.do("DELETE", "/v2/foo/manifests/latest", "").
		wantError(t, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")

	image := s.pushImage("foo", "latest", "", nil)
	s.do("DELETE", "/v2/foo/manifests/other", "").
		wantError(t, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown to registry: tag does not exist")
	s.do("DELETE", "/v2/foo/manifests/"+string(absent), "").
		wantError(t, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown to registry")
	s.do("DELETE", "/v2/foo/blobs/"+string(absent), "").
		wantError(t, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")

	config := "/v2/foo/blobs/" + string(digest.FromString("{}"))
	inUse := s.do("DELETE", config, "").want(t, http.StatusMethodNotAllowed).wantHeaders(t, "Allow", "GET, HEAD")
	qt.Check(t, qt.StringContains(inUse.body, `"code":"DENIED"`))
	s.do("GET", config, "").want(t, http.StatusOK)

	index := `{"schemaVersion":2,"manifests":[{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"` + string(image) + `","size":283}]}`
	s.do("PUT", "/v2/foo/manifests/index", index, "Content-Type", ocispec.MediaTypeImageIndex).want(t, http.StatusCreated)
	inUse = s.do("DELETE", "/v2/foo/manifests/"+string(image), "").want(t, http.StatusMethodNotAllowed)
	qt.Check(t, qt.StringContains(inUse.body, `"code":"DENIED"`))
	s.do("DELETE", "/v2/foo/manifests/"+string(digest.FromString(index)), "").want(t, http.StatusAccepted)

	s.do("DELETE", "/v2/foo/manifests/latest", "").want(t, http.StatusAccepted)
	s.do("GET", "/v2/foo/manifests/latest", "").want(t, http.StatusNotFound)
	s.do("GET", "/v2/foo/manifests/"+string(image), "").want(t, http.StatusOK)
	s.do("DELETE", "/v2/foo/manifests/"+string(image), "").want(t, http.StatusAccepted)
	s.do("GET", "/v2/foo/manifests/"+string(image), "").want(t, http.StatusNotFound)
	s.do("DELETE", config, "").want(t, http.StatusAccepted)
	s.do("GET", config, "").wantError(t, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
}

func TestDeleteManifest_DeletesItsTags(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	d := s.pushManifest("foo", "a", "something")
	s.pushManifest("foo", "b", "something")
	s.pushManifest("foo", "c", "other")
	s.do("DELETE", "/v2/foo/manifests/"+string(d), "").want(t, http.StatusAccepted)
	a := s.do("GET", "/v2/foo/tags/list", "").want(t, http.StatusOK)
	qt.Check(t, qt.Equals(a.body, `{"name":"foo","tags":["c"]}`))
}

func TestDelete_HonoursIfMatch(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	d := string(s.pushManifest("foo", "latest", "something"))
	for _, ref := range []string{"latest", d} {
		s.do("DELETE", "/v2/foo/manifests/"+ref, "", "If-Match", `"`+string(absent)+`"`).want(t, http.StatusPreconditionFailed)
	}
	s.do("DELETE", "/v2/foo/manifests/latest", "", "If-Match", `"`+d+`"`).want(t, http.StatusAccepted)
	s.do("DELETE", "/v2/foo/manifests/"+d, "", "If-Match", "*").want(t, http.StatusAccepted)
	s.do("DELETE", "/v2/foo/manifests/"+d, "", "If-Match", "*").want(t, http.StatusNotFound)

	blob := "/v2/foo/blobs/" + string(s.pushBlob("foo", helloWorld))
	s.do("DELETE", blob, "", "If-Match", etag(absent)).want(t, http.StatusPreconditionFailed)
	s.do("DELETE", blob, "", "If-None-Match", "*").want(t, http.StatusPreconditionFailed)
	s.do("DELETE", blob, "", "If-Match", etag(digest.FromString(helloWorld))).want(t, http.StatusAccepted)
	s.do("DELETE", blob, "", "If-Match", "*").want(t, http.StatusNotFound)
}
