package histories

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// maxSessions is how many upload sessions a repository has in a round.
const maxSessions = 6

// state is what a repository has. It is comparable.
type state struct {
	tags      [4]int8 // the place of its manifest in manifestKinds, from 1
	manifests uint16  // a bit for each that is there
	blobs     uint16
	sessions  [maxSessions]session
	waiting   string // reads that have begun, and did not find yet what they read
	alone     string // commits that go on in a process which knows nothing of others
}

// session is an upload session.
type session struct {
	phase
	kept    bool // bytes of it outlived a request: it is known wherever it is asked for
	content string
}

type phase uint8

const (
	never  phase = iota // nobody has its id
	open                // it can be written to
	sealed              // a commit has begun, and was cut off: it can only be committed
	ended
)

// vague reports whether it is not defined what is known of the session. One that
// ended before any request left bytes in it may be taken for a new one elsewhere.
func (s *session) vague() bool { return s.phase == ended && !s.kept }

func (s *state) exists() bool { return s.manifests != 0 || s.blobs != 0 }

func (s *state) hasBlob(name string) bool { return s.blobs&blobBit(name) != 0 }

func (s *state) hasManifest(name string) bool { return s.manifests&manifestBit(name) != 0 }

// tag returns the manifest that a tag points at, or "".
func (s *state) tag(name string) string {
	if m := s.tags[slices.Index(tagNames, name)]; m > 0 {
		return manifestKinds[m-1].name
	}
	return ""
}

func (s *state) setTag(name, manifest string) {
	s.tags[slices.Index(tagNames, name)] = int8(manifestIndex(manifest) + 1)
}

// removeManifest removes a manifest and its tags.
func (s *state) removeManifest(name string) {
	s.manifests &^= manifestBit(name)
	for i, m := range s.tags {
		if int(m) == manifestIndex(name)+1 {
			s.tags[i] = 0
		}
	}
}

// complete reports whether all is there that a manifest names.
func (s *state) complete(manifest string) bool {
	i := manifestIndex(manifest)
	return s.blobs&manifestNeeds[i].blobs == manifestNeeds[i].blobs &&
		s.manifests&manifestNeeds[i].manifests == manifestNeeds[i].manifests
}

// blobInUse reports whether a manifest names the blob.
func (s *state) blobInUse(name string) bool {
	for i, needs := range manifestNeeds {
		if s.manifests&(1<<i) != 0 && needs.blobs&blobBit(name) != 0 {
			return true
		}
	}
	return false
}

func (s *state) manifestInUse(name string) bool {
	for i, needs := range manifestNeeds {
		if s.manifests&(1<<i) != 0 && needs.manifests&manifestBit(name) != 0 {
			return true
		}
	}
	return false
}

// needs is what a manifest names, as bits.
type needs struct{ blobs, manifests uint16 }

var manifestNeeds = func() (all []needs) {
	for _, kind := range manifestKinds {
		var n needs
		for _, name := range kind.blobs {
			n.blobs |= blobBit(name)
		}
		for _, name := range kind.manifests {
			n.manifests |= manifestBit(name)
		}
		all = append(all, n)
	}
	return all
}()

func blobBit(name string) uint16     { return 1 << slices.Index(blobNames, name) }
func manifestBit(name string) uint16 { return 1 << manifestIndex(name) }

func manifestIndex(name string) int {
	for i, kind := range manifestKinds {
		if kind.name == name {
			return i
		}
	}
	panic("no manifest " + name)
}

// String describes the state for people.
func (s *state) String() string {
	var parts []string
	for _, tag := range tagNames {
		if m := s.tag(tag); m != "" {
			parts = append(parts, tag+"="+m)
		}
	}
	for _, kind := range manifestKinds {
		if s.hasManifest(kind.name) {
			parts = append(parts, kind.name)
		}
	}
	for _, name := range blobNames {
		if s.hasBlob(name) {
			parts = append(parts, "blob "+name)
		}
	}
	for i, u := range s.sessions {
		if u.phase != never {
			parts = append(parts, fmt.Sprintf("#%d %s(%d)%s", i+1, [...]string{"", "open", "sealed", "ended"}[u.phase], sizeOf(u.content), showPieces(u.content)))
		}
	}
	return "{" + strings.Join(parts, " ") + "}"
}

// The content of a session is a list of pieces, as text. Pieces that continue each
// other are one.

const pieceText = 9 // bytes

func encodePiece(p piece) string {
	b := binary.BigEndian.AppendUint32([]byte{p.Chunk[0]}, uint32(p.From))
	return string(binary.BigEndian.AppendUint32(b, uint32(p.To)))
}

func decodePiece(s string) piece {
	return piece{s[:1], int64(binary.BigEndian.Uint32([]byte(s[1:5]))), int64(binary.BigEndian.Uint32([]byte(s[5:9])))}
}

// lastPiece returns the last piece and what is before it.
func lastPiece(content string) (before string, last piece, ok bool) {
	if content == "" {
		return "", piece{}, false
	}
	i := len(content) - pieceText
	return content[:i], decodePiece(content[i:]), true
}

func appendPiece(content string, p piece) string {
	if before, last, ok := lastPiece(content); ok && last.Chunk == p.Chunk && last.To == p.From {
		return before + encodePiece(piece{p.Chunk, last.From, p.To})
	}
	return content + encodePiece(p)
}

func sizeOf(content string) (n int64) {
	for ; content != ""; content = content[pieceText:] {
		n += decodePiece(content).size()
	}
	return n
}

// contentOf returns what a session has when it has all of a blob.
func contentOf(blob string) (content string) {
	for _, letter := range []byte(blob) {
		content = appendPiece(content, piece{string(letter), 0, chunkSizes[letter]})
	}
	return content
}

func showPieces(content string) string {
	var b strings.Builder
	for ; content != ""; content = content[pieceText:] {
		fmt.Fprint(&b, " ", decodePiece(content))
	}
	return b.String()
}
