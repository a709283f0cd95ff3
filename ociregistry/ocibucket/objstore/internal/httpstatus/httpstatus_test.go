package httpstatus

import (
	"net/http"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

func TestKind_SaysWhetherAWriteMayHaveBeenDone(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status      int
		read, write error
	}{
		{0, objstore.ErrTemporary, objstore.ErrUnclear},
		{200, objstore.ErrTemporary, objstore.ErrUnclear},
		{400, objstore.ErrInvalid, objstore.ErrInvalid},
		{401, objstore.ErrDenied, objstore.ErrDenied},
		{403, objstore.ErrDenied, objstore.ErrDenied},
		{404, objstore.ErrBadAnswer, objstore.ErrBadAnswer},
		{408, objstore.ErrTemporary, objstore.ErrUnclear},
		{412, objstore.ErrPrecondition, objstore.ErrPrecondition},
		{416, objstore.ErrInvalidRange, objstore.ErrInvalidRange},
		{429, objstore.ErrThrottled, objstore.ErrThrottled},
		{500, objstore.ErrTemporary, objstore.ErrUnclear},
		{503, objstore.ErrTemporary, objstore.ErrUnclear},
	} {
		qt.Check(t, qt.Equals(Kind(test.status, false), test.read), qt.Commentf("%d", test.status))
		qt.Check(t, qt.Equals(Kind(test.status, true), test.write), qt.Commentf("%d", test.status))
	}
}

func TestHeaders_WithoutSenseAreNone(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		date, after string
		wantDate    time.Time
		wantAfter   time.Duration
	}{
		{"Sun, 06 Nov 1994 08:49:37 GMT", "3", time.Date(1994, 11, 6, 8, 49, 37, 0, time.UTC), 3 * time.Second},
		{"", "", time.Time{}, 0},
		{"yesterday", "-1", time.Time{}, 0},
		{"", "soon", time.Time{}, 0},
		{"", "1000000000", time.Time{}, time.Hour},
	} {
		h := http.Header{"Date": {test.date}, "Retry-After": {test.after}}
		qt.Check(t, qt.IsTrue(Date(h).Equal(test.wantDate)), qt.Commentf("%v", h))
		qt.Check(t, qt.Equals(After(h), test.wantAfter), qt.Commentf("%v", h))
	}
}
