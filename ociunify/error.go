package ociunify

import (
	"context"
	"errors"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// notFound reports whether err says that the content does not exist. If err wraps
// several errors, all of them must say so.
func notFound(err error) bool { return call.ErrorIsOnly(err, notFoundErrors) }

var notFoundErrors = []error{ociregistry.ErrBlobUnknown, ociregistry.ErrManifestUnknown, ociregistry.ErrNameUnknown}

// eitherNotFound returns the more specific of two errors for which notFound returns
// true: a repository exists if it does in one registry.
func eitherNotFound(err0, err1 error) error {
	if errors.Is(err0, ociregistry.ErrNameUnknown) && !errors.Is(err1, ociregistry.ErrNameUnknown) {
		return err1
	}
	return err0
}

// neither returns the error of a read that failed in both registries.
func neither(err0, err1 error) error {
	switch {
	case notFound(err0) && notFound(err1):
		return eitherNotFound(err0, err1)
	case notFound(err0):
		return err1
	case notFound(err1):
		return err0
	}
	return both(err0, err1)
}

// both returns the error of a call that failed in both registries: one of the errors
// if they have the same reason, or else both.
func both(err0, err1 error) error {
	var e0, e1 ociregistry.Error
	switch {
	case errors.As(err0, &e0) && errors.As(err1, &e1) && errors.Is(err0, e1) && errors.Is(err1, e0),
		errors.Is(err0, context.Canceled) && errors.Is(err1, context.Canceled):
		return err0
	}
	return errors.Join(inRegistry(0, err0), inRegistry(1, err1))
}
