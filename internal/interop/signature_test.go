package interop

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocicopy"
)

// cosign signs and verifies with one key, and asks nobody but registries.
type cosign struct {
	*client
	key, pub string // files
}

// newCosign skips the test where there is no cosign: it takes minutes to build.
func newCosign(t *testing.T) cosign {
	t.Helper()
	path, err := exec.LookPath("cosign")
	if err != nil {
		t.Skipf("cosign IS NOT TESTED: %v", err)
	}
	home := t.TempDir()
	c := &client{path: path, home: home, env: []string{"COSIGN_PASSWORD=", "COSIGN_EXPERIMENTAL=1"}}
	c.run(t, "generate-key-pair")
	return cosign{c, filepath.Join(home, "cosign.key"), filepath.Join(home, "cosign.pub")}
}

func (c cosign) sign(t *testing.T, image string, args ...string) {
	t.Helper()
	c.run(t, slices.Concat([]string{"sign", "--yes", "--allow-http-registry", "--tlog-upload=false", "--key", c.key}, args, []string{image})...)
}

func (c cosign) verification(image string, args ...string) []string {
	return slices.Concat([]string{"verify", "--allow-http-registry", "--insecure-ignore-tlog", "--key", c.pub}, args, []string{image})
}

func (c cosign) verify(t *testing.T, image string, args ...string) {
	t.Helper()
	c.run(t, c.verification(image, args...)...)
}

func TestCosign(t *testing.T) {
	t.Parallel()
	testCosign(t, func(t *testing.T) *server { return startServer(t) }, func(t *testing.T, origin string) *server {
		return startServing(t, []string{"-cache", origin, "-dir", t.TempDir()}, http.StatusBadGateway)
	})
}

// testCosign signs images in each of the ways in which cosign stores signatures,
// and verifies them elsewhere, where they have got to without cosign, when the
// server where they were signed is gone.
func testCosign(t *testing.T, start func(*testing.T) *server, startCache func(t *testing.T, origin string) *server) {
	c := newCosign(t)
	roots := c.writeFile(t, "roots.json", []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`))
	tests := []struct {
		name         string
		sign, verify []string
		refused      string // what is said of an image without a signature
	}{
		{"tag", nil, nil, "no signatures found"},
		{"referrer", []string{"--registry-referrers-mode=oci-1-1"}, []string{"--experimental-oci11"}, "no signatures found"},
		{"bundle", []string{"--new-bundle-format"}, []string{"--new-bundle-format", "--trusted-root", roots}, "no valid bundles exist"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			origin, copied := start(t), start(t)
			// Whether there are referrers that nobody has asked for, the cache cannot know: it may answer
			// that its origin failed.
			cache := startCache(t, "http://"+origin.host)
			image, unsigned := newIndex(t), newImage(t, formatOCI, "amd64")
			origin.push(t, "app", "v1", image)
			origin.push(t, "app", "unsigned", unsigned)
			c.sign(t, origin.repo("app@"+image.root.Digest), test.sign...)

			for _, tag := range []string{"v1", "unsigned"} {
				copySigned(t, copied, origin, "app", tag)
			}
			c.verify(t, cache.repo("app@"+image.root.Digest), test.verify...)
			origin.stop()
			cache.warning = "the origin failed; "
			for _, s := range []*server{copied, cache} {
				c.verify(t, s.repo("app@"+image.root.Digest), test.verify...)
			}
			copied.check(t, "app", "v1", image)
			c.fails(t, test.refused, c.verification(copied.repo("app@"+unsigned.root.Digest), test.verify...)...)
		})
	}
}

// copySigned copies an image and all that is said of it from one server to
// another.
func copySigned(t *testing.T, dst, src *server, repo, tag string) {
	t.Helper()
	place := func(s *server) ocicopy.Place {
		reg, err := ociclient.New(s.host, &ociclient.Options{Insecure: true})
		if err != nil {
			t.Fatal(err)
		}
		return ocicopy.Place{Registry: reg, Repository: repo, Ref: tag}
	}
	if _, err := ocicopy.Copy(t.Context(), place(dst), place(src), &ocicopy.Options{Referrers: true, CosignTags: true}); err != nil {
		t.Fatal(err)
	}
}

const (
	typeNotarySignature = "application/vnd.cncf.notary.signature"
	typeJWS             = "application/jose+json"
)

// newNotarySignature returns a signature as notation stores it. It signs nothing:
// what is in it is not for registries to read.
func newNotarySignature(t testing.TB, subject content) content {
	c := content{blobs: make(map[string][]byte)}
	empty := c.add(typeEmpty, sha256Digest, []byte("{}"))
	c.setRoot(t, manifest{
		SchemaVersion: 2,
		MediaType:     typeManifest,
		ArtifactType:  typeNotarySignature,
		Config:        &empty,
		Layers:        []descriptor{c.add(typeJWS, sha256Digest, []byte(`{"payload":"e30","protected":"e30","header":{},"signature":""}`))},
		Subject:       &descriptor{MediaType: subject.root.MediaType, Digest: subject.root.Digest, Size: subject.root.Size},
		Annotations:   map[string]string{"io.cncf.notary.x509chain.thumbprint#S256": "[]"},
	}, sha256Digest)
	return c
}

// TestNotarySignatures copies an image that has a signature and a list of parts,
// and finds both with a client when the source is gone: all, and by their types.
func TestNotarySignatures(t *testing.T) {
	t.Parallel()
	origin, copied := startServer(t), startServer(t)
	oras := newOras(t, copied)
	image := newImage(t, formatOCI, "amd64")
	signature, parts := newNotarySignature(t, image), newArtifact(t, &image, "parts\n")
	origin.push(t, "app", "v1", image)
	origin.push(t, "app", "signature", signature)
	origin.push(t, "app", "parts", parts)
	copySigned(t, copied, origin, "app", "v1")
	origin.stop()

	for _, test := range []struct {
		args []string
		want []string
	}{
		{nil, []string{signature.root.Digest, parts.root.Digest}},
		{[]string{"--artifact-type=" + typeNotarySignature}, []string{signature.root.Digest}},
		{[]string{"--artifact-type=" + typeSBOM}, []string{parts.root.Digest}},
		{[]string{"--artifact-type=application/unknown"}, nil},
	} {
		var found struct{ Referrers []descriptor }
		out := oras.run(t, slices.Concat([]string{"discover", "--plain-http", "--format=json", copied.repo("app:v1")}, test.args)...)
		if err := json.Unmarshal([]byte(out), &found); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		var digests []string
		for _, desc := range found.Referrers {
			digests = append(digests, desc.Digest)
		}
		checkSet(t, digests, test.want...)
	}
	for _, c := range []content{signature, parts} {
		copied.check(t, "app", c.root.Digest, c)
	}

	// So does our own client.
	reg, err := ociclient.New(copied.host, &ociclient.Options{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	descs, err := ociregistry.All(reg.Referrers(t.Context(), "app", ociregistry.Digest(image.root.Digest), typeNotarySignature))
	if err != nil || len(descs) != 1 || string(descs[0].Digest) != signature.root.Digest {
		t.Errorf("referrers: %v, %v", descs, err)
	}
}
