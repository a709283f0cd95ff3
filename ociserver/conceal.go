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

// statusClientGone is the status of a request that its client ended. Nobody gets
// it but the log, and what keeps one in front of this handler.
const statusClientGone = 499

// concealed is an error of this side as a client may know it: its message names
// nothing but the status and a reference, by which the error that it wraps is
// found in the log.
type concealed struct {
	err       error
	status    int
	reference string
}

// conceal returns err as it may be answered, or nil if that is err itself. What is
// the client's fault it may know, and what a registry says of itself when it is not
// available. Other errors can have paths in them, and addresses of other registries.
func conceal(err error, status int) *concealed {
	var said ociregistry.Error
	switch {
	case status < http.StatusInternalServerError && status != statusClientGone:
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
