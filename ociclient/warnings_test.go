package ociclient_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
)

func TestWarningsAreReportedOnce(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	opts := ociclient.Options{OnWarning: func(_ context.Context, text string) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, text)
	}}
	warnings := []string{
		`299 - "this is deprecated"`,
		`299 - "with \"quotes\" and \\"`,
		`299 - "one", 299 - "and another"`,
		`299 - "this is deprecated"`,
		`299 - ""`, `299 - "not ended`, `199 - "not ours"`, `299 agent "not ours"`, `299 - unquoted`, ``, `299 - "` + strings.Repeat("x", 5000) + `"`,
	}
	srv := faultserver.New(t, nil, rule{On: "", Handler: func(w http.ResponseWriter, req *http.Request) {
		w.Header()["Warning"] = warnings
		w.WriteHeader(http.StatusNotFound)
	}})
	reg := clientOf(t, srv, opts, newClock())
	for range 3 {
		qt.Assert(t, qt.IsNotNil(resolveBlob(reg)))
	}
	qt.Assert(t, qt.DeepEquals(got, []string{"this is deprecated", `with "quotes" and \`, "one", "and another"}))
}
