package ociserver

import (
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// chooseBackend replaces the backend of the request by the one that Options.Namespace
// returns for the parameter ns.
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
	x.backend, x.elsewhere = backend, true
	x.header().Set("OCI-Namespace", x.Namespace)
	return nil
}
