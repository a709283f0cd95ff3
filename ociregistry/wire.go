package ociregistry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// WireErrors is the body of an HTTP response that reports errors: the
// specification's section "Error Codes". It has at least one error.
type WireErrors struct {
	Errors []WireError `json:"errors"`
}

// Error returns the messages of all errors.
func (e *WireErrors) Error() string {
	if len(e.Errors) == 0 {
		return "no error given"
	}
	var b strings.Builder
	for i := range e.Errors {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(e.Errors[i].Error())
	}
	return b.String()
}

// Unwrap returns the errors, each a [*WireError].
func (e *WireErrors) Unwrap() []error {
	errs := make([]error, len(e.Errors))
	for i := range e.Errors {
		errs[i] = &e.Errors[i]
	}
	return errs
}

// WireError is one error as it stands in a response.
type WireError struct {
	Code_   string          `json:"code"`
	Message string          `json:"message,omitempty"`
	Detail_ json.RawMessage `json:"detail,omitempty"`
}

// Code implements [Error.Code].
func (e *WireError) Code() string { return e.Code_ }

// Detail implements [Error.Detail].
func (e *WireError) Detail() json.RawMessage { return e.Detail_ }

// Error returns the code in words, and the message.
func (e *WireError) Error() string {
	if e.Message == "" {
		return codePrefix(e.Code_)
	}
	return codePrefix(e.Code_) + ": " + e.Message
}

// Is reports whether target is an [Error] with the same code. [ErrInUse] has
// the code of [ErrDenied] and is not meant by it.
func (e *WireError) Is(target error) bool {
	t, ok := target.(Error)
	if !ok || t.Code() != e.Code_ {
		return false
	}
	_, inUse := target.(*inUseError)
	return !inUse
}

// statuses has the HTTP status of each code, and after it those that an
// [HTTPError] may ask for instead because they say more than the code does.
var statuses = map[string][]int{
	ErrBlobUnknown.Code():         {http.StatusNotFound},
	ErrBlobUploadInvalid.Code():   {http.StatusRequestedRangeNotSatisfiable},
	ErrBlobUploadUnknown.Code():   {http.StatusNotFound},
	ErrDigestInvalid.Code():       {http.StatusBadRequest},
	ErrManifestBlobUnknown.Code(): {http.StatusNotFound},
	ErrManifestInvalid.Code():     {http.StatusBadRequest, http.StatusRequestEntityTooLarge},
	ErrManifestUnknown.Code():     {http.StatusNotFound},
	ErrNameInvalid.Code():         {http.StatusBadRequest},
	ErrNameUnknown.Code():         {http.StatusNotFound},
	ErrSizeInvalid.Code():         {http.StatusBadRequest, http.StatusRequestEntityTooLarge},
	ErrUnauthorized.Code():        {http.StatusUnauthorized},
	ErrDenied.Code():              {http.StatusForbidden, http.StatusMethodNotAllowed},
	ErrUnsupported.Code():         {http.StatusBadRequest, http.StatusMethodNotAllowed},
	ErrTooManyRequests.Code():     {http.StatusTooManyRequests},
	ErrRangeInvalid.Code():        {http.StatusRequestedRangeNotSatisfiable},
	ErrPreconditionFailed.Code():  {http.StatusPreconditionFailed},
}

// WriteError answers a request with err, as [MarshalError] has it. It returns
// the error of w.Write.
func WriteError(w http.ResponseWriter, err error) error {
	body, status := MarshalError(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err = w.Write(body)
	return err
}

// MarshalError returns the body and the status of an HTTP response that reports
// err, such that a client that parses them gets an error that matches the same
// sentinels, with the same codes, messages and details.
//
// The code is that of the [Error] that err is or wraps, else "UNKNOWN". The
// status is the one that belongs to the code; an [HTTPError] in err can choose
// another where it refines the code's (413 for a manifest or blob that is too
// large, 405 for content in use) and where the code has none of its own. An
// error with neither is a 500.
//
// The message is err's, without what the client knows already: an [OpError]'s
// prefix, and the status and code that the answer has beside it. When err wraps
// several Errors, each becomes an element of the body, with its own message.
func MarshalError(err error) (errorBody []byte, httpStatus int) {
	wire := WireErrors{Errors: wireErrors(err, nil)}
	if len(wire.Errors) == 0 {
		wire.Errors = []WireError{{Code_: "UNKNOWN"}}
	}
	status := statusOf(err, wire.Errors[0].Code_)
	if len(wire.Errors) == 1 {
		wire.Errors[0].Message = bareMessage(err, status, wire.Errors[0].Code_)
	}
	body, jsonErr := json.Marshal(wire)
	if jsonErr != nil {
		// Only a Detail that is no JSON can do this, and it is the caller's.
		for i := range wire.Errors {
			wire.Errors[i].Detail_ = nil
		}
		body, _ = json.Marshal(wire)
	}
	return body, status
}

// wireErrors appends the Errors in the tree of err, depth first.
func wireErrors(err error, found []WireError) []WireError {
	if e, ok := err.(Error); ok {
		code := e.Code()
		if code == "" {
			code = "UNKNOWN"
		}
		return append(found, WireError{Code_: code, Message: bareMessage(err, 0, code), Detail_: e.Detail()})
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return wireErrors(inner, found)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			found = wireErrors(inner, found)
		}
	}
	return found
}

func statusOf(err error, code string) int {
	allowed := statuses[code]
	var herr HTTPError
	switch {
	case errors.Is(err, ErrInUse):
		return http.StatusMethodNotAllowed
	case errors.As(err, &herr) && validStatus(herr.StatusCode()) &&
		(allowed == nil || slices.Contains(allowed, herr.StatusCode())):
		return herr.StatusCode()
	case allowed != nil:
		return allowed[0]
	}
	return http.StatusInternalServerError
}

// validStatus reports whether a server may answer an error with status: an
// upstream's redirect or success, taken for an error, is none to pass on.
func validStatus(status int) bool { return status >= 400 && status <= 599 }

// bareMessage returns err's message without the prefixes that the answer makes
// redundant.
func bareMessage(err error, status int, code string) string {
	for op, ok := err.(*OpError); ok; op, ok = err.(*OpError) {
		err = op.Err
	}
	msg := err.Error()
	if status != 0 {
		msg = strings.TrimPrefix(msg, statusPrefix(status)+": ")
	}
	return strings.TrimPrefix(msg, codePrefix(code)+": ")
}

func statusPrefix(status int) string {
	if text := http.StatusText(status); text != "" {
		return strconv.Itoa(status) + " " + text
	}
	return fmt.Sprintf("%d (unknown status)", status)
}

// codePrefix returns a code in words: "blob unknown" for "BLOB_UNKNOWN".
func codePrefix(code string) string {
	if code == "" {
		return "(no code)"
	}
	return strings.ToLower(strings.ReplaceAll(code, "_", " "))
}
