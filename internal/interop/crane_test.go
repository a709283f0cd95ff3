package interop

import (
	"net/http"
	"path/filepath"
	"testing"
)

type crane struct{ *client }

func newCrane(t *testing.T, _ *server) crane { return crane{newClient(t, "crane")} }

func (c crane) push(t testing.TB, layout, repo string) {
	c.run(t, "push", layout, repo+":v1")
}

func (c crane) pull(t testing.TB, repo, layout string) {
	c.run(t, "pull", "--format=oci", repo+":v1", layout)
}

func TestCrane(t *testing.T) {
	t.Parallel()
	s := startServer(t, http.StatusMethodNotAllowed)
	crane := newCrane(t, s)
	image, index := newImage(t, formatOCI, "amd64"), newIndex(t)
	s.push(t, "image", "v1", image)
	s.push(t, "index", "v1", index)

	t.Run("read", func(t *testing.T) {
		checkLines(t, crane.run(t, "digest", s.repo("image:v1")), image.root.Digest)
		checkLines(t, crane.run(t, "digest", "--platform=linux/arm64", s.repo("index:v1")), index.order[1].Digest)
		checkBytes(t, "manifest", []byte(crane.run(t, "manifest", s.repo("image:v1"))), image.blobs[image.root.Digest])
		for _, layer := range image.layers(t) {
			blob := crane.run(t, "blob", s.repo("image@"+layer))
			checkBytes(t, layer, []byte(blob), image.blobs[layer])
		}
		crane.run(t, "validate", "--remote", s.repo("image:v1"))
		crane.run(t, "validate", "--remote", s.repo("index:v1"))
		checkFiles(t, untar(t, []byte(crane.run(t, "export", s.repo("image:v1"), "-"))), image.files)
	})

	t.Run("tarball", func(t *testing.T) {
		tarball := filepath.Join(t.TempDir(), "image.tar")
		crane.run(t, "pull", s.repo("image:v1"), tarball)
		crane.run(t, "validate", "--tarball", tarball)
		crane.run(t, "push", tarball, s.repo("tarball:v1"))
		for _, layer := range image.layers(t) {
			_, blob := s.get(t, "tarball/blobs/"+layer)
			checkBytes(t, layer, blob, image.blobs[layer])
		}
		crane.run(t, "validate", "--remote", s.repo("tarball:v1"))
	})

	t.Run("copy", func(t *testing.T) {
		crane.run(t, "copy", s.repo("index:v1"), s.repo("a/copy:v1"))
		s.check(t, "a/copy", "v1", index)
		s.checkMounted(t, "a/copy", index.layers(t)...)
	})

	t.Run("build", func(t *testing.T) {
		layer := crane.writeFile(t, "layer.tar", newTar(t, map[string][]byte{"new": []byte("new\n")}))
		crane.run(t, "append", "--base", s.repo("image:v1"), "--new_layer", layer, "--new_tag", s.repo("built:v1"))
		crane.run(t, "mutate", "--label", "a=b", "--tag", s.repo("built:v2"), s.repo("built:v1"))
		crane.run(t, "index", "append", "--manifest", s.repo("built:v1"), "--manifest", s.repo("built:v2"), "--tag", s.repo("built:both"))
		crane.run(t, "validate", "--remote", s.repo("built:both"))
	})

	t.Run("lists", func(t *testing.T) {
		crane.run(t, "tag", s.repo("image:v1"), "v2")
		checkLines(t, crane.run(t, "ls", s.repo("image")), "v1", "v2")
		checkLines(t, crane.run(t, "catalog", s.host), "a/copy", "built", "image", "index", "tarball")
		many := s.pushTags(t, "many")
		checkLines(t, crane.run(t, "ls", s.repo("many")), many...)
	})

	t.Run("delete", func(t *testing.T) {
		s.push(t, "trash", "v1", image)
		s.push(t, "trash", "v2", image)
		crane.run(t, "delete", s.repo("trash:v1"))
		s.checkGone(t, "trash", "v1")
		s.check(t, "trash", "v2", image)
		crane.run(t, "delete", s.repo("trash@"+image.root.Digest))
		s.checkGone(t, "trash", image.root.Digest)
		s.checkGone(t, "trash", "v2")
		crane.fails(t, "DENIED", "delete", s.repo("index@"+index.order[0].Digest))
		s.check(t, "index", "v1", index)
	})

	t.Run("errors", func(t *testing.T) {
		crane.fails(t, "NAME_UNKNOWN", "manifest", s.repo("missing:v1"))
		crane.fails(t, "MANIFEST_UNKNOWN", "manifest", s.repo("image:missing"))
		crane.fails(t, "MANIFEST_UNKNOWN", "pull", s.repo("image:missing"), filepath.Join(t.TempDir(), "image.tar"))
		crane.fails(t, "MANIFEST_UNKNOWN", "delete", s.repo("image:missing"))
		crane.fails(t, "NAME_UNKNOWN", "ls", s.repo("missing"))
		crane.fails(t, "BLOB_UNKNOWN", "blob", s.repo("image@"+missing))
	})
}
