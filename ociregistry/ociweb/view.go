package ociweb

import "slices"

// search is a field to search with.
type search struct{ Label, Hint, Query string }

// Search returns the field to search for repositories.
func (p repositoriesPage) Search() search {
	return search{"Search for repositories", "Part of a name", p.Query}
}

// Search returns the field to search for tags.
func (p tagsPage) Search() search { return search{"Search for tags", "Part of a tag", p.Query} }

// OfFirst reports whether a row shows the size of the first of its platforms.
func (p tagsPage) OfFirst() bool {
	return slices.ContainsFunc(p.Rows, func(r tagRow) bool { return r.Size != "" && len(r.Platforms) > 1 })
}

// pager has the URLs of the pages before and after one, which may be empty.
type pager struct{ Prev, Back, Next string }

// Pager returns the links to other pages. A list of which only the beginning is read leads
// back to its first page.
func (p repositoriesPage) Pager() pager { return pager{p.First, "First page", p.Next} }

// Pager returns the links to other pages.
func (p tagsPage) Pager() pager {
	if p.Note != "" {
		return pager{p.Prev, "First page", p.Next}
	}
	return pager{p.Prev, "Previous", p.Next}
}

// field is a field for one of two manifests that are compared.
type field struct{ Label, Value string }

// FromField returns the field of the first.
func (p *comparePage) FromField() field { return field{"Compare the tag or digest", p.From} }

// ToField returns the field of the second.
func (p *comparePage) ToField() field { return field{"with the tag or digest", p.To} }

// Visible returns a width at which a small segment can be seen.
func (s segment) Visible() int { return max(s.Width, 4) }
