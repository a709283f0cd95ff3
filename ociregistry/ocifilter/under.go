package ocifilter

import (
	"fmt"
	"iter"
	"strings"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Under returns a view of all repositories of r below prefix: repository b of r is prefix/b in
// the view. It is the counterpart of [Sub]: Sub(Under(r, "a"), "a") is like r. If r has
// repositories b and c/d, Under(r, "a") has a/b and a/c/d. Under(r, "") is r.
//
// Names that are not below the prefix fail with [ociregistry.ErrNameUnknown], and with
// [ociregistry.ErrNameInvalid] if they are invalid, or the prefix is. Names of r that are too
// long with the prefix are not listed.
//
// Scopes in a context and errors are as for Sub. Scopes for other repositories do not reach r.
func Under(r ociregistry.Interface, prefix string) ociregistry.Interface {
	if prefix == "" {
		return r
	}
	return &renamed{r: r, names: above(prefix + "/")}
}

// above are the names of [Under]. It is the prefix, and ends with a slash.
type above string

func (a above) full(local string) (string, error) {
	if !ociref.IsValidRepository(local) || !isPrefix(string(a)) {
		return "", ociregistry.ErrNameInvalid
	}
	full, ok := strings.CutPrefix(local, string(a))
	if !ok {
		return "", fmt.Errorf("%w: it is not below %s", ociregistry.ErrNameUnknown, strings.TrimSuffix(string(a), "/"))
	}
	return full, nil
}

func (a above) local(full string) (string, bool) {
	local := string(a) + full
	return local, ociref.IsValidRepository(local)
}

func (a above) mountsFromAny() bool { return true }

// repositories lists what r lists: with the same prefix, names keep their order.
func (a above) repositories(list func(startAfter string) iter.Seq2[string, error], startAfter string) iter.Seq2[string, error] {
	after, below := strings.CutPrefix(startAfter, string(a))
	switch {
	case !isPrefix(string(a)):
		return ociregistry.ErrorSeq[string](call.New("Repositories", "", "").Wrap(ociregistry.ErrNameInvalid))
	case below:
	case startAfter > string(a):
		return func(func(string, error) bool) {}
	default:
		after = ""
	}
	return func(yield func(string, error) bool) {
		for full, err := range list(after) {
			if err != nil {
				yield("", err)
				return
			}
			if local, ok := a.local(full); ok && !yield(local, nil) {
				return
			}
		}
	}
}
