package interop

import (
	"encoding/json"
	"strings"
	"testing"
)

type podman struct{ *client }

// checkImage checks the files of an image that podman has.
func (c podman) checkImage(t testing.TB, name string, want map[string][]byte) {
	t.Helper()
	dir := strings.TrimSpace(c.run(t, "image", "mount", name))
	checkDir(t, dir, want)
	c.run(t, "image", "unmount", name)
}

func TestPodman(t *testing.T) {
	t.Parallel()
	testPodman(t, startServer(t))
}

func testPodman(t *testing.T, s *server) {
	podman := podman{newContainersClient(t, "podman")}
	image, index, docker := newImage(t, formatOCI, "amd64"), newIndex(t), newImage(t, formatDocker, "amd64")
	s.push(t, "image", "v1", image)
	s.push(t, "index", "v1", index)
	s.push(t, "docker", "v1", docker)
	const plain = "--tls-verify=false"

	t.Run("pull", func(t *testing.T) {
		for name, c := range map[string]content{"image": image, "docker": docker} {
			ref := s.repo(name + ":v1")
			podman.run(t, "pull", plain, ref)
			checkLines(t, podman.run(t, "image", "inspect", "--format={{.Digest}}", ref), c.root.Digest)
			podman.checkImage(t, ref, c.files)
			podman.run(t, "rmi", ref)
			byDigest := s.repo(name + "@" + c.root.Digest)
			podman.run(t, "pull", plain, byDigest)
			podman.checkImage(t, byDigest, c.files)
			podman.run(t, "rmi", byDigest)
		}
		podman.run(t, "pull", plain, "--platform=linux/arm64", s.repo("index:v1"))
		podman.checkImage(t, s.repo("index:v1"), newImage(t, formatOCI, "arm64").files)
	})

	t.Run("push what was pulled", func(t *testing.T) {
		podman.run(t, "pull", plain, s.repo("image:v1"))
		podman.run(t, "push", plain, s.repo("image:v1"), s.repo("a/copy:v1"))
		s.check(t, "a/copy", "v1", image)
		s.checkMounted(t, "a/copy", image.layers(t)...)
	})

	t.Run("push what was made", func(t *testing.T) {
		archive := podman.writeFile(t, "layer.tar", newTar(t, image.files))
		podman.run(t, "import", archive, s.repo("made:v1"))
		for _, format := range []string{"oci", "v2s2"} {
			podman.run(t, "push", plain, "--format="+format, s.repo("made:v1"), s.repo("made:"+format))
			checkFiles(t, s.files(t, "made", format), image.files)
		}
		id := podman.run(t, "image", "inspect", "--format={{.Id}}", s.repo("made:v1"))
		podman.run(t, "rmi", s.repo("made:v1"))
		podman.run(t, "pull", plain, s.repo("made:oci"))
		checkLines(t, podman.run(t, "image", "inspect", "--format={{.Id}}", s.repo("made:oci")), strings.TrimSpace(id))
		podman.checkImage(t, s.repo("made:oci"), image.files)
	})

	t.Run("push list", func(t *testing.T) {
		podman.run(t, "manifest", "create", "both")
		podman.run(t, "manifest", "add", plain, "--all", "both", "docker://"+s.repo("index:v1"))
		podman.run(t, "manifest", "push", plain, "--all", "both", "docker://"+s.repo("both:v1"))
		for i, arch := range []string{"amd64", "arm64"} {
			child := index.order[i]
			s.checkManifest(t, "both", child.Digest, child, index.blobs[child.Digest])
			checkFiles(t, s.files(t, "both", child.Digest), newImage(t, formatOCI, arch).files)
		}
	})

	t.Run("lists", func(t *testing.T) {
		many := s.pushTags(t, "many")
		var found []struct{ Tags []string }
		out := podman.run(t, "search", plain, "--list-tags", "--limit=2000", "--format=json", s.repo("many"))
		if err := json.Unmarshal([]byte(out), &found); err != nil {
			t.Fatal(err)
		}
		if len(found) != 1 {
			t.Fatalf("found %.1000s", out)
		}
		checkList(t, found[0].Tags, many)
		checkLines(t, podman.run(t, "search", plain, "--format={{.Name}}", s.repo("mad")), s.repo("made"))
	})

	t.Run("errors", func(t *testing.T) {
		podman.fails(t, "name unknown", "pull", plain, s.repo("missing:v1"))
		podman.fails(t, "manifest unknown", "pull", plain, s.repo("image:missing"))
		podman.fails(t, "manifest unknown", "pull", plain, s.repo("image@"+missing))
	})
}
