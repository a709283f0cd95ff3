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

// WireErrors is the body of an HTTP response that reports errors (specification, section
// "Error Codes"). It has at least one error.
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

// WireError is one error in a response.
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

// Is reports whether target is an [Error] with the same code, except that an error with
// the code of [ErrDenied] does not match [ErrInUse], which has the same code.
func (e *WireError) Is(target error) bool {
	t, ok := target.(Error)
	if !ok || t.Code() != e.Code_ {
		return false
	}
	_, inUse := target.(*inUseError)
	return !inUse
}

// statuses has the HTTP statuses of each code. The first is the default. An [HTTPError]
// may ask for one of the others, which say more than the code does.
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

// WriteError answers a request with the body and the status that [MarshalError] returns
// for err. It returns the error of w.Write.
func WriteError(w http.ResponseWriter, err error) error {
	body, status := MarshalError(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err = w.Write(body)
	return err
}

// MarshalError returns the body and the status of an HTTP response that reports err. A
// client that parses them gets an error that matches the same sentinels, with the same
// codes, messages and details.
//
// The code is that of the [Error] that err is or wraps, or "UNKNOWN" if there is none.
// The status is that of the code. An [HTTPError] in err can choose another status if that
// refines the one of the code (413 for a manifest or blob that is too large, 405 for
// content in use), or if the code has no status of its own. An error without a code and
// without a status gets the status 500.
//
// The message is that of err without the parts that the client knows already: the prefix
// of an [OpError], and the status and the code, which are elsewhere in the response. If
// err wraps several Errors, each is an element of the body with its own message.
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
		// A Detail is not valid JSON, which is the caller's mistake.
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

// statusOf returns the status of an error with the given code.
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

// validStatus reports whether a server may answer an error with status. The status of an
// upstream's redirect or success that was taken for an error is not passed on.
func validStatus(status int) bool { return status >= 400 && status <= 599 }

// bareMessage returns the message of err without the prefixes that are redundant in a
// response.
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
