package ociserver

import (
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// chooseBackend asks Options.Namespace for the backend that the request's
// parameter ns stands for.
func (x *exchange) chooseBackend() error {
	if x.opts.Namespace == nil || x.Namespace == "" {
		return nil
	}
	if !ociref.IsValidHost(x.Namespace) {
		return ociregistry.ErrNameUnknown
	}
	backend, ok := x.opts.Namespace(x.Namespace)
	if !ok {
		return ociregistry.ErrNameUnknown
	}
	x.backend = backend
	x.header().Set("OCI-Namespace", x.Namespace)
	return nil
}
