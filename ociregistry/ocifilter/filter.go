// Package ocifilter provides views of a registry. Each function takes an
// [ociregistry.Interface] and returns one that shows less or allows less:
//
//   - [ReadOnly] refuses all changes.
//   - [Immutable] accepts new content, and refuses to change or delete what exists.
//   - [Select] shows only some of the repositories.
//   - [AccessChecker] calls a function before each call.
//   - [Quota] refuses pushes to repositories that hold too much.
//   - [Sub] shows the repositories below a prefix, without the prefix.
//
// Views can be stacked: ReadOnly(Sub(r, "mirror")) is a read-only view of the
// repositories below mirror.
//
// A view refuses what it does not know. When [ociregistry.Interface] gets a new
// method that can write or that names a repository, the method fails in each view
// until the view supports it.
//
// The readers and writers that a view returns are those of the underlying registry.
// They keep any further interfaces that they implement, such as [io.WriterTo]. A view
// does not check their use again.
package ocifilter

import (
	"fmt"

	"github.com/seed-40b21970/oci/ociregistry"
)

// refusing has the methods that a view does not implement itself. It is embedded one
// level deeper than [ociregistry.Reader] and [ociregistry.Lister], so that their
// methods take precedence.
type refusing struct{ *ociregistry.Funcs }

// errMountFromAny is the error for an empty fromRepo in views that hide repositories:
// the underlying registry would search those too.
var errMountFromAny = fmt.Errorf("%w: a mount needs a source repository", ociregistry.ErrUnsupported)
