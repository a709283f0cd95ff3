package ociregistry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
)

func TestMarshalError_FindsCodeAndStatus(t *testing.T) {
	t.Parallel()
	httpError := func(status int, err error) error { return ociregistry.NewHTTPError(err, status, nil, nil) }
	blobUnknown := ociregistry.ErrBlobUnknown
	tests := []struct {
		name       string
		err        error
		wantBody   string
		wantStatus int
	}{{
		name:       "OtherError",
		err:        errors.New("disk on fire"),
		wantBody:   `{"errors":[{"code":"UNKNOWN","message":"disk on fire"}]}`,
		wantStatus: 500,
	}, {
		name:       "ErrorOfNoCode",
		err:        ociregistry.NewError("strange", "", nil),
		wantBody:   `{"errors":[{"code":"UNKNOWN","message":"(no code): strange"}]}`,
		wantStatus: 500,
	}, {
		name:       "ErrorOfOwnCode",
		err:        ociregistry.NewError("tea only", "TEAPOT", nil),
		wantBody:   `{"errors":[{"code":"TEAPOT","message":"tea only"}]}`,
		wantStatus: 500,
	}, {
		name:       "ErrorOfOwnCodeAndStatus",
		err:        httpError(418, ociregistry.NewError("tea only", "TEAPOT", nil)),
		wantBody:   `{"errors":[{"code":"TEAPOT","message":"tea only"}]}`,
		wantStatus: 418,
	}, {
		name:       "Sentinel",
		err:        ociregistry.ErrNameUnknown,
		wantBody:   `{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}`,
		wantStatus: 404,
	}, {
		name:       "ContextAfter",
		err:        fmt.Errorf("%w: tag does not exist", ociregistry.ErrManifestUnknown),
		wantBody:   `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown to registry: tag does not exist"}]}`,
		wantStatus: 404,
	}, {
		name:       "ContextBefore",
		err:        fmt.Errorf("reading config: %w", blobUnknown),
		wantBody:   `{"errors":[{"code":"BLOB_UNKNOWN","message":"reading config: blob unknown: blob unknown to registry"}]}`,
		wantStatus: 404,
	}, {
		name: "OpErrorIsLeftOut",
		err: &ociregistry.OpError{Op: "DeleteTag", Repository: "foo", Ref: "latest",
			Err: fmt.Errorf("%w: tag does not exist", ociregistry.ErrManifestUnknown)},
		wantBody:   `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown to registry: tag does not exist"}]}`,
		wantStatus: 404,
	}, {
		name: "OpErrorsAreLeftOut",
		err: &ociregistry.OpError{Op: "GetTag", Repository: "foo", Ref: "latest",
			Err: &ociregistry.OpError{Op: "GetTag", Registry: "example.com", Repository: "prefix/foo", Ref: "latest",
				Err: httpError(404, blobUnknown)}},
		wantBody:   `{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}`,
		wantStatus: 404,
	}, {
		name:       "OpErrorOfOtherError",
		err:        &ociregistry.OpError{Op: "GetTag", Repository: "foo", Ref: "latest", Err: io.ErrUnexpectedEOF},
		wantBody:   `{"errors":[{"code":"UNKNOWN","message":"unexpected EOF"}]}`,
		wantStatus: 500,
	}, {
		name:       "InUse",
		err:        fmt.Errorf("%w: see sha256:abc", ociregistry.ErrInUse),
		wantBody:   `{"errors":[{"code":"DENIED","message":"content is in use: a manifest names it: see sha256:abc"}]}`,
		wantStatus: 405,
	}, {
		name:       "ManifestTooLarge",
		err:        httpError(413, ociregistry.ErrManifestInvalid),
		wantBody:   `{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid"}]}`,
		wantStatus: 413,
	}, {
		name:       "BlobTooLarge",
		err:        httpError(413, fmt.Errorf("%w: over the limit", ociregistry.ErrSizeInvalid)),
		wantBody:   `{"errors":[{"code":"SIZE_INVALID","message":"provided length did not match content length: over the limit"}]}`,
		wantStatus: 413,
	}, {
		name:       "MethodNotAllowedIsUnsupported",
		err:        httpError(405, ociregistry.ErrUnsupported),
		wantBody:   `{"errors":[{"code":"UNSUPPORTED","message":"the operation is unsupported"}]}`,
		wantStatus: 405,
	}, {
		name:       "StatusThatDoesNotRefineTheCode",
		err:        httpError(401, blobUnknown),
		wantBody:   `{"errors":[{"code":"BLOB_UNKNOWN","message":"401 Unauthorized: blob unknown: blob unknown to registry"}]}`,
		wantStatus: 404,
	}, {
		name:       "NoSuchRoute",
		err:        httpError(404, ociregistry.NewError("page not found", "UNKNOWN", nil)),
		wantBody:   `{"errors":[{"code":"UNKNOWN","message":"page not found"}]}`,
		wantStatus: 404,
	}, {
		name:       "StatusAlone",
		err:        httpError(502, nil),
		wantBody:   `{"errors":[{"code":"UNKNOWN","message":"502 Bad Gateway"}]}`,
		wantStatus: 502,
	}, {
		name:       "Success",
		err:        httpError(200, errors.New("odd")),
		wantBody:   `{"errors":[{"code":"UNKNOWN","message":"200 OK: odd"}]}`,
		wantStatus: 500,
	}, {
		name:       "SuccessWithCode",
		err:        httpError(200, blobUnknown),
		wantBody:   `{"errors":[{"code":"BLOB_UNKNOWN","message":"200 OK: blob unknown: blob unknown to registry"}]}`,
		wantStatus: 404,
	}, {
		name:       "Redirect",
		err:        httpError(307, errors.New("elsewhere")),
		wantBody:   `{"errors":[{"code":"UNKNOWN","message":"307 Temporary Redirect: elsewhere"}]}`,
		wantStatus: 500,
	}, {
		name:       "StatusZero",
		err:        httpError(0, errors.New("odd")),
		wantBody:   `{"errors":[{"code":"UNKNOWN","message":"0 (unknown status): odd"}]}`,
		wantStatus: 500,
	}, {
		name:       "Status999",
		err:        httpError(999, ociregistry.NewError("odd", "TEAPOT", nil)),
		wantBody:   `{"errors":[{"code":"TEAPOT","message":"999 (unknown status): teapot: odd"}]}`,
		wantStatus: 500,
	}, {
		name:       "Detail",
		err:        fmt.Errorf("%w!", ociregistry.NewError("no", "DENIED", json.RawMessage(`{"why":["because"]}`))),
		wantBody:   `{"errors":[{"code":"DENIED","message":"no!","detail":{"why":["because"]}}]}`,
		wantStatus: 403,
	}, {
		name:       "DetailThatIsNotJSON",
		err:        ociregistry.NewError("no", "DENIED", json.RawMessage(`{"why":`)),
		wantBody:   `{"errors":[{"code":"DENIED","message":"no"}]}`,
		wantStatus: 403,
	}, {
		name:       "DetailThatIsEmpty",
		err:        ociregistry.NewError("no", "DENIED", json.RawMessage{}),
		wantBody:   `{"errors":[{"code":"DENIED","message":"no"}]}`,
		wantStatus: 403,
	}, {
		name: "Several",
		err: errors.Join(
			fmt.Errorf("%w: one", ociregistry.ErrManifestInvalid),
			io.ErrUnexpectedEOF,
			&ociregistry.OpError{Op: "PushManifest", Repository: "foo", Err: ociregistry.NewError("two", "TEAPOT", json.RawMessage(`2`))}),
		wantBody:   `{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid"},{"code":"TEAPOT","message":"two","detail":2}]}`,
		wantStatus: 400,
	}, {
		name:       "WireErrorsOfNone",
		err:        &ociregistry.WireErrors{},
		wantBody:   `{"errors":[{"code":"UNKNOWN","message":"no error given"}]}`,
		wantStatus: 500,
	}, {
		name:       "Escapes",
		err:        errors.New("\"<\n"),
		wantBody:   `{"errors":[{"code":"UNKNOWN","message":"\"\u003c\n"}]}`,
		wantStatus: 500,
	}}
	hop := newHop(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			body, status := ociregistry.MarshalError(test.err)
			qt.Check(t, qt.Equals(string(body), test.wantBody))
			qt.Check(t, qt.Equals(status, test.wantStatus))

			// A chain of proxies passes it on as it is.
			err := test.err
			for range 3 {
				err = hop(err)
				again, status := ociregistry.MarshalError(err)
				qt.Check(t, qt.Equals(string(again), test.wantBody))
				qt.Check(t, qt.Equals(status, test.wantStatus))
			}
		})
	}
}

func TestWireErrors_HaveReadableMessages(t *testing.T) {
	t.Parallel()
	tests := []struct {
		body string
		want string
	}{
		{`{"errors":[{"code":"BLOB_UNKNOWN","message":"gone"}]}`, "blob unknown: gone"},
		{`{"errors":[{"code":"BLOB_UNKNOWN"}]}`, "blob unknown"},
		{`{"errors":[{"message":"gone"}]}`, "(no code): gone"},
		{`{"errors":[{"code":"A","message":"x"},{"code":"B_C","message":"y"}]}`, "a: x; b c: y"},
		{`{"errors":[]}`, "no error given"},
		{`{}`, "no error given"},
	}
	for _, test := range tests {
		wire := new(ociregistry.WireErrors)
		qt.Assert(t, qt.IsNil(json.Unmarshal([]byte(test.body), wire)))
		qt.Check(t, qt.Equals(wire.Error(), test.want), qt.Commentf("%s", test.body))
	}
}
