package interop

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"
)

const (
	typeManifest       = "application/vnd.oci.image.manifest.v1+json"
	typeIndex          = "application/vnd.oci.image.index.v1+json"
	typeConfig         = "application/vnd.oci.image.config.v1+json"
	typeLayer          = "application/vnd.oci.image.layer.v1.tar+gzip"
	typeEmpty          = "application/vnd.oci.empty.v1+json"
	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	typeDockerConfig   = "application/vnd.docker.container.image.v1+json"
	typeDockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	typeSBOM           = "application/vnd.example.sbom.v1"
	typeSBOMText       = "application/vnd.example.sbom.v1+text"
)

// missing is the digest of nothing that is ever pushed.
const missing = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// content is a manifest and everything below it.
type content struct {
	root  descriptor
	blobs map[string][]byte // what root leads to, itself included, by digest
	order []descriptor      // the manifests among them, children first
	files map[string][]byte // what a container would see, by path; nil unless it is an image
}

type descriptor struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	Platform     *platform         `json:"platform,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
}

// manifest is an image manifest or an index.
type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        *descriptor       `json:"config,omitempty"`
	Layers        []descriptor      `json:"layers,omitempty"`
	Manifests     []descriptor      `json:"manifests,omitempty"`
	Subject       *descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

type config struct {
	platform
	Config  map[string]any   `json:"config"`
	RootFS  rootFS           `json:"rootfs"`
	History []map[string]any `json:"history"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

// format is how an image is written down.
type format struct {
	manifest, config, layer string // media types
	digest                  func([]byte) string
}

var (
	formatOCI    = format{typeManifest, typeConfig, typeLayer, sha256Digest}
	formatDocker = format{typeDockerManifest, typeDockerConfig, typeDockerLayer, sha256Digest}
	formatSHA512 = format{typeManifest, typeConfig, typeLayer, sha512Digest}
)

func sha256Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func sha512Digest(data []byte) string {
	sum := sha512.Sum512(data)
	return "sha512:" + hex.EncodeToString(sum[:])
}

// newImage returns an image of three layers: a large one that does not
// compress, one that is as good as empty, and one that depends on the
// architecture.
func newImage(t testing.TB, f format, arch string) content {
	big := make([]byte, 5<<20)
	rand.NewChaCha8([32]byte([]byte("the same bytes in every test run"))).Read(big)
	layers := []map[string][]byte{
		{"big": big},
		{},
		{"arch": []byte(arch + "\n"), "nothing": nil},
	}
	c := content{blobs: make(map[string][]byte), files: make(map[string][]byte)}
	m := manifest{SchemaVersion: 2, MediaType: f.manifest}
	cfg := config{
		platform: platform{OS: "linux", Architecture: arch},
		Config:   map[string]any{"Cmd": []string{"/big"}},
		RootFS:   rootFS{Type: "layers"},
	}
	for _, files := range layers {
		maps.Copy(c.files, files)
		tarball := newTar(t, files)
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, f.digest(tarball))
		cfg.History = append(cfg.History, map[string]any{"created": "2024-02-29T00:00:00Z", "created_by": "interop"})
		m.Layers = append(m.Layers, c.add(f.layer, f.digest, compress(t, tarball)))
	}
	configDesc := c.add(f.config, f.digest, marshal(t, cfg))
	m.Config = &configDesc
	c.setRoot(t, m, f.digest)
	c.root.Platform = &cfg.platform
	return c
}

// newIndex returns an index of images for two platforms, which share layers.
func newIndex(t testing.TB) content {
	c := content{blobs: make(map[string][]byte)}
	m := manifest{
		SchemaVersion: 2,
		MediaType:     typeIndex,
		Annotations:   map[string]string{"org.example.kind": "two platforms"},
	}
	for _, arch := range []string{"amd64", "arm64"} {
		image := newImage(t, formatOCI, arch)
		maps.Copy(c.blobs, image.blobs)
		c.order = append(c.order, image.order...)
		m.Manifests = append(m.Manifests, image.root)
	}
	c.setRoot(t, m, sha256Digest)
	return c
}

// newArtifact returns an artifact that has a text, and refers to subject if that
// is not nil.
func newArtifact(t testing.TB, subject *content, text string) content {
	c := content{blobs: make(map[string][]byte)}
	empty := c.add(typeEmpty, sha256Digest, []byte("{}"))
	m := manifest{
		SchemaVersion: 2,
		MediaType:     typeManifest,
		ArtifactType:  typeSBOM,
		Config:        &empty,
		Layers:        []descriptor{c.add(typeSBOMText, sha256Digest, []byte(text))},
		Annotations:   map[string]string{"org.example.kind": "list of parts"},
	}
	if subject != nil {
		m.Subject = &descriptor{MediaType: subject.root.MediaType, Digest: subject.root.Digest, Size: subject.root.Size}
	}
	c.setRoot(t, m, sha256Digest)
	return c
}

// add adds a blob or manifest.
func (c *content) add(mediaType string, digest func([]byte) string, data []byte) descriptor {
	desc := descriptor{MediaType: mediaType, Digest: digest(data), Size: int64(len(data))}
	c.blobs[desc.Digest] = data
	return desc
}

// setRoot adds m, of which all parts are there, as the root.
func (c *content) setRoot(t testing.TB, m manifest, digest func([]byte) string) {
	c.root = c.add(m.MediaType, digest, marshal(t, m))
	c.order = append(c.order, c.root)
}

// manifests returns the digests of the manifests in c.
func (c content) manifests() []string {
	var digests []string
	for _, desc := range c.order {
		digests = append(digests, desc.Digest)
	}
	return digests
}

// layers returns the digests of the layers of an image, or of all the images in
// an index.
func (c content) layers(t testing.TB) []string {
	var digests []string
	for _, desc := range c.order {
		var m manifest
		if err := json.Unmarshal(c.blobs[desc.Digest], &m); err != nil {
			t.Fatal(err)
		}
		for _, layer := range m.Layers {
			digests = append(digests, layer.Digest)
		}
	}
	return digests
}

func newTar(t testing.TB, files map[string][]byte) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		header := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), Format: tar.FormatPAX}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// untar returns the files in an archive.
func untar(t testing.TB, archive []byte) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if files[path.Clean(header.Name)], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// checkFiles compares the contents of files by path.
func checkFiles(t testing.TB, got, want map[string][]byte) {
	t.Helper()
	gotNames, wantNames := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))
	if !slices.Equal(gotNames, wantNames) {
		t.Errorf("got files %q, want %q", gotNames, wantNames)
		return
	}
	for name, data := range want {
		checkBytes(t, name, got[name], data)
	}
}

// checkDir checks that a directory has the files and no others.
func checkDir(t testing.TB, dir string, want map[string][]byte) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string][]byte)
	for _, entry := range entries {
		got[entry.Name()] = readFile(t, filepath.Join(dir, entry.Name()))
	}
	checkFiles(t, got, want)
}

func compress(t testing.TB, data []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func decompress(t testing.TB, data []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func marshal(t testing.TB, v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
