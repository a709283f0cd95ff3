package interop

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestBuildah(t *testing.T) {
	t.Parallel()
	testBuildah(t, startServer(t))
}

func testBuildah(t *testing.T, s *server) {
	buildah := newContainersClient(t, "buildah")
	image := newImage(t, formatOCI, "amd64")
	s.push(t, "image", "v1", image)
	const plain = "--tls-verify=false"

	// build makes an image from a base and one more file.
	build := func(t *testing.T, base, name string, data []byte) {
		t.Helper()
		container := strings.TrimSpace(buildah.run(t, "from", plain, base))
		buildah.run(t, "copy", container, buildah.writeFile(t, "added", data), "/added")
		buildah.run(t, "config", "--cmd=/added", "--label=a=b", container)
		buildah.run(t, "commit", "--rm", container, name)
	}

	t.Run("from nothing", func(t *testing.T) {
		files := map[string][]byte{"added": image.files["big"]}
		build(t, "scratch", "nothing", files["added"])
		for _, format := range []string{"oci", "v2s2"} {
			buildah.run(t, "push", plain, "--format="+format, "nothing", s.repo("nothing:"+format))
			checkFiles(t, s.files(t, "nothing", format), files)
		}
		buildah.run(t, "rmi", "nothing")
		buildah.run(t, "pull", plain, s.repo("nothing:oci"))
		container := strings.TrimSpace(buildah.run(t, "from", s.repo("nothing:oci")))
		checkDir(t, strings.TrimSpace(buildah.run(t, "mount", container)), files)
		buildah.run(t, "rm", container)
	})

	t.Run("from image", func(t *testing.T) {
		build(t, s.repo("image:v1"), "more", []byte("more\n"))
		buildah.run(t, "push", plain, "more", s.repo("more:v1"))
		files := s.files(t, "more", "v1")
		checkBytes(t, "added", files["added"], []byte("more\n"))
		delete(files, "added")
		checkFiles(t, files, image.files)
	})

	t.Run("list", func(t *testing.T) {
		buildah.run(t, "manifest", "create", "both", "more")
		buildah.run(t, "manifest", "push", plain, "--all", "both", "docker://"+s.repo("both:v1"))
		var list manifest
		_, body := s.get(t, "both/manifests/v1")
		if err := json.Unmarshal(body, &list); err != nil || len(list.Manifests) != 1 {
			t.Fatalf("error %v; the list is %s", err, body)
		}
		checkFiles(t, s.files(t, "both", list.Manifests[0].Digest), s.files(t, "more", "v1"))
	})

	t.Run("errors", func(t *testing.T) {
		buildah.fails(t, "name unknown", "pull", plain, s.repo("missing:v1"))
		buildah.fails(t, "manifest unknown", "pull", plain, s.repo("image:missing"))
		buildah.fails(t, "manifest unknown", "from", plain, s.repo("image:missing"))
	})
}
