package interop

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
)

// TestCache pulls with each client through a cache from another server, and then
// once more when that server is gone and the cache was restarted.
func TestCache(t *testing.T) {
	t.Parallel()
	for _, name := range slices.Sorted(maps.Keys(tools)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			contents := map[string]content{
				"image": newImage(t, formatOCI, "amd64"),
				"index": newIndex(t),
			}
			source := startServer(t)
			for repo, c := range contents {
				source.push(t, repo, "v1", c)
			}
			origin := countBlobs(t, source)
			args := []string{"-cache", origin.URL, "-dir", t.TempDir()}
			pull := func(cache *server) {
				t.Helper()
				tool := tools[name](t, cache)
				for repo, c := range contents {
					pulled := filepath.Join(t.TempDir(), "layout")
					tool.pull(t, cache.repo(repo), pulled)
					checkLayout(t, pulled, c)
					cache.check(t, repo, "v1", c)
				}
			}
			cache := startServing(t, args)
			pull(cache)
			asked := origin.blobs.Load()
			pull(cache)
			if again := origin.blobs.Load(); again != asked || asked == 0 {
				t.Errorf("the origin was asked for %d blobs, and then for %d", asked, again)
			}
			cache.stop()
			origin.Close()
			cache = startServing(t, args)
			cache.warning = "the origin failed; "
			pull(cache)
		})
	}
}

// countedOrigin passes requests on to a server, and counts those for blobs as they come. In the log of the server there
// is a request when it was answered, of which the client may know before.
type countedOrigin struct {
	*httptest.Server
	blobs atomic.Int64
}

func countBlobs(t *testing.T, s *server) *countedOrigin {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.host})
	o := new(countedOrigin)
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodGet && path.Base(path.Dir(req.URL.Path)) == "blobs" {
			o.blobs.Add(1)
		}
		proxy.ServeHTTP(w, req)
	}))
	t.Cleanup(o.Close)
	return o
}
