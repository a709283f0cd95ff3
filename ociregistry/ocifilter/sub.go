package ocifilter

import (
	"iter"
	"strings"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Sub returns a view of the repositories of r below prefix: repository b of the view
// is prefix/b in r. Of the repositories
//
//	a  a-b  a/b/c  a/d  aa/b
//
// Sub(r, "a") has b/c and d. Sub(r, "") is r.
//
// No name leads out of the view. A name that is invalid, or that is too long with the
// prefix, fails with [ociregistry.ErrNameInvalid]. So does every name if the prefix is
// not a valid repository name.
//
// MountBlob needs a source repository. Without one it fails with
// [ociregistry.ErrUnsupported], because r would also search outside the view; callers
// upload the blob instead.
//
// Repositories reads no names outside the view but the first one after it.
//
// Scopes in a context ([ociauth.ContextWithScope]) name repositories of the view; r
// receives them with its own names.
//
// An error that is an [ociregistry.OpError] names the repository as the view does,
// unless it names a remote registry too, where the repository has its full name.
// Errors of readers and writers are those of r.
func Sub(r ociregistry.Interface, prefix string) ociregistry.Interface {
	if prefix == "" {
		return r
	}
	return &renamed{r: r, names: below(prefix + "/")}
}

// below are the names of [Sub]. It is the prefix, and ends with a slash.
type below string

// full checks all of the name: a valid name that begins with the prefix is below the prefix.
func (b below) full(local string) (string, error) {
	full := string(b) + local
	if !ociref.IsValidRepository(full) {
		return "", ociregistry.ErrNameInvalid
	}
	return full, nil
}

func (b below) local(full string) (string, bool) { return strings.CutPrefix(full, string(b)) }

func (b below) mountsFromAny() bool { return false }

// repositories lists a range of the names in r: in byte order, the names that begin
// with the prefix follow each other.
func (b below) repositories(list func(startAfter string) iter.Seq2[string, error], startAfter string) iter.Seq2[string, error] {
	if !isPrefix(string(b)) {
		return ociregistry.ErrorSeq[string](call.New("Repositories", "", "").Wrap(ociregistry.ErrNameInvalid))
	}
	return func(yield func(string, error) bool) {
		for full, err := range list(string(b) + startAfter) {
			if err != nil {
				yield("", err)
				return
			}
			name, ok := b.local(full)
			if !ok || !yield(name, nil) {
				return
			}
		}
	}
}

// isPrefix reports whether a prefix, with its slash, is the beginning of names.
func isPrefix(prefix string) bool {
	return ociref.IsValidRepository(strings.TrimSuffix(prefix, "/"))
}
