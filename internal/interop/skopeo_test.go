package interop

import (
	"encoding/json"
	"path/filepath"
	"testing"
)

type skopeo struct{ *client }

func newSkopeo(t *testing.T, _ *server) skopeo {
	c := skopeo{newContainersClient(t, "skopeo")}
	c.args = []string{"--insecure-policy"}
	return c
}

func (c skopeo) push(t testing.TB, layout, repo string) {
	c.run(t, "copy", "--all", "--preserve-digests", "--dest-tls-verify=false", "oci:"+layout+":v1", "docker://"+repo+":v1")
}

func (c skopeo) pull(t testing.TB, repo, layout string) {
	c.run(t, "copy", "--all", "--preserve-digests", "--src-tls-verify=false", "docker://"+repo+":v1", "oci:"+layout+":v1")
}

func TestSkopeo(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	skopeo := newSkopeo(t, s)
	image, index, docker := newImage(t, formatOCI, "amd64"), newIndex(t), newImage(t, formatDocker, "amd64")
	s.push(t, "image", "v1", image)
	s.push(t, "index", "v1", index)
	s.push(t, "docker", "v1", docker)
	const plain = "--tls-verify=false"
	remote := func(name string) string { return "docker://" + s.repo(name) }
	copyTo := func(t *testing.T, args ...string) {
		t.Helper()
		skopeo.run(t, append([]string{"copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false"}, args...)...)
	}

	t.Run("read", func(t *testing.T) {
		manifest := skopeo.run(t, "inspect", plain, "--raw", remote("image:v1"))
		checkBytes(t, "manifest", []byte(manifest), image.blobs[image.root.Digest])
		var got struct {
			Digest       string
			RepoTags     []string
			Architecture string
			Layers       []string
		}
		out := skopeo.run(t, "inspect", plain, remote("image:v1"))
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatal(err)
		}
		checkList(t, []string{got.Digest, got.Architecture}, []string{image.root.Digest, "amd64"})
		checkList(t, got.RepoTags, []string{"v1"})
		checkList(t, got.Layers, image.layers(t))
	})

	t.Run("directory", func(t *testing.T) {
		for name, c := range map[string]content{"image": image, "docker": docker} {
			dir := "dir:" + filepath.Join(t.TempDir(), name)
			copyTo(t, remote(name+":v1"), dir)
			copyTo(t, dir, remote("directory/"+name+":v1"))
			s.check(t, "directory/"+name, "v1", c)
		}
	})

	t.Run("archive", func(t *testing.T) {
		archive := "docker-archive:" + filepath.Join(t.TempDir(), "image.tar")
		copyTo(t, remote("docker:v1"), archive)
		copyTo(t, archive, remote("archive:v1"))
		checkFiles(t, s.files(t, "archive", "v1"), docker.files)
	})

	t.Run("convert", func(t *testing.T) {
		copyTo(t, "--format=v2s2", remote("image:v1"), remote("converted:v2s2"))
		checkFiles(t, s.files(t, "converted", "v2s2"), image.files)
		copyTo(t, "--format=oci", remote("docker:v1"), remote("converted:oci"))
		checkFiles(t, s.files(t, "converted", "oci"), image.files)
		copyTo(t, "--format=v2s2", remote("index:v1"), remote("converted:list"))
		var list manifest
		_, body := s.get(t, "converted/manifests/list")
		if err := json.Unmarshal(body, &list); err != nil {
			t.Fatal(err)
		}
		for _, child := range list.Manifests {
			checkFiles(t, s.files(t, "converted", child.Digest), newImage(t, formatOCI, child.Platform.Architecture).files)
		}
		if len(list.Manifests) != 2 {
			t.Errorf("the list is %s", body)
		}
	})

	t.Run("copy", func(t *testing.T) {
		copyTo(t, remote("index:v1"), remote("a/copy:v1"))
		s.check(t, "a/copy", "v1", index)
		s.checkMounted(t, "a/copy", index.layers(t)...)
	})

	t.Run("sync", func(t *testing.T) {
		s.push(t, "many/images", "v1", image)
		s.push(t, "many/images", "v2", index)
		dir := t.TempDir()
		skopeo.run(t, "sync", "--all", "--src-tls-verify=false", "--src=docker", "--dest=dir", s.repo("many/images"), dir)
		skopeo.run(t, "sync", "--all", "--dest-tls-verify=false", "--src=dir", "--dest=docker", dir, s.repo("synced"))
		s.check(t, "synced/images", "v1", image)
		s.check(t, "synced/images", "v2", index)
	})

	t.Run("lists", func(t *testing.T) {
		many := s.pushTags(t, "many")
		var got struct{ Tags []string }
		out := skopeo.run(t, "list-tags", plain, remote("many"))
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatal(err)
		}
		checkList(t, got.Tags, many)
	})

	t.Run("delete", func(t *testing.T) {
		s.push(t, "trash", "v1", image)
		s.push(t, "trash", "v2", image)
		s.push(t, "trash", "v3", index)
		// Skopeo deletes the manifest that the tag points at.
		skopeo.run(t, "delete", plain, remote("trash:v3"))
		s.checkGone(t, "trash", index.root.Digest)
		s.check(t, "trash", "v2", image)
		skopeo.run(t, "delete", plain, remote("trash:v1"))
		s.checkGone(t, "trash", image.root.Digest)
		s.checkGone(t, "trash", "v2")
	})

	t.Run("errors", func(t *testing.T) {
		skopeo.fails(t, "name unknown", "inspect", plain, remote("missing:v1"))
		skopeo.fails(t, "manifest unknown", "inspect", plain, remote("image:missing"))
		skopeo.fails(t, "manifest unknown", "copy", "--src-tls-verify=false", remote("image:missing"), "dir:"+t.TempDir())
		// Old ones add the status only, new ones the code.
		skopeo.fails(t, "fetching tags list", "list-tags", plain, remote("missing"))
		skopeo.fails(t, "Image may not exist", "delete", plain, remote("image:missing"))
	})
}
