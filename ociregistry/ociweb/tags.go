package ociweb

import (
	"slices"
	"strconv"

	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/ociregistry"
)

const (
	// tagsPerPage is the maximum number of tags that a page shows.
	tagsPerPage = 50

	// maxSummaries is the maximum number of tags that can be sorted by what their manifests
	// say.
	maxSummaries = 200

	// summaryConcurrency is the number of manifests that are read at a time for a page.
	summaryConcurrency = 4

	// maxPlatforms is the maximum number of platforms that are shown of a tag.
	maxPlatforms = 6
)

// tagsPage is the list of the tags of a repository.
type tagsPage struct {
	Repo     string
	Query    string
	Sort     string // the order, if it is not that of versions
	Sorts    []sort // the other orders; empty if there are too many tags
	Rows     []tagRow
	Detailed bool // the rows have what manifests say
	Prev     string
	Next     string // URLs; may be empty
	Range    string // which tags these are
	Unsorted string // why there are no orders of what manifests say
	Note     string // why they are in another order
	Compare  string // the URL of the form's action
	Found    bool   // the repository has tags
}

// sort is an order of tags.
type sort struct {
	Name, URL string
	Current   bool
}

// tagRow is a tag in the list.
type tagRow struct {
	Tag    string
	URL    string
	Latest bool // the newest of those that are shown, by time
	summary
}

// orders are the orders of tags, and how people call them.
var orders = []sort{{Name: "version"}, {Name: "newest"}, {Name: "size"}, {Name: "name"}}

// tagsOrManifest answers with the tags of a repository, or with one manifest.
func (x *exchange) tagsOrManifest() (page, error) {
	if x.ref != "" {
		return x.manifest()
	}
	q := x.query("q")
	p := tagsPage{Repo: x.repo, Query: q, Detailed: !x.opts.Remote, Compare: x.url(target{compareKind, x.repo, ""})}
	var err error
	if after := x.query("after"); after != "" {
		err = x.tagsAfter(&p, after)
	} else {
		err = x.tagsByVersion(&p)
	}
	if err != nil {
		return page{}, err
	}
	return page{"tags", x.repo, p}, nil
}

// tagsByVersion fills p with one page of all tags.
func (x *exchange) tagsByVersion(p *tagsPage) error {
	found := false
	matches := matcher(p.Query)
	all, err := x.read(x.registry.Tags(x.ctx, x.repo, ""), x.opts.MaxNames, func(tag string) bool {
		found = true
		return matches(tag)
	})
	if err != nil {
		return err
	}
	p.Found = found
	if all.next != "" {
		x.tagsByName(p, all.first(tagsPerPage), "")
		return nil
	}
	number, _ := strconv.Atoi(x.query("page"))
	number = min(max(number, 1), max(1, (len(all.items)+tagsPerPage-1)/tagsPerPage))
	from := (number - 1) * tagsPerPage
	to := min(from+tagsPerPage, len(all.items))
	p.Sort = x.order(p, len(all.items))
	p.Rows = x.rows(p, all.items, from, to)
	p.Range = rangeOf(from, to, len(all.items))
	if number > 1 {
		p.Prev = x.tagsURL("q", p.Query, "sort", p.Sort, "page", strconv.Itoa(number-1))
	}
	if to < len(all.items) {
		p.Next = x.tagsURL("q", p.Query, "sort", p.Sort, "page", strconv.Itoa(number+1))
	}
	return nil
}

// rows returns the tags at from up to to in the order of p.
func (x *exchange) rows(p *tagsPage, tags []string, from, to int) []tagRow {
	switch p.Sort {
	case "name":
		tags = tags[from:to] // which the registry lists in this order
	case "newest", "size":
		rows := x.summarize(tags, true)
		slices.SortStableFunc(rows, p.compareRows)
		return rows[from:to]
	default:
		places := make([]place, len(tags))
		for i, tag := range tags {
			places[i] = placeOf(tag)
		}
		sortPart(places, from, to)
		tags = tags[:0]
		for _, place := range places[from:to] {
			tags = append(tags, place.version.String())
		}
	}
	return x.summarize(tags, p.Detailed)
}

// compareRows puts the newest or the largest first, and what has no time or size last.
func (p *tagsPage) compareRows(a, b tagRow) int {
	if p.Sort == "newest" {
		return b.time.Compare(a.time)
	}
	return int(min(max(b.bytes-a.bytes, -1), 1))
}

// order returns the order that the request asks for, if n tags can have it, and "" for that of
// versions. It sets the links to the others.
func (x *exchange) order(p *tagsPage, n int) string {
	asked := x.query("sort")
	chosen := ""
	if n > maxSummaries && p.Detailed {
		p.Unsorted = "Up to " + number(maxSummaries) + " tags can be ordered by time and size: search for fewer."
	}
	for _, o := range orders {
		if (o.Name == "newest" || o.Name == "size") && (n > maxSummaries || x.opts.Remote) {
			continue
		}
		if o.Name == asked && asked != "version" {
			chosen = asked
		}
		name := o.Name
		if name == "version" {
			name = ""
		}
		p.Sorts = append(p.Sorts, sort{Name: o.Name, URL: x.tagsURL("q", p.Query, "sort", name)})
	}
	for i := range p.Sorts {
		p.Sorts[i].Current = p.Sorts[i].Name == chosen || chosen == "" && i == 0
	}
	return chosen
}

// tagsAfter fills p with the tags after one, without reading those before.
func (x *exchange) tagsAfter(p *tagsPage, after string) error {
	part, err := x.read(x.registry.Tags(x.ctx, x.repo, after), tagsPerPage, matcher(p.Query))
	if err == nil {
		x.tagsByName(p, part, after)
	}
	return err
}

// tagsByName fills p with a part of the tags, those after one in byte order.
func (x *exchange) tagsByName(p *tagsPage, part names, after string) {
	p.Found = true
	p.Note = "This repository has more than " + number(x.opts.MaxNames) + " tags. They are in the order of their names."
	p.Rows = x.summarize(part.items, p.Detailed)
	if after != "" {
		p.Prev = x.tagsURL("q", p.Query)
	}
	if part.next != "" {
		p.Next = x.tagsURL("q", p.Query, "after", part.next)
	}
	if part.cut {
		p.Note = "The search has read " + number(x.opts.MaxNames) + " tags, and goes on with the next page."
	}
}

// tagsURL returns the URL of a list of the tags.
func (x *exchange) tagsURL(params ...string) string {
	return x.url(target{manifestKind, x.repo, ""}, params...)
}

func rangeOf(from, to, all int) string {
	switch {
	case all == 0:
		return ""
	case from == 0 && to == all:
		return count(all, "tag", "tags")
	}
	return number(from+1) + "–" + number(to) + " of " + count(all, "tag", "tags")
}

// summarize returns the rows of tags, with what their manifests say if they are detailed.
func (x *exchange) summarize(tags []string, detailed bool) []tagRow {
	rows := make([]tagRow, len(tags))
	for i, tag := range tags {
		rows[i] = tagRow{Tag: tag, URL: x.manifestURL(tag)}
	}
	if !detailed {
		return rows
	}
	parallel.Do(summaryConcurrency, len(rows), func(i int) error {
		if x.ctx.Err() == nil {
			rows[i].summary = x.summary(rows[i].Tag)
		}
		return nil
	})
	markNewest(rows)
	return rows
}

// markNewest marks the row with the latest time, if there is just one.
func markNewest(rows []tagRow) {
	newest := -1
	digests := make(map[ociregistry.Digest]bool)
	for i, r := range rows {
		if !r.time.IsZero() && (newest < 0 || r.time.After(rows[newest].time)) {
			newest = i
		}
		digests[r.digest] = true
	}
	if newest >= 0 && len(digests) > 1 {
		rows[newest].Latest = true
	}
}
