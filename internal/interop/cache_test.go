package interop

import (
	"maps"
	"path/filepath"
	"slices"
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
			origin := startServer(t)
			for repo, c := range contents {
				origin.push(t, repo, "v1", c)
			}
			args := []string{"-cache", "http://" + origin.host, "-dir", t.TempDir()}
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
			asked := blobsRead(t, origin)
			pull(cache)
			if again := blobsRead(t, origin); again != asked {
				t.Errorf("the origin was asked for %d blobs, and then for %d", asked, again)
			}
			cache.stop()
			origin.stop()
			cache = startServing(t, args)
			cache.warning = "the origin failed; "
			pull(cache)
		})
	}
}

// blobsRead returns how many blobs were read of a server.
func blobsRead(t *testing.T, s *server) (n int) {
	t.Helper()
	for _, r := range s.requests(t) {
		if r.method == "GET" && filepath.Base(filepath.Dir(r.path)) == "blobs" {
			n++
		}
	}
	return n
}
