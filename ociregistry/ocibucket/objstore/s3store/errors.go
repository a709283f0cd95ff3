package s3store

import (
	"errors"
	"net/http"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/internal/httpstatus"
)

var (
	errNoBucket = errors.New("no name of a bucket")
	errNoToken  = errors.New("a page that is not the last has no token")
)

// kinds are the service's error codes that mean something to us. What is absent is judged by its
// status: a code says more than a status, which a proxy may have made.
var kinds = map[string]error{
	"NoSuchKey":                  objstore.ErrNotFound,
	"NoSuchUpload":               objstore.ErrNotFound,
	"PreconditionFailed":         objstore.ErrPrecondition,
	"ConditionalRequestConflict": objstore.ErrConflict,
	"OperationAborted":           objstore.ErrConflict,
	// A gateway over files, whose directories come and go with the objects in them.
	"ExistingObjectIsDirectory": objstore.ErrConflict,
	"SlowDown":                  objstore.ErrThrottled,
	"SlowDownRead":              objstore.ErrThrottled,
	"SlowDownWrite":             objstore.ErrThrottled,
	"TooManyRequests":           objstore.ErrThrottled,
	"Throttling":                objstore.ErrThrottled,
	"ThrottlingException":       objstore.ErrThrottled,
	"RequestLimitExceeded":      objstore.ErrThrottled,
	"InvalidRange":              objstore.ErrInvalidRange,
	"InvalidPart":               objstore.ErrInvalidPart,
	"InvalidPartOrder":          objstore.ErrInvalidPart,
	"EntityTooSmall":            objstore.ErrInvalidPart,
	"NotImplemented":            objstore.ErrUnsupported,
	"MethodNotAllowed":          objstore.ErrUnsupported,
	"NoSuchBucket":              objstore.ErrInvalid,
}

// failure returns the error of a request.
func failure(op, key string, write bool, err error) error {
	e := &objstore.Error{Op: op, Key: key, Err: err}
	status := 0
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) && resp.Response != nil && resp.Response.Response != nil {
		status = resp.HTTPStatusCode()
		e.Date, e.After = httpstatus.Date(resp.Response.Header), httpstatus.After(resp.Response.Header)
	}
	code := ""
	var api smithy.APIError
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	e.Kind = kindOf(status, code, write)
	return e
}

func kindOf(status int, code string, write bool) error {
	kind, known := kinds[code]
	switch {
	case known && kind == objstore.ErrThrottled && (status == http.StatusOK || status == http.StatusInternalServerError):
		// A Complete that began with 200, for which the SDK says 500, and failed then.
	case known && status != 0:
		return kind
	case code == "RequestTimeout":
		status = http.StatusRequestTimeout // it comes with 400
	}
	return httpstatus.Kind(status, write)
}

// noToken is the error of a page that is not the last and does not say where the next one begins.
func noToken(op, prefix string, date time.Time) error {
	return &objstore.Error{Op: op, Key: prefix, Kind: objstore.ErrBadAnswer, Date: date, Err: errNoToken}
}

// dateOf returns the Date of a successful answer. It is zero if there is none, which
// objstore.Check finds.
func dateOf(m middleware.Metadata) time.Time {
	if resp, ok := awsmiddleware.GetRawResponse(m).(*smithyhttp.Response); ok && resp != nil {
		return httpstatus.Date(resp.Header)
	}
	return time.Time{}
}
