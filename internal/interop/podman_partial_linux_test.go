package interop

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// Podman keeps the files of layers in the format zstd:chunked. Of the layers of a
// changed image it asks, by one request with a range for each file that it does
// not have, for what is new alone. A registry that sent the whole layer instead
// would not be noticed but for what it costs.
func TestPodmanPullsOnlyWhatChanged(t *testing.T) {
	for name, start := range map[string]func(*testing.T) *server{
		"memory":    func(t *testing.T) *server { return startServer(t) },
		"directory": func(t *testing.T) *server { return startServing(t, []string{"-dir", t.TempDir()}) },
		"proxy":     func(t *testing.T) *server { return startProxy(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testPartialPull(t, start(t))
		})
	}
}

// TestPodmanPullsOnlyWhatChangedFromABucket does it where the ranges are asked of the bucket, too, which need not
// know several in one request.
func TestPodmanPullsOnlyWhatChangedFromABucket(t *testing.T) {
	overBuckets(t, func(t *testing.T, start starter) { testPartialPull(t, start(t, nil)) })
}

func testPartialPull(t *testing.T, s *server) {
	maker, puller := podman{newContainersClient(t, "podman")}, newOverlayPodman(t)
	const plain = "--tls-verify=false"

	files := randomFiles(200, 20_000)
	changed := maps.Clone(files)
	for name, data := range randomFiles(200, 20_000) {
		if strings.HasSuffix(name, "7") {
			changed[name] = data
		}
	}
	layers := make(map[string]descriptor)
	for tag, files := range map[string]map[string][]byte{"v1": files, "v2": changed} {
		archive := maker.writeFile(t, tag+".tar", newTar(t, files))
		maker.run(t, "import", archive, s.repo("app:"+tag))
		maker.run(t, "push", plain, "--compression-format=zstd:chunked", s.repo("app:"+tag))
		layers[tag] = s.layer(t, "app", tag)
	}

	puller.run(t, "pull", plain, s.repo("app:v1"))
	puller.run(t, "pull", plain, s.repo("app:v2"))
	puller.checkImage(t, s.repo("app:v2"), changed)
	if s.redirects {
		return // what was sent is not in our log
	}
	s.stop() // what was sent is in the log now
	layer := layers["v2"]
	sent := s.sent(t, "/v2/app/blobs/"+layer.Digest)
	t.Logf("of %d bytes, %d were sent", layer.Size, sent)
	if sent == 0 || sent >= layer.Size/5 {
		t.Errorf("pulling a changed layer of %d bytes took %d bytes", layer.Size, sent)
	}
}

// layer returns the only layer of an image.
func (s *server) layer(t testing.TB, repo, ref string) descriptor {
	t.Helper()
	_, body := s.get(t, repo+"/manifests/"+ref)
	var m manifest
	if err := json.Unmarshal(body, &m); err != nil || len(m.Layers) != 1 {
		t.Fatalf("%s %s: %v, or not one layer in %s", repo, ref, err, body)
	}
	return m.Layers[0]
}

// sent returns how many bytes the bodies of the answers to GET for a path had.
func (s *server) sent(t testing.TB, path string) (n int64) {
	t.Helper()
	for _, r := range s.requests(t) {
		if r.method == http.MethodGet && r.path == path {
			n += r.bytes
		}
	}
	return n
}

// newOverlayPodman returns a podman that pulls partial images. It does so only
// where it can mount overlays.
func newOverlayPodman(t *testing.T) podman {
	t.Helper()
	c := newContainersClient(t, "podman")
	if err := tryOverlay(t); err != nil {
		t.Skipf("PARTIAL PULLS ARE NOT TESTED: no overlays: %v", err)
	}
	c.writeFile(t, "storage.conf", fmt.Appendf(nil, `[storage]
driver = "overlay"
graphroot = "%[1]s/storage"
runroot = "%[1]s/run"

[storage.options]
pull_options = {enable_partial_images = "true"}
`, c.home))
	return podman{c}
}

func tryOverlay(t *testing.T) error {
	lower, upper, work, at := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)
	if err := syscall.Mount("overlay", at, "overlay", 0, options); err != nil {
		return err
	}
	return syscall.Unmount(at, 0)
}

// randomFiles returns n files that cannot be compressed.
func randomFiles(n, size int) map[string][]byte {
	files := make(map[string][]byte)
	for i := range n {
		data := make([]byte, size)
		for j := range data {
			data[j] = byte(rand.Uint32())
		}
		files[fmt.Sprintf("file%d", i)] = data
	}
	return files
}
