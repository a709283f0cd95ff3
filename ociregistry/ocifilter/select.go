package ocifilter

import "github.com/seed-40b21970/oci/ociregistry"

// Select returns a view of r that has only the repositories for which allow returns
// true. The allow function is called with valid names only, and must be safe for
// concurrent use.
//
// The other repositories look as if they did not exist: reading them, listing them and
// deleting from them fails with [ociregistry.ErrNameUnknown], and they have no
// referrers. Pushing to them fails with [ociregistry.ErrDenied]. As with
// [AccessChecker], MountBlob needs a source repository.
func Select(r ociregistry.Interface, allow func(repoName string) bool) ociregistry.Interface {
	return AccessChecker(r, func(repoName string, access AccessKind) error {
		switch {
		case access == AccessList && repoName == "*", allow(repoName):
			return nil
		case access == AccessWrite:
			return ociregistry.ErrDenied
		}
		return ociregistry.ErrNameUnknown
	})
}
