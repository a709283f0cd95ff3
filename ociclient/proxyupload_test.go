package ociclient_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociserver"
)

// uploader uploads to a proxy by hand.
type uploader struct {
	*testing.T
	url string
}

func (u *uploader) do(method, location, body string, want int, header ...string) http.Header {
	u.Helper()
	req, err := http.NewRequestWithContext(ctx, method, u.url+location, strings.NewReader(body))
	qt.Assert(u, qt.IsNil(err))
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	qt.Assert(u, qt.IsNil(err))
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	qt.Assert(u, qt.IsNil(err))
	qt.Assert(u, qt.Equals(resp.StatusCode, want), qt.Commentf("%s: %s", method, text))
	return resp.Header
}

// A push through a proxy needs the requests of a push without one: the proxy does not ask for
// the position of a session that was just begun. Where it has to ask, it is right.
func TestUploadThroughProxy_AsksOnlyForWhatIsUnknown(t *testing.T) {
	t.Parallel()
	half := len(content) / 2
	commit := "digest=" + string(contentDigest)
	with := func(location string) string {
		if strings.Contains(location, "?") {
			return location + "&" + commit
		}
		return location + "?" + commit
	}
	tests := []struct {
		name   string
		upload func(u *uploader, start string)
		want   []string // of the proxy
	}{
		{"POST and PUT", func(u *uploader, start string) {
			u.do("PUT", with(start), content, http.StatusCreated)
		}, []string{"POST", "PUT"}},
		{"POST, PATCH and PUT", func(u *uploader, start string) {
			h := u.do("PATCH", start, content, http.StatusAccepted)
			u.do("PUT", with(h.Get("Location")), "", http.StatusCreated)
		}, []string{"POST", "GET", "PATCH", "GET", "PUT"}},
		{"the state after POST", func(u *uploader, start string) {
			h := u.do("GET", start, "", http.StatusNoContent)
			qt.Check(u, qt.Equals(h.Get("Range"), "0-0"))
		}, []string{"POST", "GET"}},
		{"the state at the first location", func(u *uploader, start string) {
			u.do("PATCH", start, content[:half], http.StatusAccepted, "Content-Range", "0-9")
			h := u.do("GET", start, "", http.StatusNoContent)
			qt.Check(u, qt.Equals(h.Get("Range"), "0-9"))
		}, []string{"POST", "PATCH", "GET"}},
		{"PUT at the first location, after PATCH", func(u *uploader, start string) {
			u.do("PATCH", start, content[:half], http.StatusAccepted, "Content-Range", "0-9")
			u.do("PUT", with(start), content[half:], http.StatusCreated)
		}, []string{"POST", "PATCH", "PUT"}},
		{"PUT of other content", func(u *uploader, start string) {
			u.do("PUT", with(start), "other", http.StatusBadRequest)
			u.do("PUT", with(start), content, http.StatusNotFound)
		}, []string{"POST", "PUT", "PUT"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			reg, srv := counted(t, ociserver.Options{}, ociclient.Options{})
			proxy := httptest.NewServer(ociserver.New(reg, nil))
			defer proxy.Close()
			u := &uploader{t, proxy.URL}
			start := u.do("POST", uploads, "", http.StatusAccepted).Get("Location")
			test.upload(u, start)
			var got []string
			for _, line := range srv.Lines() {
				method, _, _ := strings.Cut(line, " ")
				got = append(got, method)
			}
			qt.Check(t, qt.DeepEquals(got, test.want))
		})
	}
}
