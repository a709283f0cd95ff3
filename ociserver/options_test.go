package ociserver_test

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/locked"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

func TestDisableReferrersAPI_MakesTheAPIUnknown(t *testing.T) {
	t.Parallel()
	s := serve(t, &ociserver.Options{DisableReferrersAPI: true})
	s.do("GET", "/v2/foo/referrers/"+string(absent), "").wantError(t, http.StatusNotFound, "UNKNOWN", "page not found")
	s.pushBlob("foo", "{}")
	s.do("PUT", "/v2/foo/manifests/latest", imageManifest(digest.FromString("{}"), absent, nil), "Content-Type", ocispec.MediaTypeImageManifest).
		want(t, http.StatusCreated).wantHeaders(t, "OCI-Subject", "")
}

func TestDebugID_IsInLogRecords(t *testing.T) {
	t.Parallel()
	var log locked.Buffer
	s := serve(t, &ociserver.Options{DebugID: "one of two", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s.do("DELETE", "/v2/foo/manifests/bar%20", "")
	s.do("PUT", "/v2/foo/manifests/bar", "")
	qt.Check(t, qt.StringContains(log.String(), `server="one of two"`))
}

func TestDisableReferrersFiltering_IgnoresTheArtifactType(t *testing.T) {
	t.Parallel()
	s := serve(t, &ociserver.Options{DisableReferrersFiltering: true})
	d := s.pushImage("foo", "latest", absent, nil)
	a := s.do("GET", "/v2/foo/referrers/"+string(absent)+"?artifactType=application/x", "").
		want(t, http.StatusOK).wantHeaders(t, "OCI-Filters-Applied", "")
	qt.Check(t, qt.StringContains(a.body, string(d)))
}

func TestDisableSinglePostUpload_StartsASessionInstead(t *testing.T) {
	t.Parallel()
	s := serve(t, &ociserver.Options{DisableSinglePostUpload: true})
	d := string(digest.SHA512.FromString(helloWorld))
	a := s.do("POST", "/v2/foo/blobs/uploads/?digest="+d, helloWorld).want(t, http.StatusAccepted).wantHeaders(t, "Range", "0-0")
	s.do("PUT", a.Header.Get("Location")+"?digest="+d, helloWorld).want(t, http.StatusCreated)
}

func TestIgnorePagination_MakesListsComplete(t *testing.T) {
	t.Parallel()
	s := serve(t, &ociserver.Options{IgnorePagination: true})
	for _, tag := range []string{"a", "b", "c"} {
		s.pushManifest("foo", tag, "something")
		s.pushManifest(tag, "latest", "something")
	}
	a := s.do("GET", "/v2/foo/tags/list?n=1&last=b", "").want(t, http.StatusOK).wantHeaders(t, "Link", "")
	qt.Check(t, qt.Equals(a.body, `{"name":"foo","tags":["a","b","c"]}`))
	a = s.do("GET", "/v2/_catalog?n=1&last=b", "").want(t, http.StatusOK).wantHeaders(t, "Link", "")
	qt.Check(t, qt.Equals(a.body, `{"repositories":["a","b","c","foo"]}`))
}

func TestOmitLinkHeaderFromResponses_LeavesPagesToTheParameterLast(t *testing.T) {
	t.Parallel()
	s := serve(t, &ociserver.Options{OmitLinkHeaderFromResponses: true})
	for _, tag := range []string{"a", "b", "c"} {
		s.pushManifest("foo", tag, "something")
	}
	a := s.do("GET", "/v2/foo/tags/list?n=1&last=a", "").want(t, http.StatusOK).wantHeaders(t, "Link", "")
	qt.Check(t, qt.Equals(a.body, `{"name":"foo","tags":["b"]}`))
	a = s.do("GET", "/v2/foo/tags/list", "").want(t, http.StatusOK)
	qt.Check(t, qt.Equals(a.body, `{"name":"foo","tags":["a","b","c"]}`))
}

func TestOmitDigestFromTagGetResponse_ConcernsNothingElse(t *testing.T) {
	t.Parallel()
	s := serve(t, &ociserver.Options{OmitDigestFromTagGetResponse: true})
	d := string(s.pushManifest("foo", "latest", "something"))
	s.do("GET", "/v2/foo/manifests/latest", "").want(t, http.StatusOK).wantHeaders(t, "Docker-Content-Digest", "", "ETag", "")
	s.do("HEAD", "/v2/foo/manifests/latest", "").want(t, http.StatusOK).wantHeaders(t, "Docker-Content-Digest", d)
	s.do("GET", "/v2/foo/manifests/"+d, "").want(t, http.StatusOK).wantHeaders(t, "Docker-Content-Digest", d)
}

func TestLocationForUploadID_IsTheLocationUnlessItIsEmpty(t *testing.T) {
	t.Parallel()
	location := "https://elsewhere.example.com/upload"
	s := serve(t, &ociserver.Options{
		LocationForUploadID: func(id string) (string, error) {
			qt.Check(t, qt.Not(qt.Equals(id, "")))
			return location, nil
		},
	})
	s.do("POST", "/v2/foo/blobs/uploads/", "").want(t, http.StatusAccepted).wantHeaders(t, "Location", location)
	location = ""
	a := s.do("POST", "/v2/foo/blobs/uploads/", "").want(t, http.StatusAccepted)
	qt.Check(t, qt.Equals(a.Header.Get("Location"), "/v2/foo/blobs/uploads/"+a.Header.Get("Docker-Upload-UUID")))

	s = serve(t, &ociserver.Options{LocationForUploadID: func(string) (string, error) { return "", errors.New("no") }})
	s.do("POST", "/v2/foo/blobs/uploads/", "").wantConcealed(t, http.StatusInternalServerError)
}

func TestLocationsForDescriptor_FirstIsTheLocationUnlessThereIsNone(t *testing.T) {
	t.Parallel()
	var locations []string
	s := serve(t, &ociserver.Options{
		LocationsForDescriptor: func(isManifest bool, desc ociregistry.Descriptor) ([]string, error) {
			if isManifest {
				return []string{"https://m.example.com/" + string(desc.Digest)}, nil
			}
			return locations, nil
		},
	})
	d := string(digest.FromString(helloWorld))
	post := "/v2/foo/blobs/uploads/?digest=" + d
	s.do("POST", post, helloWorld).want(t, http.StatusCreated).wantHeaders(t, "Location", "/v2/foo/blobs/"+d)
	s.do("GET", "/v2/foo/blobs/"+d, "").want(t, http.StatusOK)

	locations = []string{"https://b.example.com/x", "https://c.example.com/x"}
	s.do("POST", post, helloWorld).want(t, http.StatusCreated).wantHeaders(t,
		"Location", "https://b.example.com/x", "Docker-Content-Digest", d)
	s.do("GET", "/v2/foo/blobs/"+d, "").want(t, http.StatusTemporaryRedirect).wantHeaders(t, "Location", "https://b.example.com/x")
	s.do("HEAD", "/v2/foo/blobs/"+d, "").want(t, http.StatusOK)
	s.do("GET", "/v2/foo/blobs/"+string(absent), "").want(t, http.StatusNotFound)

	m := string(digest.FromString("something"))
	s.do("PUT", "/v2/foo/manifests/latest", "something").want(t, http.StatusCreated).wantHeaders(t, "Location", "https://m.example.com/"+m)
	s.do("GET", "/v2/foo/manifests/latest", "").want(t, http.StatusOK)
}

func TestWriteError_AnswersInPlaceOfTheServer(t *testing.T) {
	t.Parallel()
	s := serve(t, &ociserver.Options{
		WriteError: func(w http.ResponseWriter, req *http.Request, err error) {
			qt.Check(t, qt.Equals(req.URL.Path, "/v2/foo/tags/list"))
			w.WriteHeader(http.StatusTeapot)
			io.WriteString(w, err.Error())
		},
	})
	a := s.do("PUT", "/v2/foo/tags/list", "").want(t, http.StatusTeapot).wantHeaders(t, "Allow", "GET, HEAD, OPTIONS")
	qt.Check(t, qt.Equals(a.body, "method not allowed"))
	a = s.do("GET", "/v2/foo/tags/list", "").want(t, http.StatusTeapot)
	qt.Check(t, qt.StringContains(a.body, "Tags foo"))
}
