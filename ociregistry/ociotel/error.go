package ociotel

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"

	"github.com/seed-40b21970/oci/ociregistry"
)

// codesOfErrors are the codes that can be an error.type. A remote registry can return any
// other, of which there must be no number in metrics.
var codesOfErrors = make(map[string]bool)

func init() {
	for _, err := range []ociregistry.Error{
		ociregistry.ErrBlobUnknown, ociregistry.ErrBlobUploadInvalid, ociregistry.ErrBlobUploadUnknown,
		ociregistry.ErrDigestInvalid, ociregistry.ErrManifestBlobUnknown, ociregistry.ErrManifestInvalid,
		ociregistry.ErrManifestUnknown, ociregistry.ErrNameInvalid, ociregistry.ErrNameUnknown,
		ociregistry.ErrSizeInvalid, ociregistry.ErrUnauthorized, ociregistry.ErrDenied,
		ociregistry.ErrUnsupported, ociregistry.ErrTooManyRequests, ociregistry.ErrRangeInvalid,
		ociregistry.ErrPreconditionFailed,
	} {
		codesOfErrors[err.Code()] = true
	}
}

// errorType returns the error.type of an error that is not nil. There are few.
func errorType(err error) string {
	var coded ociregistry.Error
	var status ociregistry.HTTPError
	var timeout net.Error
	switch {
	case errors.As(err, &coded) && codesOfErrors[coded.Code()]:
		return coded.Code()
	case errors.As(err, &status) && http.StatusText(status.StatusCode()) != "", errors.As(err, &status) && status.StatusCode() == 499:
		return strconv.Itoa(status.StatusCode())
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return "_OTHER"
}

// isAnswer reports whether err is what a registry that works answers to some calls.
func isAnswer(err error) bool {
	var status ociregistry.HTTPError
	if errors.As(err, &status) && status.StatusCode() >= http.StatusInternalServerError {
		return false
	}
	return errors.As(err, new(ociregistry.Error))
}
