package ociclient_test

import (
	"context"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

func TestTemporaryStatusesAreRetried(t *testing.T) {
	t.Parallel()
	for _, status := range []int{408, 429, 500, 502, 503, 504} {
		reg, srv := scripted(t, rule{On: "HEAD ", Times: 2, Status: status}, rule{On: "HEAD ", Status: 200, Set: header{"Content-Length": "21"}})
		qt.Assert(t, qt.IsNil(resolveBlob(reg)), qt.Commentf("%d", status))
		qt.Assert(t, qt.HasLen(srv.Lines(), 3))
	}
	for _, status := range []int{401, 403, 404, 409, 410, 412, 413, 422, 451, 501, 505} {
		reg, srv := scripted(t, rule{On: "HEAD ", Status: status})
		qt.Assert(t, qt.IsNotNil(resolveBlob(reg)), qt.Commentf("%d", status))
		qt.Assert(t, qt.HasLen(srv.Lines(), 1), qt.Commentf("%d", status))
	}
	reg, srv := scripted(t, rule{On: "GET ", Status: 400})
	_, err := readAll(getBlob(reg))
	qt.Assert(t, qt.IsNotNil(err))
	qt.Assert(t, qt.HasLen(srv.Lines(), 1))
}

func TestBrokenConnectionsAreRetried(t *testing.T) {
	t.Parallel()
	for _, fault := range []rule{
		{LoseAnswer: true}, // reset
		{Status: 200, Answer: "{}", CutAtStart: true},                                       // EOF in the body
		{Status: 200, Answer: tagList("a", "b"), Cut: 5},                                    // EOF later
		{Handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }}, // EOF
	} {
		fault.On, fault.Times = tagsURL, 2
		if fault.LoseAnswer {
			fault.Status = 200
		}
		srv := faultserver.New(t, nil, fault, rule{On: tagsURL, Status: 200, Answer: tagList("a", "b")})
		transport := newTransport(t)
		transport.DisableKeepAlives = true
		reg := clientOf(t, srv, ociclient.Options{Transport: transport}, newClock())
		got, err := ociregistry.All(reg.Tags(ctx, "foo", ""))
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.DeepEquals(got, []string{"a", "b"}))
		qt.Assert(t, qt.HasLen(srv.Lines(), 3))
	}
	// A server that is down may come back.
	clock := newClock()
	opts := ociclient.Options{Insecure: true}
	opts.SetClock(clock.Now, clock.Sleep)
	reg, err := ociclient.New("127.0.0.1:1", &opts) // where nothing listens
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.ErrorMatches(resolveBlob(reg), ".*refused"))
	qt.Assert(t, qt.HasLen(clock.Waits(), 4))
}

func TestWaitsGrowAndVary(t *testing.T) {
	t.Parallel()
	clock := newClock()
	srv := faultserver.New(t, nil, rule{On: "HEAD ", Status: 503})
	reg := clientOf(t, srv, ociclient.Options{Retry: ociclient.RetryPolicy{Attempts: 10, Wait: time.Second, MaxWait: 30 * time.Second}}, clock)
	qt.Assert(t, qt.ErrorMatches(resolveBlob(reg), ".*503.*"))
	waits := clock.Waits()
	qt.Assert(t, qt.HasLen(waits, 9))
	for i, wait := range waits {
		most := min(time.Second<<i, 30*time.Second)
		qt.Check(t, qt.IsTrue(most/2 <= wait && wait <= most), qt.Commentf("%d: %v", i, wait))
	}
	// The waits vary.
	qt.Assert(t, qt.IsNotNil(resolveBlob(reg)))
	qt.Assert(t, qt.Not(qt.DeepEquals(clock.Waits(), waits)))

	for attempts, waits := range map[int]int{1: 0, -1: 0, 0: ociclient.DefaultAttempts - 1} {
		reg = clientOf(t, srv, ociclient.Options{Retry: ociclient.RetryPolicy{Attempts: attempts}}, clock)
		qt.Assert(t, qt.IsNotNil(resolveBlob(reg)))
		qt.Assert(t, qt.HasLen(clock.Waits(), waits), qt.Commentf("%d", attempts))
	}
}

func TestRetryAfterLengthensTheWait(t *testing.T) {
	t.Parallel()
	now := newClock().Now()
	tests := []struct {
		name, value string
		want        time.Duration // zero for the client's own
	}{
		{"seconds", "20", 20 * time.Second},
		{"seconds with space", " 20 ", 20 * time.Second},
		{"a date", now.Add(30 * time.Second).UTC().Format(http.TimeFormat), 30 * time.Second},
		{"Unix time", strconv.FormatInt(now.Unix()+40, 10), 40 * time.Second},
		{"too long", "3600", time.Minute},
		{"much too long", "999999999", time.Minute},
		{"out of this world", "9223372036854775807", time.Minute},
		{"a date far away", now.AddDate(100, 0, 0).UTC().Format(http.TimeFormat), time.Minute},
		{"zero", "0", 0},
		{"negative", "-5", 0},
		{"a date before", now.Add(-time.Hour).UTC().Format(http.TimeFormat), 0},
		{"nonsense", "soon", 0},
		{"none", "", 0},
	}
	for _, test := range tests {
		for _, status := range []int{429, 503} {
			clock := newClock()
			srv := faultserver.New(t, nil,
				rule{On: "HEAD ", Times: 1, Status: status, Set: header{"Retry-After": test.value}},
				rule{On: "HEAD ", Status: 200, Set: header{"Content-Length": "21"}})
			qt.Assert(t, qt.IsNil(resolveBlob(clientOf(t, srv, ociclient.Options{}, clock))))
			waits := clock.Waits()
			qt.Assert(t, qt.HasLen(waits, 1))
			if test.want == 0 {
				qt.Check(t, qt.IsTrue(waits[0] <= 100*time.Millisecond), qt.Commentf("%s: %v", test.name, waits))
			} else {
				qt.Check(t, qt.Equals(waits[0], test.want), qt.Commentf("%s", test.name))
			}
		}
	}
}

// The error has both reasons.
func TestEndOfContextEndsTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{answers: map[string]*http.Response{"HEAD ": answer(503, "Retry-After", "50")}}
		reg, err := ociclient.New("registry.test", &ociclient.Options{Transport: w})
		qt.Assert(t, qt.IsNil(err))
		begun := time.Now()
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		_, err = reg.ResolveBlob(ctx, "foo", contentDigest)
		qt.Assert(t, qt.ErrorIs(err, context.DeadlineExceeded))
		qt.Assert(t, qt.ErrorMatches(err, ".*503.*"))
		qt.Assert(t, qt.IsTrue(time.Since(begun) <= 10*time.Second))
		qt.Assert(t, qt.HasLen(w.log, 1))
	})
}

// When a token that was fetched for the request is refused, no other is fetched.
func TestRefusalOfNewTokenIsNotRetried(t *testing.T) {
	t.Parallel()
	srv := faultserver.New(t, nil)
	srv.Script(
		rule{On: "GET /token", Status: 200, Answer: `{"token":"t"}`},
		rule{On: "HEAD ", Status: 401, Set: header{"WWW-Authenticate": `Bearer realm="` + srv.URL + `/token",service="s"`}},
	)
	transport := ociauth.NewStdTransport(ociauth.StdTransportParams{Transport: newTransport(t)})
	reg := clientOf(t, srv, ociclient.Options{Transport: transport}, newClock())
	qt.Assert(t, qt.ErrorIs(resolveBlob(reg), ociregistry.ErrUnauthorized))
	qt.Assert(t, qt.DeepEquals(methods(srv.Lines()), []string{"HEAD", "GET", "HEAD"}))
}

// Content that a repeated DELETE does not find was deleted by the first one, unless that
// was refused.
func TestAbsenceAfterLostAnswerIsDeletion(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		first rule
		err   error
	}{
		{"the answer is lost", rule{LoseAnswer: true}, nil},
		{"a gateway gives up", rule{Handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGatewayTimeout) }}, nil},
		{"too many requests", rule{Status: 429}, ociregistry.ErrBlobUnknown},
		{"not there", rule{Status: 404}, ociregistry.ErrBlobUnknown},
	}
	for _, test := range tests {
		test.first.On, test.first.Times = "DELETE ", 1
		if test.first.LoseAnswer {
			test.first.Status = http.StatusAccepted
		}
		reg, _ := scripted(t, test.first, rule{On: "DELETE ", Status: 404})
		err := reg.DeleteBlob(ctx, "foo", contentDigest)
		if test.err == nil {
			qt.Check(t, qt.IsNil(err), qt.Commentf("%s", test.name))
		} else {
			qt.Check(t, qt.ErrorIs(err, test.err), qt.Commentf("%s", test.name))
		}
	}
}
