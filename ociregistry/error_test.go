package ociregistry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
)

// sentinels has every error value that programs compare with, and the status
// that it has in an HTTP response.
var sentinels = []struct {
	name   string
	err    ociregistry.Error
	code   string
	status int
}{
	{"ErrBlobUnknown", ociregistry.ErrBlobUnknown, "BLOB_UNKNOWN", 404},
	{"ErrBlobUploadInvalid", ociregistry.ErrBlobUploadInvalid, "BLOB_UPLOAD_INVALID", 416},
	{"ErrBlobUploadUnknown", ociregistry.ErrBlobUploadUnknown, "BLOB_UPLOAD_UNKNOWN", 404},
	{"ErrDigestInvalid", ociregistry.ErrDigestInvalid, "DIGEST_INVALID", 400},
	{"ErrManifestBlobUnknown", ociregistry.ErrManifestBlobUnknown, "MANIFEST_BLOB_UNKNOWN", 404},
	{"ErrManifestInvalid", ociregistry.ErrManifestInvalid, "MANIFEST_INVALID", 400},
	{"ErrManifestUnknown", ociregistry.ErrManifestUnknown, "MANIFEST_UNKNOWN", 404},
	{"ErrNameInvalid", ociregistry.ErrNameInvalid, "NAME_INVALID", 400},
	{"ErrNameUnknown", ociregistry.ErrNameUnknown, "NAME_UNKNOWN", 404},
	{"ErrSizeInvalid", ociregistry.ErrSizeInvalid, "SIZE_INVALID", 400},
	{"ErrUnauthorized", ociregistry.ErrUnauthorized, "UNAUTHORIZED", 401},
	{"ErrDenied", ociregistry.ErrDenied, "DENIED", 403},
	{"ErrUnsupported", ociregistry.ErrUnsupported, "UNSUPPORTED", 400},
	{"ErrTooManyRequests", ociregistry.ErrTooManyRequests, "TOOMANYREQUESTS", 429},
	{"ErrRangeInvalid", ociregistry.ErrRangeInvalid, "RANGE_INVALID", 416},
	{"ErrPreconditionFailed", ociregistry.ErrPreconditionFailed, "PRECONDITION_FAILED", 412},
	{"ErrInUse", ociregistry.ErrInUse, "DENIED", 405},
}

// newHop starts a server and returns a function that sends an error through it,
// as ociserver and ociclient do: [ociregistry.WriteError] on one side, and on
// the other the parsed body in an HTTPError in an OpError.
func newHop(t *testing.T) func(error) error {
	var serve error
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := ociregistry.WriteError(w, serve); err != nil {
			t.Errorf("WriteError: %v", err)
		}
	}))
	t.Cleanup(srv.Close)

	return func(err error) error {
		serve = err
		resp, err := srv.Client().Get(srv.URL)
		qt.Assert(t, qt.IsNil(err))
		defer resp.Body.Close()
		qt.Assert(t, qt.Equals(resp.Header.Get("Content-Type"), "application/json"))
		body, err := io.ReadAll(resp.Body)
		qt.Assert(t, qt.IsNil(err))
		wire := new(ociregistry.WireErrors)
		qt.Assert(t, qt.IsNil(json.Unmarshal(body, wire)))
		return &ociregistry.OpError{
			Op:         "GetBlob",
			Registry:   "example.com",
			Repository: "foo/bar",
			Ref:        "latest",
			Err:        ociregistry.NewHTTPError(wire, resp.StatusCode, resp, body),
		}
	}
}

// checkAgree checks that got matches the same sentinels as want.
func checkAgree(t *testing.T, got, want error) {
	t.Helper()
	for _, s := range sentinels {
		if errors.Is(got, s.err) != errors.Is(want, s.err) {
			t.Errorf("errors.Is(%q, %s) is %v; for what was sent, %q, it is %v", got, s.name, errors.Is(got, s.err), want, errors.Is(want, s.err))
		}
	}
}

func TestSentinelsAreDistinct(t *testing.T) {
	t.Parallel()
	for i, a := range sentinels {
		for j, b := range sentinels {
			want := i == j || a.name == "ErrInUse" && b.name == "ErrDenied"
			qt.Check(t, qt.Equals(errors.Is(a.err, b.err), want), qt.Commentf("errors.Is(%s, %s)", a.name, b.name))
		}
		qt.Check(t, qt.Equals(a.err.Code(), a.code))
		qt.Check(t, qt.HasLen(a.err.Detail(), 0))
	}
}

func TestErrorsOfOneCodeMatch(t *testing.T) {
	t.Parallel()
	mine := ociregistry.NewError("badly formed digest", "DIGEST_INVALID", nil)
	qt.Check(t, qt.ErrorIs(mine, ociregistry.ErrDigestInvalid))
	qt.Check(t, qt.ErrorIs(ociregistry.ErrDigestInvalid, error(mine)))
	qt.Check(t, qt.IsFalse(errors.Is(mine, ociregistry.ErrSizeInvalid)))
	qt.Check(t, qt.IsFalse(errors.Is(mine, io.EOF)))

	// The code of ErrInUse is not enough to be one.
	qt.Check(t, qt.IsFalse(errors.Is(ociregistry.NewError("no", "DENIED", nil), ociregistry.ErrInUse)))
}

func TestErrorsIsAgreesAcrossTheWire(t *testing.T) {
	t.Parallel()
	hop := newHop(t)
	forms := []struct {
		name string
		wrap func(error) error
	}{
		{"bare", func(err error) error { return err }},
		{"before", func(err error) error { return fmt.Errorf("some context: %w", err) }},
		{"after", func(err error) error { return fmt.Errorf("%w: some context", err) }},
		{"OpError", func(err error) error {
			return &ociregistry.OpError{Op: "DeleteBlob", Repository: "foo", Ref: "sha256:abc", Err: err}
		}},
		{"HTTPError", func(err error) error { return ociregistry.NewHTTPError(err, 418, nil, nil) }},
		{"joined", func(err error) error { return errors.Join(io.ErrUnexpectedEOF, err) }},
	}
	for _, s := range sentinels {
		for _, form := range forms {
			err := form.wrap(s.err)
			got := err
			for range 3 {
				got = hop(got)
				checkAgree(t, got, err)

				var herr ociregistry.HTTPError
				qt.Assert(t, qt.ErrorAs(got, &herr))
				qt.Check(t, qt.Equals(herr.StatusCode(), s.status), qt.Commentf("%s, %s", s.name, form.name))
				var oerr ociregistry.Error
				qt.Assert(t, qt.ErrorAs(got, &oerr))
				qt.Check(t, qt.Equals(oerr.Code(), s.code))
			}
		}
	}
}

func TestJoinedErrorsIsAgreesAcrossTheWire(t *testing.T) {
	t.Parallel()
	hop := newHop(t)
	for _, a := range sentinels {
		for _, b := range sentinels {
			err := errors.Join(a.err, fmt.Errorf("as well: %w", b.err))
			once := hop(err)
			checkAgree(t, once, err)
			checkAgree(t, hop(once), err)
		}
	}
}

// A proxy adds nothing to what the client sees, and the client's message says
// once what was asked of whom.
func TestMessage_StaysTheSameAfterHops(t *testing.T) {
	t.Parallel()
	hop := newHop(t)
	err := error(&ociregistry.OpError{Op: "GetBlob", Repository: "foo/bar", Ref: "latest", Err: ociregistry.ErrBlobUnknown})
	for range 3 {
		err = hop(err)
		qt.Check(t, qt.Equals(err.Error(), "GetBlob example.com/foo/bar:latest: 404 Not Found: blob unknown: blob unknown to registry"))
	}
}

func TestDetailReachesTheClient(t *testing.T) {
	t.Parallel()
	hop := newHop(t)
	var got ociregistry.Error
	qt.Assert(t, qt.ErrorAs(hop(hop(ociregistry.NewError("no", "DENIED", json.RawMessage(`[1,{"a":"<"}]`)))), &got))
	qt.Check(t, qt.JSONEquals([]byte(got.Detail()), []any{1, map[string]string{"a": "<"}}))
}

// A registry that does not know our codes still tells by its status.
func TestStatusTellsWhatTheCodeDoesNot(t *testing.T) {
	t.Parallel()
	unknown := ociregistry.NewError("odd", "UNKNOWN", nil)
	tests := []struct {
		name   string
		status int
		err    error
		want   []error
	}{
		{"416", 416, nil, []error{ociregistry.ErrRangeInvalid}},
		{"416 UNKNOWN", 416, unknown, []error{ociregistry.ErrRangeInvalid}},
		{"412", 412, nil, []error{ociregistry.ErrPreconditionFailed}},
		{"412 UNKNOWN", 412, unknown, []error{ociregistry.ErrPreconditionFailed}},
		{"405", 405, nil, nil},
		{"405 UNKNOWN", 405, unknown, nil},
		{"405 UNSUPPORTED", 405, ociregistry.ErrUnsupported, []error{ociregistry.ErrUnsupported}},
		{"405 DENIED", 405, ociregistry.ErrDenied, []error{ociregistry.ErrDenied, ociregistry.ErrInUse}},
		{"403 DENIED", 403, ociregistry.ErrDenied, []error{ociregistry.ErrDenied}},
		{"404", 404, nil, nil},
		{"500", 500, nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := ociregistry.NewHTTPError(test.err, test.status, nil, nil)
			var got []error
			for _, s := range sentinels {
				if errors.Is(err, s.err) {
					got = append(got, s.err)
				}
			}
			qt.Check(t, qt.ContentEquals(got, test.want))
		})
	}
}

func TestHTTPErrorKeepsTheResponseWithoutItsBody(t *testing.T) {
	t.Parallel()
	resp := &http.Response{
		StatusCode: 429,
		Header:     http.Header{"Retry-After": {"3"}},
		Body:       http.NoBody,
	}
	err := ociregistry.NewHTTPError(ociregistry.ErrTooManyRequests, 429, resp, []byte("slow down"))
	qt.Check(t, qt.Equals(err.StatusCode(), 429))
	qt.Check(t, qt.Equals(err.Response().Header.Get("Retry-After"), "3"))
	qt.Check(t, qt.IsNil(err.Response().Body))
	qt.Check(t, qt.Equals(string(err.ResponseBody()), "slow down"))
	qt.Check(t, qt.Equals(resp.Body, io.ReadCloser(http.NoBody)), qt.Commentf("the caller's response was changed"))
	qt.Check(t, qt.Equals(err.Error(), "429 Too Many Requests: toomanyrequests: too many requests"))

	none := ociregistry.NewHTTPError(nil, 503, nil, nil)
	qt.Check(t, qt.IsNil(none.Response()))
	qt.Check(t, qt.IsNil(none.ResponseBody()))
	qt.Check(t, qt.Equals(none.Error(), "503 Service Unavailable"))
	qt.Check(t, qt.IsNil(errors.Unwrap(none)))
}

func TestOpError_MessageTellsWhatWasAsked(t *testing.T) {
	t.Parallel()
	const digest = "sha256:e3b0"
	tests := []struct {
		err  ociregistry.OpError
		want string
	}{
		{ociregistry.OpError{Op: "Repositories"}, "Repositories: EOF"},
		{ociregistry.OpError{Op: "Repositories", Registry: "localhost:5000"}, "Repositories localhost:5000: EOF"},
		{ociregistry.OpError{Op: "Tags", Repository: "foo/bar"}, "Tags foo/bar: EOF"},
		{ociregistry.OpError{Op: "Tags", Registry: "example.com", Repository: "foo/bar"}, "Tags example.com/foo/bar: EOF"},
		{ociregistry.OpError{Op: "GetTag", Repository: "foo/bar", Ref: "latest"}, "GetTag foo/bar:latest: EOF"},
		{ociregistry.OpError{Op: "GetBlob", Repository: "foo/bar", Ref: digest}, "GetBlob foo/bar@sha256:e3b0: EOF"},
		{ociregistry.OpError{Op: "GetBlob", Registry: "example.com", Repository: "foo", Ref: digest}, "GetBlob example.com/foo@sha256:e3b0: EOF"},
		{ociregistry.OpError{Op: "GetBlob", Ref: digest}, "GetBlob sha256:e3b0: EOF"},
	}
	for _, test := range tests {
		test.err.Err = io.EOF
		qt.Check(t, qt.Equals(test.err.Error(), test.want))
		qt.Check(t, qt.ErrorIs(&test.err, io.EOF))
	}
}

// An upload id is as good as a password, and errors are logged.
func TestOpError_MessageHasNoUploadID(t *testing.T) {
	t.Parallel()
	const id = "0123456789abcdef"
	for _, op := range []string{"PushBlobChunkedResume", "Write", "ReadFrom", "Cancel", "Close"} {
		for _, ref := range []string{id, strings.Repeat(id, 100)} {
			cause := &fs.PathError{Op: "open", Path: "/uploads/" + ref + ".state", Err: fs.ErrPermission}
			err := &ociregistry.OpError{Op: op, Repository: "foo", Ref: ref, Err: cause}
			qt.Check(t, qt.Matches(err.Error(), op+" foo:[0-9a-f]{8}: open /uploads/[0-9a-f]{8}.state: permission denied"))
			qt.Check(t, qt.Equals(err.Ref, ref))
		}
	}
}

// TestOpError_IsBounded passes what no registry has: it must not fill a log.
func TestOpError_IsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 1000)
	err := &ociregistry.OpError{Op: "GetTag", Registry: long, Repository: long, Ref: long, Err: ociregistry.ErrManifestUnknown}
	short := strings.Repeat("é", 128) + "…"
	qt.Check(t, qt.Equals(err.Error(), "GetTag "+short+"/"+short+":"+short+": "+ociregistry.ErrManifestUnknown.Error()))
	qt.Check(t, qt.Equals(err.Ref, long))
}
