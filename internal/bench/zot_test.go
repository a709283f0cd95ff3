package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

// TestClient_ReadsElsewhere has a server that answers with how it is called.
func TestClient_ReadsElsewhere(t *testing.T) {
	t.Parallel()
	named := func(name string) *httptest.Server {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Location", name)
			w.WriteHeader(http.StatusOK)
			fmt.Fprint(w, name)
		}))
		t.Cleanup(srv.Close)
		return srv
	}
	c := &client{ctx: t.Context(), http: http.DefaultClient, base: named("writes").URL, reads: named("reads").URL, buf: make([]byte, 10)}
	for _, c := range []*client{c, c.clone()} {
		for method, want := range map[string]string{"GET": "reads", "HEAD": "reads", "PUT": "writes", "POST": "writes", "DELETE": "writes"} {
			got, err := c.send(method, "/", nil, 0, http.StatusOK)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(got, want), qt.Commentf(method))
		}
	}
}

// TestUsageOf compares what the system says of this process with what it says to it.
func TestUsageOf(t *testing.T) {
	t.Parallel()
	before, err := ownUsage()
	qt.Assert(t, qt.IsNil(err))
	got, err := usageOf(os.Getpid())
	qt.Assert(t, qt.IsNil(err))
	after, err := ownUsage()
	qt.Assert(t, qt.IsNil(err))
	const tick = 10 * time.Millisecond
	qt.Check(t, qt.IsTrue(got.CPU > before.CPU-3*tick && got.CPU < after.CPU+3*tick), qt.Commentf("%v, not %v..%v", got.CPU, before.CPU, after.CPU))
	qt.Check(t, qt.IsTrue(got.Peak > 1<<20))
	qt.Check(t, qt.Equals(before.plus(after), usage{before.CPU + after.CPU, before.Peak + after.Peak, before.Allocs + after.Allocs, before.Bytes + after.Bytes}))
	_, err = usageOf(1 << 30)
	qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
}
