package histories

import (
	"math/rand/v2"
	"slices"
	"strings"
)

// generator chooses what a client asks for next.
type generator struct {
	*rand.Rand
	repos    []string
	sessions *sessions
	seen     map[[2]string]string // the manifest of a repository's tag, when it was last seen
}

// chances has how often what is asked for.
var chances = []struct {
	do     string
	weight int
}{
	{putManifest, 24}, {getTag, 9}, {headTag, 4}, {deleteTag, 7},
	{getManifest, 4}, {headManifest, 2}, {deleteManifest, 6},
	{pushBlob, 7}, {getBlob, 3}, {headBlob, 2}, {deleteBlob, 6}, {mountBlob, 6},
	{openUpload, 4}, {sendChunk, 9}, {askUpload, 3}, {commitUpload, 5}, {cancelUpload, 1},
	{listTags, 6}, {listReferrers, 2}, {listCatalog, 2},
}

var allChances = func() (n int) {
	for _, c := range chances {
		n += c.weight
	}
	return n
}()

func pick[T any](g *rand.Rand, from []T) T { return from[g.IntN(len(from))] }

// often is true in n of 100 cases.
func (g *generator) often(n int) bool { return g.IntN(100) < n }

func (g *generator) next() *Op {
	op := &Op{Repository: pick(g.Rand, g.repos)}
	n := g.IntN(allChances)
	for _, c := range chances {
		if n -= c.weight; n < 0 {
			op.Do = c.do
			break
		}
	}
	g.fill(op)
	return op
}

// fill chooses what the operation is about.
func (g *generator) fill(op *Op) {
	switch op.Do {
	case putManifest:
		g.fillPut(op)
	case getTag, headTag, deleteTag:
		op.Tag = pick(g.Rand, tagNames)
	case getManifest, headManifest, deleteManifest:
		op.Manifest = pick(g.Rand, manifestKinds).name
	case pushBlob, getBlob, headBlob, deleteBlob:
		op.Blob = pick(g.Rand, blobNames)
		if g.often(30) {
			op.Blob = "a" // which most manifests name
		}
	case mountBlob:
		op.Blob = pick(g.Rand, blobNames)
		op.From = pick(g.Rand, append([]string{"", fixedRepo}, g.repos...))
	case sendChunk, askUpload, commitUpload, cancelUpload:
		g.fillUpload(op)
	case listTags:
		if g.often(40) {
			op.N = 1 + g.IntN(3)
			op.After = pick(g.Rand, append([]string{""}, tagNames...))
		}
	case listCatalog:
		op.Repository, op.N = "", 50
	}
}

func (g *generator) fillPut(op *Op) {
	op.Manifest = pick(g.Rand, manifestKinds).name
	if g.often(50) {
		op.Manifest = pick(g.Rand, []string{"free-1", "free-2", "free-3"})
	}
	tags := slices.Clone(tagNames)
	g.Shuffle(len(tags), func(i, j int) { tags[i], tags[j] = tags[j], tags[i] })
	if g.often(65) {
		op.Tag, tags = tags[0], tags[1:]
	}
	if g.often(45) {
		op.Tags = tags[:1+g.IntN(len(tags))]
	}
	if g.often(35) {
		g.setCondition(op)
	}
}

// setCondition chooses a condition: most often the one by which clients update what
// they have read.
func (g *generator) setCondition(op *Op) {
	seen := g.seen[[2]string{op.Repository, op.Tag}]
	switch n := g.IntN(10); {
	case n < 5 && seen != "":
		op.IfMatch = []string{seen}
	case n < 7:
		op.IfNoneMatch = []string{"*"}
	case n < 8:
		op.IfMatch = []string{"*"}
	case n < 9:
		op.IfMatch = []string{pick(g.Rand, manifestKinds).name, pick(g.Rand, manifestKinds).name}
	default:
		op.IfNoneMatch = []string{pick(g.Rand, manifestKinds).name}
	}
}

// saw takes note of what an answer tells of a tag.
func (g *generator) saw(op *Op, out Outcome) {
	switch {
	case out.Got != "":
		g.seen[[2]string{op.Repository, op.Tag}] = out.Got
	case op.Do == putManifest && out.isSuccess():
		for _, tag := range append(op.Tags, op.Tag) {
			g.seen[[2]string{op.Repository, tag}] = op.Manifest
		}
	}
}

// fillUpload chooses a session, and what to do with it.
func (g *generator) fillUpload(op *Op) {
	content, n := g.sessions.pick(g.Rand, op.Repository)
	if n == 0 {
		op.Do = openUpload
		return
	}
	op.Session = n
	switch op.Do {
	case sendChunk:
		g.fillChunk(op, content)
	case commitUpload:
		was := content
		op.Offset = -1
		if g.often(35) {
			g.fillChunk(op, content)
			content = appendPiece(content, *op.Piece)
		}
		i := slices.IndexFunc(blobNames, func(name string) bool { return contentOf(name) == content })
		switch {
		case i >= 0 && g.often(90):
			op.Blob = blobNames[i]
		case g.often(70): // it is not complete
			op.Do = sendChunk
			g.fillChunk(op, was)
		default:
			op.Blob = pick(g.Rand, blobNames)
		}
	}
}

// fillChunk chooses a chunk that follows what the session is thought to have.
func (g *generator) fillChunk(op *Op, content string) {
	op.Piece = g.following(content)
	switch n := g.IntN(20); {
	case n < 14:
		op.Offset = sizeOf(content)
	case n < 19:
		op.Offset = -1
	default:
		op.Offset = sizeOf(content) + 100
	}
}

// following returns the rest of a chunk that was cut off, or one that leads to a
// blob, or any.
func (g *generator) following(content string) *piece {
	if _, last, ok := lastPiece(content); ok && last.To < chunkSizes[last.Chunk[0]] {
		return &piece{last.Chunk, last.To, chunkSizes[last.Chunk[0]]}
	}
	var letters []byte
	for _, name := range blobNames {
		if rest, ok := strings.CutPrefix(contentOf(name), content); ok && rest != "" {
			letters = append(letters, rest[0])
		}
	}
	if len(letters) == 0 {
		letters = []byte("abc")
	}
	letter := pick(g.Rand, letters)
	return &piece{string(letter), 0, chunkSizes[letter]}
}
