package formats

import (
	"maps"
	"slices"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Pulls has when manifests were last pulled, in seconds since 1970, by repository and digest.
type Pulls map[string]map[ociregistry.Digest]int64

const pullsKind = "P1"

// MaxPulls is the maximum size of the encoded form of pulls, in bytes.
const MaxPulls = 64 << 20

// Add notes a pull, unless a later one is known. It keeps both strings.
func (p Pulls) Add(repo string, digest ociregistry.Digest, at int64) {
	times := p[repo]
	if times == nil {
		times = map[ociregistry.Digest]int64{}
		p[repo] = times
	}
	times[digest] = max(times[digest], at)
}

// AddAll notes all that others has.
func (p Pulls) AddAll(others Pulls) {
	for repo, times := range others {
		for digest, at := range times {
			p.Add(repo, digest, at)
		}
	}
}

// Encode returns a new encoded form of the pulls.
func (p Pulls) Encode() []byte {
	e := newEncoder(pullsKind)
	e.uint(uint64(len(p)))
	for _, repo := range slices.Sorted(maps.Keys(p)) {
		e.string(repo)
		e.uint(uint64(len(p[repo])))
		for _, digest := range slices.Sorted(maps.Keys(p[repo])) {
			e.string(string(digest))
			e.uint(uint64(max(p[repo][digest], 0)))
		}
	}
	return e.text
}

// DecodePulls returns the pulls that an encoded form has. Their strings are parts of the text.
func DecodePulls(text string) (Pulls, error) {
	d := decode(pullsKind, text)
	p := Pulls{}
	for n := d.count(); n > 0 && !d.failed; n-- {
		repo := d.string()
		for m := d.count(); m > 0 && !d.failed; m-- {
			digest := d.digest()
			p.Add(repo, digest, d.size())
		}
	}
	return p, d.end("list of pulls")
}
