package interop

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"testing"
)

type oras struct{ *client }

func newOras(t *testing.T, _ *server) oras { return oras{newClient(t, "oras")} }

func (c oras) push(t testing.TB, layout, repo string) {
	c.run(t, "cp", "--from-oci-layout", "--to-plain-http", layout+":v1", repo+":v1")
}

func (c oras) pull(t testing.TB, repo, layout string) {
	c.run(t, "cp", "--from-plain-http", "--to-oci-layout", repo+":v1", layout+":v1")
}

func TestOras(t *testing.T) {
	t.Parallel()
	s := startServer(t, http.StatusMethodNotAllowed)
	oras := newOras(t, s)
	image, index := newImage(t, formatOCI, "amd64"), newIndex(t)
	s.push(t, "image", "v1", image)
	s.push(t, "index", "v1", index)
	const plain = "--plain-http"

	t.Run("read", func(t *testing.T) {
		checkLines(t, oras.run(t, "resolve", plain, s.repo("image:v1")), image.root.Digest)
		checkLines(t, oras.run(t, "resolve", plain, "--platform=linux/arm64", s.repo("index:v1")), index.order[1].Digest)
		manifest := oras.run(t, "manifest", "fetch", plain, s.repo("image:v1"))
		checkBytes(t, "manifest", []byte(manifest), image.blobs[image.root.Digest])
		for _, layer := range image.layers(t) {
			blob := oras.run(t, "blob", "fetch", plain, "--output=-", s.repo("image@"+layer))
			checkBytes(t, layer, []byte(blob), image.blobs[layer])
		}
	})

	t.Run("files", func(t *testing.T) {
		files := map[string][]byte{"big": image.files["big"], "empty": nil, "notes.txt": []byte("notes\n")}
		for name, data := range files {
			oras.writeFile(t, name, data)
		}
		oras.run(t, "push", plain, "--artifact-type="+typeSBOM, s.repo("files:v1,latest"), "big", "empty", "notes.txt:text/plain")
		dir := t.TempDir()
		oras.run(t, "pull", plain, "--output="+dir, s.repo("files:latest"))
		checkDir(t, dir, files)
	})

	t.Run("write", func(t *testing.T) {
		data := image.files["big"]
		path := oras.writeFile(t, "blob", data)
		oras.run(t, "blob", "push", plain, s.repo("image"), path)
		_, blob := s.get(t, "image/blobs/"+sha256Digest(data))
		checkBytes(t, "blob", blob, data)
		oras.run(t, "blob", "delete", plain, "--force", s.repo("image@"+sha256Digest(data)))
		oras.fails(t, "not found", "blob", "fetch", plain, "--descriptor", s.repo("image@"+sha256Digest(data)))
		path = oras.writeFile(t, "manifest.json", image.blobs[image.root.Digest])
		oras.run(t, "manifest", "push", plain, s.repo("image:v2,v3"), path)
		s.check(t, "image", "v3", image)
		oras.run(t, "tag", plain, s.repo("index:v1"), "v2", "v3")
		s.check(t, "index", "v3", index)
		oras.run(t, "manifest", "index", "create", plain, s.repo("index:v4"), index.order[0].Digest, "v1")
	})

	t.Run("copy", func(t *testing.T) {
		oras.run(t, "cp", "--from-plain-http", "--to-plain-http", s.repo("index:v1"), s.repo("a/copy:v1"))
		s.check(t, "a/copy", "v1", index)
		s.checkMounted(t, "a/copy", index.layers(t)...)
	})

	t.Run("referrers", func(t *testing.T) {
		sbom := newArtifact(t, &image, "gcc\n")
		s.push(t, "signed", "v1", image)
		s.push(t, "signed", "sbom", sbom)
		oras.writeFile(t, "signature", []byte("us\n"))
		oras.run(t, "attach", plain, "--artifact-type=application/signature", s.repo("signed:v1"), "signature")
		referrers := func(repo string, args ...string) []string {
			var found struct{ Referrers []descriptor }
			out := oras.run(t, append([]string{"discover", plain, "--format=json", s.repo(repo)}, args...)...)
			if err := json.Unmarshal([]byte(out), &found); err != nil {
				t.Fatalf("%v in %s", err, out)
			}
			var types []string
			for _, desc := range found.Referrers {
				types = append(types, desc.ArtifactType)
			}
			return types
		}
		checkSet(t, referrers("signed:v1"), typeSBOM, "application/signature")
		checkSet(t, referrers("signed:v1", "--artifact-type="+typeSBOM), typeSBOM)
		oras.run(t, "cp", "-r", "--from-plain-http", "--to-plain-http", s.repo("signed:v1"), s.repo("signed/copy:v1"))
		checkSet(t, referrers("signed/copy:v1"), typeSBOM, "application/signature")
		backup := filepath.Join(t.TempDir(), "backup.tar")
		oras.run(t, "backup", plain, "--include-referrers", "--output="+backup, s.repo("signed:v1"))
		oras.run(t, "restore", plain, "--input="+backup, s.repo("signed/restored:v1"))
		checkSet(t, referrers("signed/restored:v1"), typeSBOM, "application/signature")
		for _, repo := range []string{"signed/copy", "signed/restored"} {
			s.check(t, repo, "v1", image)
			s.check(t, repo, sbom.root.Digest, sbom)
			// Tags for referrers are for registries that have no API for them.
			checkLines(t, oras.run(t, "repo", "tags", plain, s.repo(repo)), "v1")
		}
	})

	t.Run("lists", func(t *testing.T) {
		checkLines(t, oras.run(t, "repo", "ls", plain, "--last=files", s.host), "image", "index", "signed", "signed/copy", "signed/restored")
		many := s.pushTags(t, "many")
		checkLines(t, oras.run(t, "repo", "tags", plain, s.repo("many")), many...)
		checkLines(t, oras.run(t, "repo", "tags", plain, "--last=tag0041", s.repo("many")), many[42:]...)
	})

	t.Run("delete", func(t *testing.T) {
		s.push(t, "trash", "v1", image)
		layer := image.layers(t)[0]
		oras.fails(t, "denied", "blob", "delete", plain, "--force", s.repo("trash@"+layer))
		oras.run(t, "manifest", "delete", plain, "--force", s.repo("trash:v1"))
		s.checkGone(t, "trash", image.root.Digest)
		oras.run(t, "blob", "delete", plain, "--force", s.repo("trash@"+layer))
		oras.fails(t, "denied", "manifest", "delete", plain, "--force", s.repo("index@"+index.order[0].Digest))
		s.check(t, "index", "v1", index)
	})

	t.Run("errors", func(t *testing.T) {
		oras.fails(t, "not found", "manifest", "fetch", plain, s.repo("missing:v1"))
		oras.fails(t, "not found", "manifest", "fetch", plain, s.repo("image:missing"))
		oras.fails(t, "not found", "pull", plain, s.repo("image:missing"))
		oras.fails(t, "name unknown", "repo", "tags", plain, s.repo("missing"))
		oras.fails(t, "not found", "blob", "fetch", plain, "--output=-", s.repo("image@"+missing))
		oras.fails(t, "not found", "tag", plain, s.repo("image:missing"), "v9")
	})
}
