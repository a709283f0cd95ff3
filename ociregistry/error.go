package ociregistry

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
)

// Error is an error that has one of the codes of the distribution
// specification, section "Error Codes", or a code of that form.
type Error interface {
	error

	// Code returns the error code, such as "BLOB_UNKNOWN".
	Code() string

	// Detail returns what the registry said beyond code and message, as JSON,
	// or nil. It must not be changed.
	Detail() json.RawMessage
}

// The sentinels to compare errors with. In brackets the HTTP status that
// [MarshalError] gives them.
var (
	ErrBlobUnknown         = NewError("blob unknown to registry", "BLOB_UNKNOWN", nil)                                            // [404]
	ErrBlobUploadInvalid   = NewError("blob upload invalid", "BLOB_UPLOAD_INVALID", nil)                                          // [416]
	ErrBlobUploadUnknown   = NewError("blob upload unknown to registry", "BLOB_UPLOAD_UNKNOWN", nil)                              // [404]
	ErrDigestInvalid       = NewError("provided digest did not match uploaded content", "DIGEST_INVALID", nil)                    // [400]
	ErrManifestBlobUnknown = NewError("manifest references a manifest or blob unknown to registry", "MANIFEST_BLOB_UNKNOWN", nil) // [404]
	ErrManifestInvalid     = NewError("manifest invalid", "MANIFEST_INVALID", nil)                                                // [400, or 413 when it is too large]
	ErrManifestUnknown     = NewError("manifest unknown to registry", "MANIFEST_UNKNOWN", nil)                                    // [404]
	ErrNameInvalid         = NewError("invalid repository name", "NAME_INVALID", nil)                                             // [400]
	ErrNameUnknown         = NewError("repository name not known to registry", "NAME_UNKNOWN", nil)                               // [404]
	ErrSizeInvalid         = NewError("provided length did not match content length", "SIZE_INVALID", nil)                        // [400, or 413 when it is too large]
	ErrUnauthorized        = NewError("authentication required", "UNAUTHORIZED", nil)                                             // [401]
	ErrDenied              = NewError("requested access to the resource is denied", "DENIED", nil)                                // [403]
	ErrUnsupported         = NewError("the operation is unsupported", "UNSUPPORTED", nil)                                         // [400]
	ErrTooManyRequests     = NewError("too many requests", "TOOMANYREQUESTS", nil)                                                // [429]

	// ErrRangeInvalid is for a range of bytes that cannot be had, and for a
	// chunk that does not continue its upload. The specification asks for the
	// status and has no code; this one is the distribution registry's. [416]
	ErrRangeInvalid = NewError("invalid content range", "RANGE_INVALID", nil)

	// ErrPreconditionFailed is for a push whose [PushCondition] did not hold.
	// The specification has conditional requests but no code for them. [412]
	ErrPreconditionFailed = NewError("precondition failed", "PRECONDITION_FAILED", nil)

	// ErrInUse is for content that cannot be deleted while a manifest names it.
	// It is also an [ErrDenied], whose code it has. [405]
	ErrInUse Error = &inUseError{WireError{Code_: "DENIED", Message: "content is in use: a manifest names it"}}
)

// NewError returns an error with the given code, message and detail. The detail
// must be valid JSON or nil.
//
// It is the way to say more about an error than its sentinel does: errors with
// equal codes match in [errors.Is].
func NewError(msg string, code string, detail json.RawMessage) Error {
	return &WireError{Code_: code, Message: msg, Detail_: detail}
}

// inUseError has the code of ErrDenied and is more specific than it.
type inUseError struct{ WireError }

// OpError tells which call failed, and what it was about. It wraps the error
// that says why.
//
// In the answer to an HTTP request it is left out (see [MarshalError]): the
// client knows what it asked, and tells in an OpError of its own.
type OpError struct {
	Op       string // the method of Interface, such as "GetBlob"
	Registry string // the host of a remote registry, else empty
	Repo     string
	Ref      string // a digest, tag or upload id; may be empty
	Err      error
}

// Error returns a message of the form "GetBlob host/repo@digest: why". Names that
// are not valid can have any length: it does not repeat all of them.
func (e *OpError) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	sep := " "
	for _, part := range []string{shorten(e.Registry), shorten(e.Repo)} {
		if part != "" {
			b.WriteString(sep)
			b.WriteString(part)
			sep = "/"
		}
	}
	if e.Ref != "" {
		switch {
		case sep == " ":
			b.WriteString(" ")
		case strings.Contains(e.Ref, ":"):
			b.WriteString("@")
		default:
			b.WriteString(":")
		}
		b.WriteString(shorten(e.Ref))
	}
	b.WriteString(": ")
	b.WriteString(e.Err.Error())
	return b.String()
}

// shorten returns as much of s as an error repeats.
func shorten(s string) string {
	const most = 256 // bytes; no valid name is longer
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// Unwrap returns e.Err.
func (e *OpError) Unwrap() error { return e.Err }

// HTTPError is an error that came with an HTTP response, or that wants a
// certain status when it is sent in one.
type HTTPError interface {
	error

	// StatusCode returns the status of the response.
	StatusCode() int

	// Response returns the response without its body, or nil if there was
	// none. It must not be changed.
	Response() *http.Response

	// ResponseBody returns the start of the response's body, or nil. It must
	// not be changed.
	ResponseBody() []byte
}

// NewHTTPError returns an HTTPError that wraps err, which may be nil. The
// response and its body may be nil; a shallow copy of the response is kept,
// without its Body.
func NewHTTPError(err error, statusCode int, response *http.Response, body []byte) HTTPError {
	e := &httpError{err: err, status: statusCode}
	if response != nil {
		r := *response
		r.Body = nil
		e.response = &r
		e.body = body
	}
	return e
}

type httpError struct {
	err      error
	status   int
	response *http.Response
	body     []byte
}

func (e *httpError) Error() string {
	if e.err == nil {
		return statusPrefix(e.status)
	}
	return statusPrefix(e.status) + ": " + e.err.Error()
}

func (e *httpError) Unwrap() error            { return e.err }
func (e *httpError) StatusCode() int          { return e.status }
func (e *httpError) Response() *http.Response { return e.response }
func (e *httpError) ResponseBody() []byte     { return e.body }

// Is reports what the status tells and the code, if there was one, does not.
func (e *httpError) Is(target error) bool {
	switch e.status {
	case http.StatusRequestedRangeNotSatisfiable:
		return target == ErrRangeInvalid && !errors.Is(e.err, ErrBlobUploadInvalid)
	case http.StatusPreconditionFailed:
		return target == ErrPreconditionFailed
	case http.StatusMethodNotAllowed:
		return target == ErrInUse && errors.Is(e.err, ErrDenied)
	}
	return false
}
