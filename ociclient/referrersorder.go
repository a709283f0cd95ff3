package ociclient

import (
	"errors"
	"iter"
	"net/url"
	"slices"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// The specification's section "Listing Referrers" does not say in which order a
// registry lists referrers, and some list the latest first. The contract does: who
// reads a part of a list, or two lists beside each other, would lose some otherwise.

// maxUnordered bounds the answers that are kept to be put in order.
const maxUnordered = 64 << 20

// referrersPage is a part of a list of referrers, in order by itself.
type referrersPage struct {
	list    []ociregistry.Descriptor
	bytes   int  // of the answer
	settled bool // whether all that follows comes after it
}

var errUnordered = errors.New("the registry's pages of referrers are not in the order that their links promise")

// inOrder lists what pages have in order. It keeps those that are not settled until
// one is.
func inOrder(pages iter.Seq2[referrersPage, error]) iter.Seq2[ociregistry.Descriptor, error] {
	return func(yield func(ociregistry.Descriptor, error) bool) {
		var kept []ociregistry.Descriptor
		var last ociregistry.Digest
		bytes := 0
		for page, err := range pages {
			if bytes += page.bytes; err == nil && !page.settled && bytes > maxUnordered {
				err = errors.New("the list of referrers is too long to be put in order")
			}
			if err == nil && !page.settled {
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

// settles reports whether what comes after a page of a list is greater than all that
// the page has: there is nothing, or the page is in order and the link says that the
// next begins after its last digest.
func settles(next *url.URL, list []ociregistry.Descriptor) bool {
	if next == nil {
		return true
	}
	return len(list) > 0 && slices.IsSortedFunc(list, byDigest) && next.Query().Get("last") == string(list[len(list)-1].Digest)
}

// passOver lets the page after one that is settled begin after a digest.
func passOver(next *url.URL, after ociregistry.Digest) {
	if next == nil || !ociref.IsValidDigest(string(after)) {
		return
	}
	if q := next.Query(); string(after) > q.Get("last") {
		q.Set("last", string(after))
		next.RawQuery = q.Encode()
	}
}
