package interop

import (
	"fmt"
	"testing"
)

// TestMirrors pulls with podman, by the name of a registry that podman cannot reach, from a cache
// that registries.conf names as its mirror: the cache has all of the registry, or what is below a
// prefix.
func TestMirrors(t *testing.T) {
	t.Parallel()
	origin := startServer(t)
	image := newImage(t, formatOCI, "amd64")
	origin.push(t, "team/app", "v1", image)
	cache := startServing(t, []string{
		"-cache", "http://" + origin.host, "-dir", t.TempDir(),
		"-route", "hub/=cache:http://" + origin.host + ";dir=" + t.TempDir() + ";strip",
	})
	for _, location := range []string{cache.host, cache.repo("hub")} {
		podman := podman{newContainersClient(t, "podman")}
		podman.writeFile(t, "registries.conf", fmt.Appendf(nil, `
[[registry]]
location = "registry.invalid"

[[registry.mirror]]
location = %q
insecure = true
`, location))
		const ref = "registry.invalid/team/app:v1"
		podman.run(t, "pull", ref)
		podman.checkImage(t, ref, image.files)
		checkLines(t, podman.run(t, "image", "inspect", "--format={{.Digest}}", ref), image.root.Digest)
	}
}
