package ociregistry

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/seed-40b21970/oci/internal/uploadid"
)

// Error is an error with a code of the distribution specification, section "Error
// Codes", or another code of that form.
type Error interface {
	error

	// Code returns the error code, such as "BLOB_UNKNOWN".
	Code() string

	// Detail returns further information of the registry as JSON, or nil. The caller
	// must not modify it.
	Detail() json.RawMessage
}

// The sentinels to compare errors with. The number in brackets is the HTTP status that
// [MarshalError] gives an error.
var (
	// ErrBlobUnknown means that the repository does not have the blob. [404]
	ErrBlobUnknown = NewError("blob unknown to registry", "BLOB_UNKNOWN", nil)

	// ErrBlobUploadInvalid means that an upload session cannot continue or be committed
	// with what was sent. [416]
	ErrBlobUploadInvalid = NewError("blob upload invalid", "BLOB_UPLOAD_INVALID", nil)

	// ErrBlobUploadUnknown means that the repository does not have the upload session,
	// because it was never opened, or has been committed or cancelled, or has expired.
	// [404]
	ErrBlobUploadUnknown = NewError("blob upload unknown to registry", "BLOB_UPLOAD_UNKNOWN", nil)

	// ErrDigestInvalid means that a digest is malformed, has an algorithm that is not
	// supported, or is not the digest of the content. [400]
	ErrDigestInvalid = NewError("provided digest did not match uploaded content", "DIGEST_INVALID", nil)

	// ErrManifestBlobUnknown means that a manifest names a blob or a manifest that the
	// repository does not have. [404]
	ErrManifestBlobUnknown = NewError("manifest references a manifest or blob unknown to registry", "MANIFEST_BLOB_UNKNOWN", nil)

	// ErrManifestInvalid means that a manifest, its media type, or a tag to be set is
	// malformed, or that the manifest is too large. [400, or 413 if it is too large]
	ErrManifestInvalid = NewError("manifest invalid", "MANIFEST_INVALID", nil)

	// ErrManifestUnknown means that the repository does not have the manifest or the
	// tag. [404]
	ErrManifestUnknown = NewError("manifest unknown to registry", "MANIFEST_UNKNOWN", nil)

	// ErrNameInvalid means that the name of a repository is malformed. [400]
	ErrNameInvalid = NewError("invalid repository name", "NAME_INVALID", nil)

	// ErrNameUnknown means that the repository does not exist. [404]
	ErrNameUnknown = NewError("repository name not known to registry", "NAME_UNKNOWN", nil)

	// ErrSizeInvalid means that the size of content is not the one that was announced, or
	// that a blob is too large. [400, or 413 if it is too large]
	ErrSizeInvalid = NewError("provided length did not match content length", "SIZE_INVALID", nil)

	// ErrUnauthorized means that the registry wants the client to authenticate. [401]
	ErrUnauthorized = NewError("authentication required", "UNAUTHORIZED", nil)

	// ErrDenied means that the registry refuses the operation. [403]
	ErrDenied = NewError("requested access to the resource is denied", "DENIED", nil)

	// ErrUnsupported means that the registry does not implement the operation. [400]
	ErrUnsupported = NewError("the operation is unsupported", "UNSUPPORTED", nil)

	// ErrTooManyRequests means that the client should make the request again later. [429]
	ErrTooManyRequests = NewError("too many requests", "TOOMANYREQUESTS", nil)

	// ErrRangeInvalid means that content does not have the range of bytes, or that a
	// chunk does not continue its upload session. The specification asks for the status
	// but has no code. This one is used by the distribution registry. [416]
	ErrRangeInvalid = NewError("invalid content range", "RANGE_INVALID", nil)

	// ErrPreconditionFailed means that the [PushCondition] of a push did not hold. The
	// specification has conditional requests but no code for them. [412]
	ErrPreconditionFailed = NewError("precondition failed", "PRECONDITION_FAILED", nil)

	// ErrInUse means that content cannot be deleted while a manifest names it. It is
	// also an [ErrDenied], and has its code. [405]
	ErrInUse Error = &inUseError{WireError{Code_: "DENIED", Message: "content is in use: a manifest names it"}}
)

// NewError returns an error with the given code, message and detail. The detail
// must be valid JSON or nil.
//
// Use NewError to say more about an error than its sentinel does. Errors with equal
// codes match in [errors.Is].
func NewError(msg string, code string, detail json.RawMessage) Error {
	return &WireError{Code_: code, Message: msg, Detail_: detail}
}

// inUseError has the code of ErrDenied and is more specific than it.
type inUseError struct{ WireError }

// OpError tells which call failed and what the call was about. It wraps the cause.
//
// The answer to an HTTP request does not contain it (see [MarshalError]). The client
// knows what it asked for, and tells that in its own OpError.
//
// An upload id is as good as a password for its session. So the message has a hash in place of
// one, and can be logged.
type OpError struct {
	Op         string // the method of Interface, such as "GetBlob"
	Registry   string // the host of a remote registry, or empty
	Repository string // may be empty
	Ref        string // a digest, tag or upload id; may be empty
	Err        error
}

// Error returns a message of the form "GetBlob host/repo@digest: cause". It shortens
// long names, because invalid names can have any length.
func (e *OpError) Error() string {
	ref, cause := e.Ref, e.Err.Error()
	if e.isOfUpload() {
		ref, cause = uploadid.Redact(ref, ref), uploadid.Redact(cause, ref)
	}
	var b strings.Builder
	b.WriteString(e.Op)
	sep := " "
	for _, part := range []string{shorten(e.Registry), shorten(e.Repository)} {
		if part != "" {
			b.WriteString(sep)
			b.WriteString(part)
			sep = "/"
		}
	}
	if ref != "" {
		switch {
		case sep == " ":
			b.WriteString(" ")
		case strings.Contains(ref, ":"):
			b.WriteString("@")
		default:
			b.WriteString(":")
		}
		b.WriteString(shorten(ref))
	}
	b.WriteString(": ")
	b.WriteString(cause)
	return b.String()
}

// isOfUpload reports whether Ref is the id of an upload: the call resumes it, or is of a
// BlobWriter. Commit has a digest.
func (e *OpError) isOfUpload() bool {
	switch e.Op {
	case "PushBlobChunkedResume", "Write", "ReadFrom", "Cancel", "Close":
		return true
	}
	return false
}

// shorten returns the part of s that an error message contains.
func shorten(s string) string {
	const most = 256 // bytes; no valid name is longer
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// Unwrap returns e.Err.
func (e *OpError) Unwrap() error { return e.Err }

// HTTPError is an error that was received in an HTTP response, or that asks for a
// particular status when it is sent in one.
type HTTPError interface {
	error

	// StatusCode returns the status of the response.
	StatusCode() int

	// Response returns the response without its body, or nil if there was none. The
	// caller must not modify it.
	Response() *http.Response

	// ResponseBody returns the start of the response's body, or nil. The caller must
	// not modify it.
	ResponseBody() []byte
}

// NewHTTPError returns an HTTPError that wraps err, which may be nil. The response and
// its body may be nil. The error keeps a shallow copy of the response without its Body.
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

// Is reports whether target is an error that the status implies, even if the code does
// not.
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
