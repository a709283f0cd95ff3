package s3store_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

func mkdir(dir, name string) error { return os.Mkdir(filepath.Join(dir, name), 0o777) }

// answer returns a store whose service gives one answer, and how often it was asked.
func answer(t *testing.T, status int, header http.Header, body string) (objstore.Store, *atomic.Int32) {
	var count atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		count.Add(1)
		io.Copy(io.Discard, req.Body)
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return open(t, server.URL), &count
}

func xmlError(code string) string {
	return fmt.Sprintf(`<?xml version="1.0"?><Error><Code>%s</Code><Message>no</Message></Error>`, code)
}

func TestErrors_SayWhatBecameOfTheRequest(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status      int
		code        string
		read, write error
	}{
		{404, "NoSuchKey", objstore.ErrNotFound, objstore.ErrNotFound},
		{404, "NoSuchBucket", objstore.ErrInvalid, objstore.ErrInvalid},
		{412, "PreconditionFailed", objstore.ErrPrecondition, objstore.ErrPrecondition},
		{409, "ConditionalRequestConflict", objstore.ErrConflict, objstore.ErrConflict},
		{409, "ExistingObjectIsDirectory", objstore.ErrConflict, objstore.ErrConflict},
		{503, "SlowDown", objstore.ErrThrottled, objstore.ErrThrottled},
		{429, "Whatever", objstore.ErrThrottled, objstore.ErrThrottled},
		{403, "AccessDenied", objstore.ErrDenied, objstore.ErrDenied},
		{500, "InternalError", objstore.ErrTemporary, objstore.ErrUnclear},
		{503, "ServiceUnavailable", objstore.ErrTemporary, objstore.ErrUnclear},
		{400, "RequestTimeout", objstore.ErrTemporary, objstore.ErrUnclear},
		{400, "MalformedXML", objstore.ErrInvalid, objstore.ErrInvalid},
		{501, "NotImplemented", objstore.ErrUnsupported, objstore.ErrUnsupported},
	}
	date := "Fri, 04 Jan 2030 10:00:00 GMT"
	for _, test := range tests {
		s, count := answer(t, test.status, http.Header{"Date": {date}, "Retry-After": {"7"}}, xmlError(test.code))
		_, err := s.Get(t.Context(), "a", objstore.Range{})
		qt.Check(t, qt.ErrorIs(err, test.read), qt.Commentf("%+v", test))
		_, err = s.Put(t.Context(), "a", []byte("x"), objstore.Condition{IfAbsent: true})
		qt.Check(t, qt.ErrorIs(err, test.write), qt.Commentf("%+v", test))
		qt.Check(t, qt.Equals(objstore.Unclear(err), errors.Is(test.write, objstore.ErrUnclear)), qt.Commentf("%+v", test))
		qt.Check(t, qt.Equals(objstore.Date(err).Format(http.TimeFormat), date))
		var e *objstore.Error
		qt.Assert(t, qt.ErrorAs(err, &e))
		qt.Check(t, qt.Equals(e.After, 7*time.Second))
		// No request was made again.
		qt.Check(t, qt.Equals(count.Load(), 2), qt.Commentf("%+v", test))
	}
}

func TestErrors_OfProxiesAreNotTakenForTheServices(t *testing.T) {
	t.Parallel()
	s, _ := answer(t, 404, nil, "<html>no such page</html>")
	_, err := s.Get(t.Context(), "a", objstore.Range{})
	qt.Check(t, qt.Not(qt.ErrorIs(err, objstore.ErrNotFound)))
	s, _ = answer(t, 200, nil, "<html>welcome</html>")
	_, err = s.Put(t.Context(), "a", []byte("x"), objstore.Condition{IfAbsent: true})
	qt.Check(t, qt.ErrorIs(err, objstore.ErrBadAnswer))
	qt.Check(t, qt.IsTrue(objstore.Unclear(err)))
	_, err = s.Get(t.Context(), "a", objstore.Range{})
	qt.Check(t, qt.ErrorIs(err, objstore.ErrBadAnswer))
}

func TestComplete_WithStatusOKAndErrorIsUnclear(t *testing.T) {
	t.Parallel()
	up := objstore.Multipart{Key: "a", ID: "u"}
	parts := []objstore.Part{{Number: 1, ETag: "e", Size: 1}}
	for _, code := range []string{"InternalError", "SlowDown"} {
		s, _ := answer(t, 200, nil, xmlError(code))
		_, err := s.CompleteMultipart(t.Context(), up, parts, objstore.Condition{IfAbsent: true})
		qt.Check(t, qt.ErrorIs(err, objstore.ErrUnclear), qt.Commentf(code))
	}
	s, _ := answer(t, 200, nil, xmlError("PreconditionFailed"))
	_, err := s.CompleteMultipart(t.Context(), up, parts, objstore.Condition{IfAbsent: true})
	qt.Check(t, qt.ErrorIs(err, objstore.ErrPrecondition))
}

func TestGet_RefusesRangesThatWereNotAskedFor(t *testing.T) {
	t.Parallel()
	header := func(contentRange string) http.Header {
		h := http.Header{"Etag": {`"e"`}, "Last-Modified": {"Fri, 04 Jan 2030 10:00:00 GMT"}}
		if contentRange != "" {
			h.Set("Content-Range", contentRange)
		}
		return h
	}
	for _, contentRange := range []string{"", "bytes 0-9/20", "bytes 5-15/20", "bytes 5-14/*", "x"} {
		s, _ := answer(t, 206, header(contentRange), strings.Repeat("x", 10))
		_, err := s.Get(t.Context(), "a", objstore.Range{Offset: 5, Length: 10})
		qt.Check(t, qt.ErrorIs(err, objstore.ErrBadAnswer), qt.Commentf(contentRange))
	}
	s, _ := answer(t, 206, header("bytes 5-14/20"), strings.Repeat("x", 10))
	o, err := s.Get(t.Context(), "a", objstore.Range{Offset: 5, Length: 10})
	qt.Assert(t, qt.IsNil(err))
	o.Body.Close()
	qt.Check(t, qt.Equals(o.Size, 20))
}

func TestLists_RefuseTruncatedPagesWithoutToken(t *testing.T) {
	t.Parallel()
	s, _ := answer(t, 200, nil, `<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>`)
	_, err := s.List(t.Context(), objstore.ListOptions{})
	qt.Check(t, qt.ErrorIs(err, objstore.ErrBadAnswer))
	s, _ = answer(t, 200, nil, `<ListMultipartUploadsResult><IsTruncated>true</IsTruncated></ListMultipartUploadsResult>`)
	_, err = s.ListMultiparts(t.Context(), objstore.MultipartOptions{})
	qt.Check(t, qt.ErrorIs(err, objstore.ErrBadAnswer))
}

func TestLostConnection_LeavesWritesUnclear(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		io.Copy(io.Discard, req.Body)
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(server.Close)
	s := open(t, server.URL)
	_, err := s.Put(t.Context(), "a", []byte("x"), objstore.Condition{IfAbsent: true})
	qt.Check(t, qt.ErrorIs(err, objstore.ErrUnclear))
	_, err = s.List(t.Context(), objstore.ListOptions{})
	qt.Check(t, qt.ErrorIs(err, objstore.ErrTemporary))
}
