package keys

import (
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// A Kind is what an object is for.
type Kind int

// The kinds of objects.
const (
	KindOptions Kind = iota + 1
	KindRecord
	KindSnapshot
	KindManifest
	KindLink
	KindReference
	KindMarker
	KindData
	KindSession
	KindCatalog
	KindMark
	KindPulls
	KindAsked
	KindNews
)

// A Key is what a key says.
type Key struct {
	Kind       Kind
	Repository string             // of those that belong to one
	Digest     ociregistry.Digest // of manifests, links, references and markers
	Number     uint64             // of records and snapshots
	Name       string             // of data, markers, sessions, pulls and news; the nonce of references and marks
}

// Parse takes a key apart. It reports false for a key that no function of this package returns:
// such an object is not ours, and is never deleted.
func Parse(key string) (Key, bool) {
	k, ok := parse(key)
	if !ok || k.String() != key {
		return Key{}, false
	}
	return k, true
}

func parse(key string) (k Key, ok bool) {
	if key == Options {
		return Key{Kind: KindOptions}, true
	}
	if key == Asked {
		return Key{Kind: KindAsked}, true
	}
	kind, rest, _ := strings.Cut(key, "/")
	switch kind {
	case "r":
		return parseInRepository(rest)
	case "b":
		return parseOfBlob(rest)
	case "d":
		return Key{Kind: KindData, Name: rest}, isName(rest)
	case "u":
		id, found := strings.CutSuffix(rest, "/s")
		return Key{Kind: KindSession, Name: id}, found && isName(id)
	case "c":
		repo, found := strings.CutSuffix(rest, "!")
		return Key{Kind: KindCatalog, Repository: repo}, found && isRepository(repo)
	case "e":
		repo, nonce, _ := strings.Cut(rest, "!")
		return Key{Kind: KindMark, Repository: repo, Name: nonce}, isRepository(repo) && isName(nonce)
	case "p":
		return Key{Kind: KindPulls, Name: rest}, isName(rest)
	case "f":
		return Key{Kind: KindNews, Name: rest}, isName(rest)
	}
	return Key{}, false
}

func parseInRepository(rest string) (k Key, ok bool) {
	repo, rest, _ := strings.Cut(rest, "!/")
	kind, rest, _ := strings.Cut(rest, "/")
	k.Repository = repo
	switch kind {
	case "l", "s":
		n, err := strconv.ParseUint(rest, 10, 64)
		k.Kind, k.Number, ok = KindRecord, maxNumber-n, err == nil && n <= maxNumber
		if kind == "s" {
			k.Kind = KindSnapshot
		}
	case "m", "b":
		k.Kind = KindManifest
		if kind == "b" {
			k.Kind = KindLink
		}
		k.Digest, ok = parsePath(rest)
	}
	return k, ok && isRepository(repo)
}

func parseOfBlob(rest string) (k Key, ok bool) {
	elements := strings.SplitN(rest, "/", 4)
	if len(elements) < 4 {
		return Key{}, false
	}
	if k.Digest, ok = parsePath(elements[0] + "/" + elements[1]); !ok {
		return Key{}, false
	}
	switch elements[2] {
	case "d":
		k.Kind, k.Name = KindMarker, elements[3]
	case "r":
		k.Kind = KindReference
		k.Repository, k.Name, _ = strings.Cut(elements[3], "!")
		ok = isRepository(k.Repository)
	default:
		return Key{}, false
	}
	return k, ok && isName(k.Name)
}

func parsePath(path string) (ociregistry.Digest, bool) {
	algorithm, hex, _ := strings.Cut(path, "/")
	d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex)
	return d, ociregistry.CheckDigest(d) == nil
}

func isRepository(repo string) bool { return ociregistry.CheckRepository(repo) == nil }

// isName reports whether a name is one that formats.Nonce makes.
func isName(name string) bool {
	return name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// String returns the key.
func (k Key) String() string {
	switch k.Kind {
	case KindOptions:
		return Options
	case KindRecord:
		return Record(k.Repository, k.Number)
	case KindSnapshot:
		return Snapshot(k.Repository, k.Number)
	case KindManifest:
		return Manifest(k.Repository, k.Digest)
	case KindLink:
		return Link(k.Repository, k.Digest)
	case KindReference:
		return Reference(k.Digest, k.Repository, k.Name)
	case KindMarker:
		return Marker(k.Digest, k.Name)
	case KindData:
		return Data(k.Name)
	case KindSession:
		return Session(k.Name)
	case KindCatalog:
		return Catalog(k.Repository)
	case KindMark:
		return Mark(k.Repository, k.Name)
	case KindPulls:
		return Pulls(k.Name)
	case KindAsked:
		return Asked
	case KindNews:
		return News(k.Name)
	}
	return ""
}
