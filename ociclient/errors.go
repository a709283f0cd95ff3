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

// maxErrorBody is how many bytes of the body of an error are read.
const maxErrorBody = 8 << 10

// subject is what a call of a method of the Interface is about, for its errors.
type subject struct {
	c    *client
	op   string
	repo string
	ref  string
}

func (c *client) about(op, repo, ref string) subject { return subject{c, op, repo, ref} }

// wrap says in err what it is about. Of nil it returns nil.
func (s subject) wrap(err error) error {
	if err == nil {
		return nil
	}
	return &ociregistry.OpError{Op: s.op, Registry: s.c.base.Host, Repo: s.repo, Ref: s.ref, Err: err}
}

// responseError returns the error that a response is, and closes its body. If
// that does not tell what is unknown, it is the given error.
func responseError(resp *http.Response, unknown error) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	resp.Body.Close()
	return httpError(bodyError(resp, body, unknown), resp, body)
}

// foreignError is an answer of another origin, after a redirect. It says nothing of
// what the registry has, and so it is no [ociregistry.HTTPError] either.
type foreignError struct{ resp *http.Response }

func (e *foreignError) Error() string {
	return fmt.Sprintf("%s, to which the registry redirects, answers %d %s", e.resp.Request.URL.Host, e.resp.StatusCode, http.StatusText(e.resp.StatusCode))
}

// refusal returns the error that a response to the call is, and closes its body. An
// answer of another origin than was asked is the registry's if it has errors in the
// form of the specification: there are registries that redirect all that they do
// not have.
func (cl *call) refusal(resp *http.Response) error {
	err := responseError(resp, cl.unknown)
	var list *ociregistry.WireErrors
	if wire.SameOrigin(resp.Request.URL, cl.url) || resp.StatusCode/100 == 4 && errors.As(err, &list) {
		return err
	}
	return &foreignError{resp}
}

// foreignStatus returns the status of the answer of another origin that err is, or 0.
func foreignStatus(err error) int {
	var foreign *foreignError
	if errors.As(err, &foreign) {
		return foreign.resp.StatusCode
	}
	return 0
}

// httpError returns err with the response that it was found in, but not with the
// request, which has credentials.
func httpError(err error, resp *http.Response, body []byte) error {
	kept := *resp
	kept.Request = nil
	return ociregistry.NewHTTPError(err, resp.StatusCode, &kept, body)
}

// bodyError returns what the body of a response says is wrong, or else what its
// status does, or nil.
func bodyError(resp *http.Response, body []byte, unknown error) error {
	byStatus := statusError(resp.StatusCode, unknown)
	var list ociregistry.WireErrors
	if json.Unmarshal(body, &list) == nil && len(list.Errors) > 0 {
		// What is wrong with a session that is not there, is that.
		gone := byStatus == ociregistry.ErrBlobUploadUnknown && errors.Is(&list, ociregistry.ErrBlobUploadInvalid)
		if byStatus != nil && (gone || !known(&list)) {
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

// statusError returns the error that a status stands for, or nil.
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

// known reports whether an error has one of the codes that there are sentinels
// for.
func known(err error) bool {
	for _, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}

// readable returns the beginning of a body that is meant to be read by people as
// it is: HTML and JSON are not, whatever they are called.
func readable(contentType string, body []byte) string {
	body = bytes.TrimSpace(body)
	if !strings.HasPrefix(contentType, "text/plain") || len(body) == 0 || bytes.IndexByte([]byte("<{["), body[0]) >= 0 {
		return ""
	}
	const most = 200 // bytes
	line, _, _ := bytes.Cut(body, []byte("\n"))
	line = line[:min(len(line), most)]
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(string(line), ""))
}

// responseOf returns the response that err came with, or nil.
func responseOf(err error) *http.Response {
	var herr ociregistry.HTTPError
	if errors.As(err, &herr) {
		return herr.Response()
	}
	return nil
}

// statusOf returns the status of the response that err came with, or 0.
func statusOf(err error) int {
	if resp := responseOf(err); resp != nil {
		return resp.StatusCode
	}
	return 0
}
