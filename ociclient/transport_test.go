package ociclient_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

// world is a transport to imaginary hosts. It answers each request by its method and URL.
type world struct {
	answers map[string]*http.Response

	mu  sync.Mutex
	log []string // method, URL, and the required scope if credentials may be sent
}

func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		io.Copy(io.Discard, req.Body)
		req.Body.Close()
	}
	line := req.Method + " " + req.URL.String()
	w.mu.Lock()
	defer w.mu.Unlock()
	scope := ociauth.RequestInfoFromContext(req.Context()).RequiredScope
	w.log = append(w.log, strings.TrimSpace(line+" "+scope.String()))
	for prefix, resp := range w.answers {
		if strings.HasPrefix(line, prefix) {
			again := *resp
			again.Header, again.Request = resp.Header.Clone(), req
			again.Body = io.NopCloser(strings.NewReader(""))
			return &again, nil
		}
	}
	return &http.Response{StatusCode: http.StatusNotImplemented, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

// answer returns a response with a header of pairs.
func answer(status int, pairs ...string) *http.Response {
	resp := &http.Response{StatusCode: status, Header: make(http.Header)}
	for i := 0; i < len(pairs); i += 2 {
		resp.Header.Add(pairs[i], pairs[i+1])
	}
	return resp
}

// clientIn returns a client of a registry in a world.
func clientIn(t testing.TB, w *world, host string, opts ociclient.Options) ociregistry.Interface {
	opts.Transport = w
	clock := newClock()
	opts.SetClock(clock.Now, clock.Sleep)
	reg, err := ociclient.New(host, &opts)
	qt.Assert(t, qt.IsNil(err))
	return reg
}
