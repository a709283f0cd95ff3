package histories

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The universe of a round is small, so that its operations meet often. Everything
// in it has a name, by which histories and the model know it.

// chunkSizes has the chunks that blobs are made of, and how many bytes they have:
// what a backend may treat in different ways.
var chunkSizes = map[byte]int64{'a': 3000, 'b': 20_000, 'c': 70_000}

// blobNames has the names of the blobs: the chunks that they are made of.
var blobNames = []string{"a", "b", "ab", "ba", "abc"}

// fixedBlobs are those that a repository has which nobody changes.
var fixedBlobs = []string{"a", "b"}

var tagNames = []string{"t1", "t2", "t3", "t4"}

// manifestKinds has the manifests, and what they name. The order matters: what an
// index names comes before it.
var manifestKinds = []struct {
	name      string
	blobs     []string // the first is the config
	manifests []string // of an index
	subject   string
}{
	{name: "image-a", blobs: []string{"a"}},
	{name: "image-ab", blobs: []string{"a", "b"}},
	{name: "image-long", blobs: []string{"a", "ab"}},
	{name: "index", manifests: []string{"image-a", "image-ab"}},
	{name: "free-1"},
	{name: "free-2"},
	{name: "free-3"},
	{name: "signature-1", subject: "free-1"},
	{name: "signature-2", subject: "free-1", blobs: []string{"a"}},
}

// signed is the subject of the signatures.
const signed = "free-1"

// A blob or manifest of a universe.
type content struct {
	name      string
	data      []byte
	digest    digest.Digest
	mediaType string
}

// universe is what one round can push.
type universe struct {
	chunks map[byte][]byte
	byName map[string]*content
	names  map[digest.Digest]string
}

// newUniverse returns a universe. Different salts make different bytes.
func newUniverse(salt uint64) *universe {
	u := &universe{
		chunks: make(map[byte][]byte),
		byName: make(map[string]*content),
		names:  make(map[digest.Digest]string),
	}
	for letter, size := range chunkSizes {
		var seed [32]byte
		copy(seed[:], fmt.Sprint(string(letter), salt))
		u.chunks[letter] = make([]byte, size)
		rand.NewChaCha8(seed).Read(u.chunks[letter])
	}
	for _, name := range blobNames {
		var data []byte
		for _, letter := range []byte(name) {
			data = append(data, u.chunks[letter]...)
		}
		u.add(name, "application/octet-stream", data)
	}
	for _, kind := range manifestKinds {
		fields := map[string]any{"schemaVersion": 2, "annotations": map[string]string{"name": kind.name, "salt": fmt.Sprint(salt)}}
		mediaType := ocispec.MediaTypeImageIndex
		if kind.blobs != nil {
			mediaType = ocispec.MediaTypeImageManifest
			fields["config"] = u.refs(kind.blobs[:1])[0]
			fields["layers"] = u.refs(kind.blobs[1:])
		} else {
			fields["manifests"] = u.refs(kind.manifests)
		}
		if kind.subject != "" {
			fields["subject"] = u.refs([]string{kind.subject})[0]
			fields["artifactType"] = "text/signature"
		}
		fields["mediaType"] = mediaType
		data, err := json.Marshal(fields)
		if err != nil {
			panic(err)
		}
		u.add(kind.name, mediaType, data)
	}
	return u
}

func (u *universe) add(name, mediaType string, data []byte) {
	c := &content{name, data, digest.FromBytes(data), mediaType}
	u.byName[name], u.names[c.digest] = c, name
}

// refs returns descriptors.
func (u *universe) refs(names []string) []ocispec.Descriptor {
	descs := make([]ocispec.Descriptor, 0, len(names))
	for _, name := range names {
		c := u.byName[name]
		mediaType := c.mediaType
		if strings.Trim(name, "abc") == "" {
			mediaType = ocispec.MediaTypeImageLayer
		}
		descs = append(descs, ocispec.Descriptor{MediaType: mediaType, Digest: c.digest, Size: int64(len(c.data))})
	}
	return descs
}

// name returns the name of content, or what says that it is none of the universe's.
func (u *universe) name(d digest.Digest) string {
	if name, ok := u.names[d]; ok {
		return name
	}
	return "unknown content " + string(d)
}

// A piece is a part of a chunk, from one offset to another.
type piece struct {
	Chunk string `json:"chunk"`
	From  int64  `json:"from"`
	To    int64  `json:"to"`
}

func (p piece) size() int64    { return p.To - p.From }
func (p piece) String() string { return fmt.Sprintf("%s[%d:%d]", p.Chunk, p.From, p.To) }

func (u *universe) bytes(p piece) []byte { return u.chunks[p.Chunk[0]][p.From:p.To] }
