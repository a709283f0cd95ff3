package ociclient

import (
	"errors"
	"iter"
	"net/url"
	"slices"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// The specification's section "Listing Referrers" does not define the order in which a
// registry lists referrers, and some list the latest first. The contract of the Interface
// does: a caller that reads a part of a list, or merges two lists, would otherwise lose
// some.

// maxUnordered bounds the size, in bytes, of the responses that are buffered for sorting.
const maxUnordered = 64 << 20

// A referrersPage is a part of a list of referrers, sorted within itself.
type referrersPage struct {
	list    []ociregistry.Descriptor
	bytes   int  // size of the response
	ordered bool // everything on later pages sorts after it
}

var errUnordered = errors.New("the registry's pages of referrers are not in the order that their links promise")

// inOrder lists the referrers of pages in order. It buffers pages until one is ordered.
func inOrder(pages iter.Seq2[referrersPage, error]) iter.Seq2[ociregistry.Descriptor, error] {
	return func(yield func(ociregistry.Descriptor, error) bool) {
		var kept []ociregistry.Descriptor
		var last ociregistry.Digest
		bytes := 0
		for page, err := range pages {
			if bytes += page.bytes; err == nil && !page.ordered && bytes > maxUnordered {
				err = errors.New("the list of referrers is too long to be put in order")
			}
			if err == nil && !page.ordered {
				kept = append(kept, page.list...)
				continue
			}
			list := page.list
			if kept != nil {
				list = tidyReferrers(append(kept, list...), "")
			}
			for _, desc := range list {
				if desc.Digest < last && err == nil {
					err = errUnordered
				}
				if desc.Digest > last && !yield(desc, nil) {
					return
				}
				last = max(last, desc.Digest)
			}
			if err != nil {
				yield(ociregistry.Descriptor{}, err)
				return
			}
			kept, bytes = nil, 0
		}
	}
}

// isOrderedPage reports whether everything after a page sorts after the page: it is the
// last one, or it is sorted and its link says that the next page begins after its last
// digest.
func isOrderedPage(next *url.URL, list []ociregistry.Descriptor) bool {
	if next == nil {
		return true
	}
	return len(list) > 0 && slices.IsSortedFunc(list, byDigest) && next.Query().Get("last") == string(list[len(list)-1].Digest)
}

// skipTo makes the page after an ordered one begin after a digest.
func skipTo(next *url.URL, after ociregistry.Digest) {
	if next == nil || !ociref.IsValidDigest(string(after)) {
		return
	}
	if q := next.Query(); string(after) > q.Get("last") {
		q.Set("last", string(after))
		next.RawQuery = q.Encode()
	}
}
