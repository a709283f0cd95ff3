package ocimem

import (
	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

var _ verified.Registry = (*Registry)(nil)

// Verified returns a view of the registry in which content can be read to its end only if
// it matches its digest. It is r itself, because content was verified when it was pushed,
// and memory does not change.
func (r *Registry) Verified() ociregistry.Interface { return r }
