package ociserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
)

// StatusClientGone is the status of a request whose client has gone away, or does not read
// the answer. It appears only in logs, those of this handler and of the handlers in front of
// it, and in errors for [Options.OnFailure].
const StatusClientGone = 499

// concealed is an error whose cause a client must not learn. Its message contains only
// the status and a reference, by which the wrapped error can be found in the log.
type concealed struct {
	err       error
	status    int
	reference string
}

// conceal returns the error to answer in place of err, or nil if err itself may be
// answered. A client may know its own faults, and what a registry says about itself when
// it is unavailable. Other errors can contain paths and addresses of other registries.
func conceal(err error, status int) *concealed {
	var said ociregistry.Error
	switch {
	case status < http.StatusInternalServerError && status != StatusClientGone:
		return nil
	case status == http.StatusServiceUnavailable && errors.As(err, &said):
		return nil
	}
	return &concealed{err, status, fmt.Sprintf("%016x", rand.Uint64())}
}

func (e *concealed) Error() string {
	text := strings.ToLower(http.StatusText(e.status))
	if text == "" {
		text = "the request failed"
	}
	return text + "; reference " + e.reference
}

func (e *concealed) Unwrap() error { return e.err }

// Code implements [ociregistry.Error.Code].
func (e *concealed) Code() string {
	var coded ociregistry.Error
	if errors.As(e.err, &coded) && coded.Code() != "" {
		return coded.Code()
	}
	return "UNKNOWN"
}

// Detail implements [ociregistry.Error.Detail].
func (e *concealed) Detail() json.RawMessage { return nil }

// StatusCode implements [ociregistry.HTTPError.StatusCode].
func (e *concealed) StatusCode() int { return e.status }

// Response implements [ociregistry.HTTPError.Response].
func (e *concealed) Response() *http.Response { return nil }

// ResponseBody implements [ociregistry.HTTPError.ResponseBody].
func (e *concealed) ResponseBody() []byte { return nil }
