package ociotel

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// sentinels are the errors whose codes can be an error.type. A remote registry can return any
// other code, of which there can be any number.
var sentinels = []ociregistry.Error{
	ociregistry.ErrBlobUnknown, ociregistry.ErrBlobUploadInvalid, ociregistry.ErrBlobUploadUnknown,
	ociregistry.ErrDigestInvalid, ociregistry.ErrManifestBlobUnknown, ociregistry.ErrManifestInvalid,
	ociregistry.ErrManifestUnknown, ociregistry.ErrNameInvalid, ociregistry.ErrNameUnknown,
	ociregistry.ErrSizeInvalid, ociregistry.ErrUnauthorized, ociregistry.ErrDenied,
	ociregistry.ErrUnsupported, ociregistry.ErrTooManyRequests, ociregistry.ErrRangeInvalid,
	ociregistry.ErrPreconditionFailed,
}

func isSentinel(code string) bool {
	return slices.ContainsFunc(sentinels, func(err ociregistry.Error) bool { return err.Code() == code })
}

// errPanic is the error of a call that panics.
var errPanic = errors.New("panic")

// errorType returns the error.type of an error that is not nil. There are few.
func errorType(err error) string {
	var coded ociregistry.Error
	var status ociregistry.HTTPError
	var timeout net.Error
	switch {
	case err == errPanic:
		return "panic"
	case errors.As(err, &coded) && isSentinel(coded.Code()):
		return coded.Code()
	case errors.As(err, &status) && isStatus(status.StatusCode()):
		return strconv.Itoa(status.StatusCode())
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return "_OTHER"
}

// isStatus reports whether an HTTP status may be an error.type.
func isStatus(status int) bool {
	return status == ociserver.StatusClientGone || http.StatusText(status) != ""
}

// isAnswer reports whether err is what a registry that works answers to some calls.
func isAnswer(err error) bool {
	var status ociregistry.HTTPError
	if errors.As(err, &status) && status.StatusCode() >= http.StatusInternalServerError {
		return false
	}
	return errors.As(err, new(ociregistry.Error))
}
