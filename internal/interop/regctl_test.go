package interop

import (
	"bytes"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

type regctl struct{ *client }

func newRegctl(t *testing.T, s *server) regctl {
	c := regctl{newClient(t, "regctl")}
	c.run(t, "registry", "set", "--tls", "disabled", s.host)
	return c
}

func (c regctl) push(t testing.TB, layout, repo string) {
	c.run(t, "image", "copy", "ocidir://"+layout+":v1", repo+":v1")
}

func (c regctl) pull(t testing.TB, repo, layout string) {
	c.run(t, "image", "copy", repo+":v1", "ocidir://"+layout+":v1")
}

func TestRegctl(t *testing.T) {
	t.Parallel()
	s := startServer(t, http.StatusMethodNotAllowed)
	regctl := newRegctl(t, s)
	image, index := newImage(t, formatOCI, "amd64"), newIndex(t)
	s.push(t, "image", "v1", image)
	s.push(t, "index", "v1", index)

	t.Run("read", func(t *testing.T) {
		checkLines(t, regctl.run(t, "image", "digest", s.repo("image:v1")), image.root.Digest)
		checkLines(t, regctl.run(t, "image", "digest", "--platform=linux/arm64", s.repo("index:v1")), index.order[1].Digest)
		manifest := regctl.run(t, "manifest", "get", "--format=raw-body", s.repo("image:v1"))
		checkBytes(t, "manifest", []byte(manifest), image.blobs[image.root.Digest])
		headers := regctl.run(t, "manifest", "head", "--format=raw-headers", s.repo("image:v1"))
		if want := "Docker-Content-Digest: " + image.root.Digest; !strings.Contains(headers, want) {
			t.Errorf("got headers\n%s\nwant %s", headers, want)
		}
		for _, layer := range image.layers(t) {
			regctl.run(t, "blob", "head", s.repo("image"), layer)
			blob := regctl.run(t, "blob", "get", s.repo("image"), layer)
			checkBytes(t, layer, []byte(blob), image.blobs[layer])
		}
		checkBytes(t, "file", []byte(regctl.run(t, "image", "get-file", s.repo("image:v1"), "big")), image.files["big"])
	})

	t.Run("write blob in chunks", func(t *testing.T) {
		data := image.files["big"]
		regctl.run(t, "registry", "set", "--blob-chunk=1000000", "--blob-max=2000000", s.host)
		checkLines(t, regctl.feed(t, bytes.NewReader(data), "blob", "put", s.repo("chunks")), sha256Digest(data))
		_, got := s.get(t, "chunks/blobs/"+sha256Digest(data))
		checkBytes(t, "blob", got, data)
		patches := 0
		for _, r := range s.requests(t) {
			if r.method == http.MethodPatch && strings.HasPrefix(r.path, "/v2/chunks/") {
				patches++
			}
		}
		if patches < 5 {
			t.Errorf("%d chunks, want 5 or more", patches)
		}
	})

	t.Run("archive", func(t *testing.T) {
		archive := filepath.Join(t.TempDir(), "image.tar")
		regctl.run(t, "image", "export", s.repo("index:v1"), archive)
		regctl.run(t, "image", "import", s.repo("imported:v1"), archive)
		s.check(t, "imported", "v1", index)
	})

	t.Run("copy", func(t *testing.T) {
		regctl.run(t, "image", "copy", s.repo("index:v1"), s.repo("a/copy:v1"))
		s.check(t, "a/copy", "v1", index)
		s.checkMounted(t, "a/copy", index.layers(t)...)
		layer := image.layers(t)[0]
		regctl.run(t, "blob", "copy", s.repo("image"), s.repo("a/blob"), layer)
		_, blob := s.get(t, "a/blob/blobs/"+layer)
		checkBytes(t, layer, blob, image.blobs[layer])
		s.checkMounted(t, "a/blob", layer)
		regctl.run(t, "repo", "copy", s.repo("image"), s.repo("a/repo"))
		s.check(t, "a/repo", "v1", image)
	})

	t.Run("build", func(t *testing.T) {
		layer := regctl.writeFile(t, "layer.tar", newTar(t, map[string][]byte{"new": []byte("new\n")}))
		regctl.run(t, "image", "mod", s.repo("image:v1"), "--create", s.repo("built:amd64"), "--layer-add", "tar="+layer)
		checkLines(t, regctl.run(t, "image", "get-file", s.repo("built:amd64"), "new"), "new")
		regctl.run(t, "index", "create", s.repo("built:both"), "--ref", s.repo("built:amd64"), "--ref", s.repo("index:v1"), "--platform=linux/arm64")
		regctl.run(t, "image", "mod", s.repo("built:amd64"), "--create", s.repo("built:sha512"), "--digest-algo=sha512")
		if digest := regctl.run(t, "image", "digest", s.repo("built:sha512")); !strings.HasPrefix(digest, "sha512:") {
			t.Errorf("got digest %s", digest)
		}
	})

	t.Run("referrers", func(t *testing.T) {
		sbom := newArtifact(t, &image, "gcc\n")
		s.push(t, "signed", "v1", image)
		s.push(t, "signed", "sbom", sbom)
		regctl.feed(t, strings.NewReader("us\n"), "artifact", "put", "--artifact-type=application/signature", "--subject", s.repo("signed:v1"))
		list := func(repo string, args ...string) []string {
			args = append([]string{"artifact", "list", s.repo(repo), "--format={{range .Descriptors}}{{println .ArtifactType}}{{end}}"}, args...)
			return strings.Fields(regctl.run(t, args...))
		}
		checkSet(t, list("signed:v1"), typeSBOM, "application/signature")
		checkSet(t, list("signed:v1", "--filter-artifact-type="+typeSBOM), typeSBOM)
		checkLines(t, regctl.run(t, "artifact", "get", "--subject", s.repo("signed:v1"), "--filter-artifact-type="+typeSBOM), "gcc")
		checkLines(t, regctl.run(t, "artifact", "get", "--subject", s.repo("signed:v1"), "--filter-artifact-type=application/signature"), "us")
		regctl.run(t, "image", "copy", "--referrers", s.repo("signed:v1"), s.repo("signed/copy:v1"))
		checkSet(t, list("signed/copy:v1"), typeSBOM, "application/signature")
		s.check(t, "signed/copy", sbom.root.Digest, sbom)
		// Tags for referrers are for registries that have no API for them.
		checkLines(t, regctl.run(t, "tag", "ls", s.repo("signed/copy")), "v1")
	})

	t.Run("lists", func(t *testing.T) {
		checkLines(t, regctl.run(t, "repo", "ls", "--limit=3", "--last=a/copy", s.host), "a/repo", "built", "chunks")
		many := s.pushTags(t, "many")
		checkLines(t, regctl.run(t, "tag", "ls", s.repo("many")), many...)
		checkLines(t, regctl.run(t, "tag", "ls", "--limit=5", "--last=tag0041", s.repo("many")), many[42:47]...)
	})

	t.Run("delete", func(t *testing.T) {
		s.push(t, "trash", "v1", image)
		s.push(t, "trash", "v2", image)
		regctl.run(t, "tag", "rm", s.repo("trash:v1"))
		s.checkGone(t, "trash", "v1")
		s.check(t, "trash", "v2", image)
		layer := image.layers(t)[0]
		regctl.fails(t, "DENIED", "blob", "delete", s.repo("trash"), layer)
		regctl.run(t, "manifest", "delete", s.repo("trash@"+image.root.Digest))
		s.checkGone(t, "trash", image.root.Digest)
		s.checkGone(t, "trash", "v2")
		regctl.run(t, "blob", "delete", s.repo("trash"), layer)
		regctl.fails(t, "not found", "blob", "head", s.repo("trash"), layer)
		regctl.fails(t, "DENIED", "manifest", "delete", s.repo("index@"+index.order[0].Digest))
		s.check(t, "index", "v1", index)
	})

	t.Run("errors", func(t *testing.T) {
		regctl.fails(t, "NAME_UNKNOWN", "manifest", "get", s.repo("missing:v1"))
		regctl.fails(t, "MANIFEST_UNKNOWN", "manifest", "get", s.repo("image:missing"))
		regctl.fails(t, "NAME_UNKNOWN", "tag", "ls", s.repo("missing"))
		regctl.fails(t, "not found", "tag", "rm", s.repo("image:missing"))
		regctl.fails(t, "BLOB_UNKNOWN", "blob", "get", s.repo("image"), missing)
	})
}
