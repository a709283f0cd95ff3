package interop

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestToolsReadWhatWasPushed lets the clients read in place what was pushed to a
// server: while it runs, and when it has ended.
func TestToolsReadWhatWasPushed(t *testing.T) {
	t.Parallel()
	// Podman and buildah make a name of the path, which must be in lower case.
	root, err := os.MkdirTemp("", "interop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	s := startServing(t, []string{"-dir", root})
	image, index := newImage(t, formatOCI, "amd64"), newIndex(t)
	sbom := newArtifact(t, &image, "gcc\n")
	signature := newArtifact(t, &sbom, "us\n")
	want := held{
		tags:      map[string]content{"v1": image, "v1.0": image, "latest": index, "v2": index, "sbom": sbom},
		untagged:  []content{signature},
		referrers: map[string][]string{image.root.Digest: {typeSBOM}, sbom.root.Digest: {typeSBOM}},
	}
	for _, tag := range []string{"v1", "v1.0", "latest", "v2", "sbom"} {
		s.push(t, "team/app", tag, want.tags[tag])
	}
	s.push(t, "team/app", "gone", signature)
	s.send(t, http.MethodDelete, "team/app/manifests/gone", http.StatusAccepted)
	s.push(t, "single", "v1", image)
	dir, single := filepath.Join(root, "team", "app"), filepath.Join(root, "single")
	awaitLayout(t, dir, want)
	awaitLayout(t, single, held{tags: map[string]content{"v1": image}})
	s.checkHeld(t, "team/app", want)

	readers := map[string]func(t *testing.T, copies *server){
		"skopeo": func(t *testing.T, copies *server) {
			skopeo := newSkopeo(t, copies)
			for tag, c := range want.tags {
				raw := skopeo.run(t, "inspect", "--raw", "oci:"+dir+":"+tag)
				checkBytes(t, tag, []byte(raw), c.blobs[c.root.Digest])
				skopeo.run(t, "copy", "--all", "--preserve-digests", "--dest-tls-verify=false", "oci:"+dir+":"+tag, "docker://"+copies.repo("skopeo:"+tag))
			}
			copies.checkHeld(t, "skopeo", held{tags: want.tags})
		},
		"regctl": func(t *testing.T, copies *server) {
			regctl := newRegctl(t, copies)
			checkLines(t, regctl.run(t, "tag", "ls", "ocidir://"+dir), "latest", "sbom", "v1", "v1.0", "v2")
			for tag := range want.tags {
				regctl.run(t, "image", "copy", "ocidir://"+dir+":"+tag, copies.repo("regctl:"+tag))
			}
			regctl.run(t, "image", "copy", "ocidir://"+dir+"@"+signature.root.Digest, copies.repo("regctl@"+signature.root.Digest))
			checkBytes(t, "file", []byte(regctl.run(t, "image", "get-file", "ocidir://"+dir+":v1", "big")), image.files["big"])
			copies.checkHeld(t, "regctl", want)
		},
		"oras": func(t *testing.T, copies *server) {
			oras := newOras(t, copies)
			checkLines(t, oras.run(t, "repo", "tags", "--oci-layout", dir), "latest", "sbom", "v1", "v1.0", "v2")
			oras.run(t, "cp", "-r", "--from-oci-layout", "--to-plain-http", dir+":v1", copies.repo("oras:v1,v1.0"))
			oras.run(t, "cp", "--from-oci-layout", "--to-plain-http", dir+":v2", copies.repo("oras:v2,latest"))
			oras.run(t, "cp", "--from-oci-layout", "--to-plain-http", dir+":sbom", copies.repo("oras:sbom"))
			copies.checkHeld(t, "oras", want)
			var found struct{ Referrers []descriptor }
			out := oras.run(t, "discover", "--oci-layout", "--format=json", dir+":v1")
			if err := json.Unmarshal([]byte(out), &found); err != nil {
				t.Fatalf("%v in %s", err, out)
			}
			if len(found.Referrers) != 1 || found.Referrers[0].Digest != sbom.root.Digest {
				t.Errorf("oras discovered %s", out)
			}
		},
		"crane": func(t *testing.T, copies *server) {
			crane := newCrane(t, copies)
			crane.run(t, "push", single, copies.repo("crane:v1"))
			copies.check(t, "crane", "v1", image)
			// It can push one image, or all that there is as an index.
			crane.run(t, "push", "--index", dir, copies.repo("crane:all"))
			for _, c := range []content{image, index, sbom, signature} {
				copies.check(t, "crane", c.root.Digest, c)
			}
		},
		"podman": func(t *testing.T, _ *server) {
			podman := podman{newContainersClient(t, "podman")}
			id := strings.TrimSpace(podman.run(t, "pull", "oci:"+dir+":v1"))
			podman.checkImage(t, id, image.files)
		},
		"buildah": func(t *testing.T, _ *server) {
			buildah := newContainersClient(t, "buildah")
			container := strings.TrimSpace(buildah.run(t, "from", "oci:"+dir+":v1"))
			checkDir(t, strings.TrimSpace(buildah.run(t, "mount", container)), image.files)
			buildah.run(t, "rm", container)
		},
	}
	readAll := func(t *testing.T) {
		before := readFile(t, filepath.Join(dir, "index.json"))
		t.Run("by", func(t *testing.T) {
			for name, read := range readers {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					read(t, startServer(t))
				})
			}
		})
		checkBytes(t, "index.json", readFile(t, filepath.Join(dir, "index.json")), before)
	}
	t.Run("running", readAll)
	s.stop()
	t.Run("ended", readAll)
}

// TestServerSeesWhatToolsWrite lets the clients write into the layouts of a
// server that is idle, with pushes in between.
func TestServerSeesWhatToolsWrite(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := startServing(t, []string{"-dir", root})
	image, index, other := newImage(t, formatOCI, "amd64"), newIndex(t), newArtifact(t, nil, "other\n")
	sbom := newArtifact(t, &image, "gcc\n")
	source := writeLayout(t, index, "v1")
	s.push(t, "app", "pushed", image)
	s.push(t, "app", "sbom", sbom)
	s.push(t, "app", "moved", other)
	want := held{
		tags:      map[string]content{"pushed": image, "sbom": sbom, "moved": other},
		untagged:  []content{sbom, other},
		referrers: map[string][]string{image.root.Digest: {typeSBOM}},
	}
	dir := filepath.Join(root, "app")

	// Each copies what source has to a tag of a layout.
	writers := []struct {
		name  string
		write func(t *testing.T, dir, tag string)
	}{
		{"skopeo", func(t *testing.T, dir, tag string) {
			newSkopeo(t, s).run(t, "copy", "--all", "--preserve-digests", "oci:"+source+":v1", "oci:"+dir+":"+tag)
		}},
		{"regctl", func(t *testing.T, dir, tag string) {
			newRegctl(t, s).run(t, "image", "copy", "ocidir://"+source+":v1", "ocidir://"+dir+":"+tag)
		}},
		{"oras", func(t *testing.T, dir, tag string) {
			newOras(t, s).run(t, "cp", "--from-oci-layout", "--to-oci-layout", source+":v1", dir+":"+tag)
		}},
		{"crane", func(t *testing.T, dir, tag string) {
			origin := startServer(t)
			origin.push(t, "app", tag, index)
			newCrane(t, origin).run(t, "pull", "--format=oci", "--annotate-ref", origin.repo("app:"+tag), dir)
		}},
	}
	for _, writer := range writers {
		t.Run(writer.name, func(t *testing.T) {
			awaitLayout(t, dir, want) // the server is idle
			writer.write(t, dir, writer.name)
			want.tags[writer.name] = index
			s.checkHeld(t, "app", want)
			s.putTag(t, "app", "after-"+writer.name, image)
			want.tags["after-"+writer.name] = image
			s.checkHeld(t, "app", want)

			// A repository that the server has not heard of.
			if err := os.MkdirAll(filepath.Join(root, "new"), 0o777); err != nil { // skopeo does not
				t.Fatal(err)
			}
			writer.write(t, filepath.Join(root, "new", writer.name), "v1")
			s.checkHeld(t, "new/"+writer.name, held{tags: map[string]content{"v1": index}})
			s.push(t, "new/"+writer.name, "v2", image)
			s.checkHeld(t, "new/"+writer.name, held{tags: map[string]content{"v1": index, "v2": image}})
		})
	}

	t.Run("tags that move and go", func(t *testing.T) {
		awaitLayout(t, dir, want)
		oras, regctl := newOras(t, s), newRegctl(t, s)
		oras.run(t, "tag", "--oci-layout", dir+":pushed", "moved")
		want.tags["moved"] = image
		s.checkHeld(t, "app", want)
		regctl.run(t, "tag", "rm", "ocidir://"+dir+":after-skopeo")
		delete(want.tags, "after-skopeo")
		s.checkHeld(t, "app", want)
		s.putTag(t, "app", "last", other)
		want.tags["last"] = other
		s.checkHeld(t, "app", want)
	})
	s.stop()
	awaitLayout(t, dir, want)
	again := startServing(t, []string{"-dir", root, "-read-only"})
	again.checkHeld(t, "app", want)
}
