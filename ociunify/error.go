package ociunify

import (
	"context"
	"errors"
	"slices"

	"github.com/seed-40b21970/oci/ociregistry"
)

// notFound reports whether err says that there is nothing, and nothing else: if
// it wraps several errors, all of them have to say so.
func notFound(err error) bool {
	switch e := err.(type) {
	case nil:
		return false
	case interface{ Unwrap() []error }:
		errs := e.Unwrap()
		return len(errs) > 0 && !slices.ContainsFunc(errs, func(err error) bool { return !notFound(err) })
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return notFound(inner)
		}
	}
	return errors.Is(err, ociregistry.ErrBlobUnknown) ||
		errors.Is(err, ociregistry.ErrManifestUnknown) ||
		errors.Is(err, ociregistry.ErrNameUnknown)
}

// eitherNotFound returns the one of two errors that say that there is nothing
// which knows more: a repository exists if it does in one registry.
func eitherNotFound(err0, err1 error) error {
	if errors.Is(err0, ociregistry.ErrNameUnknown) && !errors.Is(err1, ociregistry.ErrNameUnknown) {
		return err1
	}
	return err0
}

// neither returns the error of a read that both registries failed.
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

// both returns the error of something that both registries failed to do. If
// they agree why, once is enough.
func both(err0, err1 error) error {
	var e0, e1 ociregistry.Error
	switch {
	case errors.As(err0, &e0) && errors.As(err1, &e1) && errors.Is(err0, e1) && errors.Is(err1, e0),
		errors.Is(err0, context.Canceled) && errors.Is(err1, context.Canceled):
		return err0
	}
	return errors.Join(inRegistry(0, err0), inRegistry(1, err1))
}
