package ocifilter

import "github.com/seed-40b21970/oci/ociregistry"

// ReadOnly returns a read-only view of r: the methods of [ociregistry.Writer] and
// [ociregistry.Deleter] return [ociregistry.ErrUnsupported], without checking their
// arguments and without calling r. All other methods are those of r.
func ReadOnly(r ociregistry.Interface) ociregistry.Interface {
	return readOnly{Reader: r, Lister: r}
}

type readOnly struct {
	ociregistry.Reader
	ociregistry.Lister
	refusing
}
