package serve

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-quicktest/qt"
)

// A request that its client ended has a status of its own, if it has not been
// answered before.
func TestLogTellsWhoEndedARequest(t *testing.T) {
	t.Parallel()
	ended, end := context.WithCancel(context.Background())
	end()
	late, stop := context.WithTimeout(context.Background(), 0)
	defer stop()
	for _, test := range []struct {
		ctx    context.Context
		status int
		cut    bool
		want   string
	}{
		{ended, 503, false, "status=499"},
		{ended, 408, false, "status=408"},
		{ended, 404, false, "status=499"},
		{ended, 200, false, "status=200"},
		{ended, 200, true, "status=499"},
		{late, 503, false, "status=503"},
		{context.Background(), 503, false, "status=503"},
		{context.Background(), 200, true, "status=200"},
	} {
		var log bytes.Buffer
		h := logRequests(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			w.WriteHeader(test.status)
			if test.cut {
				panic(http.ErrAbortHandler)
			}
		}), slog.New(slog.NewTextHandler(&log, nil)))
		func() {
			defer func() { qt.Check(t, qt.Equals(recover() != nil, test.cut)) }()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v2/", nil).WithContext(test.ctx))
		}()
		qt.Check(t, qt.StringContains(log.String(), test.want))
	}
}
