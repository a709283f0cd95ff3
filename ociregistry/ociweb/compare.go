package ociweb

import (
	"net/http"
	"slices"

	"github.com/seed-40b21970/oci/ociregistry"
)

// comparePage is what differs between two manifests.
type comparePage struct {
	Repo      string
	From, To  string // as they were asked for; may be empty
	FromURL   string
	ToURL     string
	Swap      string // the URL of the comparison in the other direction
	Problem   string // why there is nothing to compare
	Same      bool   // both are one manifest
	Platforms []choice
	Platform  string
	FromBar   bar
	ToBar     bar
	FromSize  string
	ToSize    string
	Pull      string // what who has the first must pull for the second
	Shared    string // what they have in common
	Rows      []diffRow
	Note      string // what is not shown
}

const noCommon = "They have no image for the same platform."

// choice is a platform that both have.
type choice struct {
	Name, URL string
	Current   bool
}

// diffRow is a layer of one or both.
type diffRow struct {
	Change string // "both", "added" or "removed"
	Digest string
	Size   string
	Type   string
}

func (x *exchange) compare() (page, error) {
	refs := x.req.URL.Query()["ref"]
	p := &comparePage{Repo: x.repo}
	if len(refs) > 0 {
		p.From = clip(refs[0], maxQuery)
	}
	if len(refs) > 1 {
		p.To = clip(refs[1], maxQuery)
	}
	if x.query("order") == "newest" && len(refs) == 2 {
		p.From, p.To = p.To, p.From // chosen in a list, in which later ones are older
	}
	if len(refs) > 2 {
		p.Problem = "Two can be compared at a time: these are the first two."
	}
	if p.From == "" || p.To == "" {
		p.Problem = "Name the two tags or digests to compare."
		return page{"compare", "Compare " + x.repo, p}, x.checkExists()
	}
	if !isRef(p.From) || !isRef(p.To) {
		return page{}, &pageError{http.StatusNotFound, "One of the two is neither a tag nor a digest."}
	}
	from, err := x.readManifest(p.From)
	if err != nil {
		return page{}, err
	}
	to, err := x.readManifest(p.To)
	if err != nil {
		return page{}, err
	}
	p.FromURL, p.ToURL = x.manifestURL(p.From), x.manifestURL(p.To)
	p.Swap = x.compareURL(p.To, p.From, x.query("platform"))
	p.Same = from.desc.Digest == to.desc.Digest
	if !p.Same {
		err = x.difference(p, from, to)
	}
	return page{"compare", "Compare " + x.repo, p}, err
}

// compareURL returns the URL of a comparison.
func (x *exchange) compareURL(from, to, platform string) string {
	return x.url(target{compareKind, x.repo, ""}, "ref", from, "ref", to, "platform", platform)
}

// checkExists returns an error unless the repository exists.
func (x *exchange) checkExists() error {
	for _, err := range x.registry.Tags(x.ctx, x.repo, "") {
		return err
	}
	return nil
}

// difference fills p with what differs between two manifests, or between the images for one
// platform in them.
func (x *exchange) difference(p *comparePage, from, to *document) error {
	platforms := commonPlatforms(from, to)
	p.Platform = x.query("platform")
	switch {
	case p.Platform != "" || len(platforms) == 0:
	case slices.Contains(platforms, usual):
		p.Platform = usual
	default:
		p.Platform = platforms[0]
	}
	for _, name := range platforms {
		p.Platforms = append(p.Platforms, choice{name, x.compareURL(p.From, p.To, name), name == p.Platform})
	}
	if len(platforms) == 0 && (from.isIndex() || to.isIndex()) {
		p.Problem = noCommon
		return nil
	}
	var err error
	if from, err = x.imageOf(from, p.Platform); err == nil {
		to, err = x.imageOf(to, p.Platform)
	}
	switch {
	case err != nil:
		return err
	case from == nil || to == nil:
		p.Problem = noCommon
	case from.tooLarge || to.tooLarge:
		p.Problem = "One of the manifests is too large to be read."
	default:
		p.fill(from, to)
	}
	return nil
}

// commonPlatforms returns the platforms of which both have an image; if one of them is no
// index, those of the other.
func commonPlatforms(from, to *document) []string {
	index, other := from, to
	if !index.isIndex() {
		index, other = to, from
	}
	if !index.isIndex() {
		return nil
	}
	common := index.platforms()
	if other.isIndex() {
		has := make(map[string]bool)
		for _, name := range other.platforms() {
			has[name] = true
		}
		common = slices.DeleteFunc(common, func(name string) bool { return !has[name] })
	}
	return common[:min(len(common), maxChildren)]
}

// imageOf returns d, or the image for a platform in the index d, or nil if there is none.
func (x *exchange) imageOf(d *document, platform string) (*document, error) {
	if !d.isIndex() {
		return d, nil
	}
	chosen := d.choose(platform)
	if chosen == nil {
		return nil, nil
	}
	return x.readManifest(string(chosen.Digest))
}

// fill fills p with the layers of two images.
func (p *comparePage) fill(from, to *document) {
	has := func(d *document) map[ociregistry.Digest]bool {
		digests := make(map[ociregistry.Digest]bool)
		for _, b := range d.blobs() {
			digests[b.Digest] = true
		}
		return digests
	}
	inFrom, inTo := has(from), has(to)
	var pull int64
	seen := make(map[ociregistry.Digest]bool)
	for _, b := range to.blobs() {
		if !inFrom[b.Digest] && !seen[b.Digest] {
			seen[b.Digest] = true
			pull = add(pull, b.Size)
		}
	}
	total := to.pullSize()
	p.Pull, p.Shared = size(pull), size(total-pull)
	p.FromSize, p.ToSize = size(from.pullSize()), size(total)
	p.FromBar = diffBar(from, inTo, "removed", max(from.pullSize(), total))
	p.ToBar = diffBar(to, inFrom, "added", max(from.pullSize(), total))
	for _, l := range to.layers() {
		change := "added"
		if inFrom[l.Digest] {
			change = "both"
		}
		p.add(change, l)
	}
	for _, l := range from.layers() {
		if !inTo[l.Digest] {
			p.add("removed", l)
		}
	}
	if n := len(p.Rows) - maxLayers; n > 0 {
		p.Rows, p.Note = p.Rows[:maxLayers], "Another "+count(n, "layer is", "layers are")+" not shown."
	}
}

func (p *comparePage) add(change string, l descriptor) {
	p.Rows = append(p.Rows, diffRow{change, short(l.Digest), size(l.Size), shortType(l.MediaType)})
}

// diffBar returns a bar of the layers of d, in which those that the other has too look alike.
func diffBar(d *document, other map[ociregistry.Digest]bool, change string, total int64) bar {
	var sizes []int64
	var classes []string
	seen := make(map[ociregistry.Digest]bool)
	for _, l := range d.layers() {
		if seen[l.Digest] {
			continue // pulled once
		}
		seen[l.Digest] = true
		sizes = append(sizes, l.Size)
		class := change
		if other[l.Digest] {
			class = "both"
		}
		classes = append(classes, class)
	}
	return newBarOf(sizes, classes, total)
}
