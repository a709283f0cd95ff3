package ocifilter

import "github.com/seed-40b21970/oci/ociregistry"

// ReadOnly returns a view of r that cannot be changed: the methods of
// [ociregistry.Writer] and [ociregistry.Deleter] return
// [ociregistry.ErrUnsupported] without looking at their arguments, and r is not
// called. Everything else is r's.
func ReadOnly(r ociregistry.Interface) ociregistry.Interface {
	return readOnly{Reader: r, Lister: r}
}

type readOnly struct {
	ociregistry.Reader
	ociregistry.Lister
	refusing
}
