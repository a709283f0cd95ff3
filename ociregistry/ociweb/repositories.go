package ociweb

import (
	"errors"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
)

// repositoriesPerPage is the maximum number of repositories that a page shows.
const repositoriesPerPage = 100

// repositoriesPage is the list of repositories.
type repositoriesPage struct {
	Query    string
	Items    []repositoryItem
	Unlisted bool   // the registry does not list its repositories
	Open     string // the URL of the page that the query names; may be empty
	First    string // the URL of the first page, on the others
	Next     string // the URL of the next page; may be empty
	Cut      string // how many names were read, if the search is not at its end
}

// repositoryItem is a repository in the list.
type repositoryItem struct{ URL, Above, Name string }

func (x *exchange) repositories() (page, error) {
	q, after := x.query("q"), x.query("after")
	p := repositoriesPage{Query: q}
	matches := matcher(q)
	found, err := x.read(x.repositoriesAfter(after), repositoriesPerPage, func(repo string) bool {
		return matches(repo) && x.mayPull(repo)
	})
	switch {
	case err == nil:
	case isUnlisted(err):
		p.Unlisted = true
	default:
		return page{}, err
	}
	for _, repo := range found.items {
		i := strings.LastIndexByte(repo, '/') + 1
		p.Items = append(p.Items, repositoryItem{x.url(target{manifestKind, repo, ""}), repo[:i], repo[i:]})
	}
	if found.cut {
		p.Cut = number(x.opts.MaxNames)
	}
	if len(p.Items) == 0 {
		p.Open = x.named(q, p.Unlisted || found.cut || x.opts.Remote)
	}
	if after != "" {
		p.First = x.url(target{}, "q", q)
	}
	if found.next != "" {
		p.Next = x.url(target{}, "q", q, "after", found.next)
	}
	return page{"repositories", "Repositories", p}, nil
}

// isUnlisted reports whether err says that the registry has no list for this handler. Many
// registries have none.
func isUnlisted(err error) bool {
	for _, target := range []error{ociregistry.ErrUnsupported, ociregistry.ErrUnauthorized, ociregistry.ErrDenied, ociregistry.ErrNameUnknown} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// named returns the URL of the page of the reference q, of which nobody knows whether there is
// one, or "" if q is not a reference. If the list has all repositories, q is none of them.
func (x *exchange) named(q string, incomplete bool) string {
	q = strings.TrimPrefix(q, x.host()+"/")
	if t, ok := parseTarget("/" + string(manifestKind) + "/" + q); ok && (incomplete || t.ref != "") {
		return x.url(t)
	}
	return ""
}
