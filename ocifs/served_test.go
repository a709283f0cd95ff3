package ocifs_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociserver"
)

// Over HTTP, the response with damaged content does not end cleanly, and the content
// is unknown from then on.
func TestDamage_HasNoCleanEndOverHTTP(t *testing.T) {
	t.Parallel()
	contents := data(1, 300_000)
	d := describe(contents).Digest
	for what, damage := range blobDamages {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, ocifs.Options{})
			must(t, f).MustPushBlob("foo", []byte("another"))
			must(t, f).MustPushBlob("foo", contents)
			damage(t, f.blobPath("foo", d), string(contents))
			srv := httptest.NewServer(ociserver.New(f.Verified(), nil))
			defer srv.Close()
			get := func(ranges string) (status int, n int64, err error) {
				req, err := http.NewRequest("GET", srv.URL+"/v2/foo/blobs/"+string(d), nil)
				qt.Assert(t, qt.IsNil(err))
				if ranges != "" {
					req.Header.Set("Range", ranges)
				}
				resp, err := srv.Client().Do(req)
				if err != nil {
					return 0, 0, err
				}
				defer resp.Body.Close()
				n, err = io.Copy(io.Discard, resp.Body)
				return resp.StatusCode, n, err
			}
			for _, ranges := range []string{"bytes=0-", "", "bytes=0-"} {
				status, n, err := get(ranges)
				if err == nil {
					qt.Check(t, qt.Equals(status, http.StatusNotFound))
				} else {
					qt.Check(t, qt.IsTrue(n < int64(len(contents))))
				}
			}
			status, _, err := get("bytes=0-99")
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(status, http.StatusNotFound))
		})
	}
}
