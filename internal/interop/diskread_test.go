package interop

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestServesLayoutsOfTools serves layouts that tools wrote, as they are: each of
// them as the only repository, and all of them as those of a directory.
func TestServesLayoutsOfTools(t *testing.T) {
	t.Parallel()
	origin := startServer(t)
	image, index := newImage(t, formatOCI, "amd64"), newIndex(t)
	sbom := newArtifact(t, &image, "gcc\n")
	signature := newArtifact(t, &sbom, "us\n")
	origin.push(t, "app", "v1", image)
	origin.push(t, "app", "v2", index)
	origin.push(t, "app", "sbom", sbom)
	origin.push(t, "app", "signature", signature)
	from := origin.repo("app")
	referrersTag := func(c content) string { return strings.Replace(c.root.Digest, ":", "-", 1) }

	// Each writes a layout, and returns what it must be served as.
	writers := map[string]func(t *testing.T, dir string) held{
		"skopeo": func(t *testing.T, dir string) held {
			skopeo := newSkopeo(t, origin)
			// What follows the directory is a tag, a reference, or nothing.
			for from, to := range map[string]string{
				from + ":v1":                       ":v1",
				from + ":v2":                       ":example.com/team/app:v2",
				from + "@" + sbom.root.Digest:      "",
				from + "@" + index.order[1].Digest: ":arm64",
			} {
				skopeo.run(t, "copy", "--all", "--preserve-digests", "--src-tls-verify=false", "docker://"+from, "oci:"+dir+to)
			}
			return held{
				tags:      map[string]content{"v1": image, "v2": index, "arm64": newImage(t, formatOCI, "arm64")},
				untagged:  []content{sbom},
				referrers: map[string][]string{image.root.Digest: {typeSBOM}, sbom.root.Digest: nil},
			}
		},
		"regctl": func(t *testing.T, dir string) held {
			regctl := newRegctl(t, origin)
			regctl.run(t, "image", "copy", "--referrers", from+":v1", "ocidir://"+dir+":v1")
			regctl.run(t, "image", "copy", from+":v2", "ocidir://"+dir+":v2")
			regctl.run(t, "image", "copy", "ocidir://"+dir+":v1", "ocidir://"+dir+":latest")
			regctl.feed(t, strings.NewReader("us\n"), "artifact", "put", "--artifact-type=application/signature", "--subject", "ocidir://"+dir+":v2")
			// In a layout, regctl keeps lists of referrers under tags.
			lists := make(map[string]content)
			for _, subject := range []content{image, sbom, index} {
				lists[referrersTag(subject)] = readLayoutTag(t, dir, referrersTag(subject))
			}
			tags := map[string]content{"v1": image, "latest": image, "v2": index}
			for tag, list := range lists {
				tags[tag] = list
			}
			return held{
				tags:     tags,
				untagged: []content{sbom, signature},
				referrers: map[string][]string{
					image.root.Digest: {typeSBOM},
					sbom.root.Digest:  {typeSBOM},
					index.root.Digest: {"application/signature"},
				},
			}
		},
		"oras": func(t *testing.T, dir string) held {
			oras := newOras(t, origin)
			oras.run(t, "cp", "-r", "--from-plain-http", "--to-oci-layout", from+":v1", dir+":v1")
			oras.run(t, "cp", "--from-plain-http", "--to-oci-layout", from+":v2", dir+":v2")
			oras.run(t, "tag", "--oci-layout", dir+":v1", "latest", "stable")
			oras.writeFile(t, "signature", []byte("us\n"))
			oras.run(t, "attach", "--oci-layout", "--artifact-type=application/signature", dir+":v1", "signature")
			return held{
				tags:     map[string]content{"v1": image, "latest": image, "stable": image, "v2": index},
				untagged: []content{sbom, signature},
				referrers: map[string][]string{
					image.root.Digest: {typeSBOM, "application/signature"},
					sbom.root.Digest:  {typeSBOM},
				},
			}
		},
		"crane": func(t *testing.T, dir string) held {
			crane := newCrane(t, origin)
			crane.run(t, "pull", "--format=oci", "--annotate-ref", from+":v1", from+":v2", dir)
			crane.run(t, "pull", "--format=oci", from+"@"+sbom.root.Digest, dir)
			return held{
				tags:      map[string]content{"v1": image, "v2": index},
				untagged:  []content{sbom},
				referrers: map[string][]string{image.root.Digest: {typeSBOM}},
			}
		},
	}

	root := t.TempDir()
	wants := make(map[string]held)
	t.Run("layout", func(t *testing.T) {
		for name, write := range writers {
			t.Run(name, func(t *testing.T) {
				dir := filepath.Join(root, name)
				wants[name] = write(t, dir)
				before := readFile(t, filepath.Join(dir, "index.json"))
				s := startServing(t, []string{"-layout", dir, "-repo", "some/name"})
				checkList(t, s.catalog(t), []string{"some/name"})
				s.checkHeld(t, "some/name", wants[name])
				s.stop()
				checkBytes(t, "index.json", readFile(t, filepath.Join(dir, "index.json")), before)
			})
		}
	})
	s := startServing(t, []string{"-dir", root, "-read-only"})
	var names []string
	for name, want := range wants {
		names = append(names, name)
		s.checkHeld(t, name, want)
	}
	checkSet(t, s.catalog(t), names...)
}

// readLayoutTag returns the manifest that a layout has under a tag, without what
// is below it.
func readLayoutTag(t testing.TB, dir, tag string) content {
	t.Helper()
	for _, desc := range readIndex(t, dir).Manifests {
		if desc.Annotations[refName] == tag {
			desc.Annotations = nil
			data := readFile(t, filepath.Join(dir, blobPath(desc.Digest)))
			return content{root: desc, order: []descriptor{desc}, blobs: map[string][]byte{desc.Digest: data}}
		}
	}
	t.Fatalf("%s has no tag %s", dir, tag)
	return content{}
}
