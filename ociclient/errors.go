package ociclient

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

// maxErrorBody bounds how many bytes of an error response are read.
const maxErrorBody = 8 << 10

// A target says what a call of a method of the Interface is about, for its errors.
type target struct {
	c    *client
	op   string
	repo string
	ref  string
}

func (c *client) about(op, repo, ref string) target { return target{c, op, repo, ref} }

// wrap adds the target to err. It returns nil for nil.
func (t target) wrap(err error) error {
	if err == nil {
		return nil
	}
	return &ociregistry.OpError{Op: t.op, Registry: t.c.base.Host, Repository: t.repo, Ref: t.ref, Err: err}
}

// responseError returns the error for a response, and closes its body. For a 404 that does
// not say what is unknown, it is the given error.
func responseError(resp *http.Response, unknown error) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	resp.Body.Close()
	return httpError(bodyError(resp, body, unknown), resp, body)
}

// foreignError is the error for a response of another origin, after a redirect. It says
// nothing about the registry's content, and so it is not an [ociregistry.HTTPError].
type foreignError struct{ resp *http.Response }

func (e *foreignError) Error() string {
	return fmt.Sprintf("%s, to which the registry redirects, answers %d %s", e.resp.Request.URL.Host, e.resp.StatusCode, http.StatusText(e.resp.StatusCode))
}

// refusal returns the error for a response to the call, and closes its body. A response
// of another origin counts as the registry's if it has errors in the form of the
// specification: some registries redirect requests for everything that they do not have.
func (cl *call) refusal(resp *http.Response) error {
	err := responseError(resp, cl.unknown)
	var list *ociregistry.WireErrors
	if wire.SameOrigin(resp.Request.URL, cl.url) || resp.StatusCode/100 == 4 && errors.As(err, &list) {
		return err
	}
	return &foreignError{resp}
}

// foreignStatus returns the status of a foreignError, or 0 for other errors.
func foreignStatus(err error) int {
	var foreign *foreignError
	if errors.As(err, &foreign) {
		return foreign.resp.StatusCode
	}
	return 0
}

// httpError adds the response to err. It omits the request, which may contain credentials.
func httpError(err error, resp *http.Response, body []byte) error {
	kept := *resp
	kept.Request = nil
	return ociregistry.NewHTTPError(err, resp.StatusCode, &kept, body)
}

// bodyError returns the error that the body of a response describes, or else the one for
// its status, or nil.
func bodyError(resp *http.Response, body []byte, unknown error) error {
	byStatus := statusError(resp.StatusCode, unknown)
	var list ociregistry.WireErrors
	if json.Unmarshal(body, &list) == nil && len(list.Errors) > 0 {
		// A session that does not exist may be called invalid.
		gone := byStatus == ociregistry.ErrBlobUploadUnknown && errors.Is(&list, ociregistry.ErrBlobUploadInvalid)
		if byStatus != nil && (gone || !hasSentinel(&list)) {
			return fmt.Errorf("%w: %w", byStatus, &list)
		}
		return &list
	}
	text := readable(resp.Header.Get("Content-Type"), body)
	switch {
	case text == "":
		return byStatus
	case byStatus == nil:
		return errors.New(text)
	}
	return fmt.Errorf("%w: %s", byStatus, text)
}

// statusError returns the error for a status, or nil.
func statusError(status int, unknown error) error {
	switch status {
	case http.StatusUnauthorized:
		return ociregistry.ErrUnauthorized
	case http.StatusForbidden:
		return ociregistry.ErrDenied
	case http.StatusNotFound:
		return unknown
	case http.StatusTooManyRequests:
		return ociregistry.ErrTooManyRequests
	}
	return nil
}

var sentinels = []ociregistry.Error{
	ociregistry.ErrBlobUnknown, ociregistry.ErrBlobUploadInvalid, ociregistry.ErrBlobUploadUnknown,
	ociregistry.ErrDigestInvalid, ociregistry.ErrManifestBlobUnknown, ociregistry.ErrManifestInvalid,
	ociregistry.ErrManifestUnknown, ociregistry.ErrNameInvalid, ociregistry.ErrNameUnknown,
	ociregistry.ErrSizeInvalid, ociregistry.ErrUnauthorized, ociregistry.ErrDenied, ociregistry.ErrUnsupported,
	ociregistry.ErrTooManyRequests, ociregistry.ErrRangeInvalid, ociregistry.ErrPreconditionFailed,
}

// hasSentinel reports whether an error matches one of the sentinels.
func hasSentinel(err error) bool {
	for _, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}

// readable returns the first line of a body in plain text. HTML and JSON do not count,
// whatever their Content-Type.
func readable(contentType string, body []byte) string {
	body = bytes.TrimSpace(body)
	if !strings.HasPrefix(contentType, "text/plain") || len(body) == 0 || bytes.IndexByte([]byte("<{["), body[0]) >= 0 {
		return ""
	}
	const maxLen = 200 // bytes
	line, _, _ := bytes.Cut(body, []byte("\n"))
	line = line[:min(len(line), maxLen)]
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(string(line), ""))
}

// responseOf returns the response of the HTTP error in err, or nil.
func responseOf(err error) *http.Response {
	var herr ociregistry.HTTPError
	if errors.As(err, &herr) {
		return herr.Response()
	}
	return nil
}

// statusOf returns the status of the HTTP error in err, or 0.
func statusOf(err error) int {
	if resp := responseOf(err); resp != nil {
		return resp.StatusCode
	}
	return 0
}
