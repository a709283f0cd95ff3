package call_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestChecksSayWhatIsWrongWithAnArgument(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 200)
	tests := []struct {
		check string
		err   error
		want  error // nil if the arguments are good
	}{
		{"repo", call.New("Tags", "a/b", "").CheckRepository(), nil},
		{"repo", call.New("Tags", "A", "").CheckRepository(), ociregistry.ErrNameInvalid},
		{"digest", call.New("GetBlob", "a", digest).CheckDigest(), nil},
		{"digest", call.New("GetBlob", "A", digest).CheckDigest(), ociregistry.ErrNameInvalid},
		{"digest", call.New("GetBlob", "a", "sha256:x").CheckDigest(), ociregistry.ErrDigestInvalid},
		{"tag", call.New("GetTag", "a", "v1").CheckTag(), nil},
		{"tag", call.New("GetTag", "A", "v1").CheckTag(), ociregistry.ErrNameInvalid},
		{"tag", call.New("GetTag", "a", ".v1").CheckTag(), ociregistry.ErrManifestUnknown},
		{"tag", call.New("GetTag", "a", "").CheckTag(), ociregistry.ErrManifestUnknown},
		{"push", call.New("PushManifest", "a", "").CheckPush(nil), nil},
		{"push", call.New("PushManifest", "a", "v1").CheckPush([]string{"v2"}), nil},
		{"push", call.New("PushManifest", "a", digest).CheckPush([]string{"v2"}), nil},
		{"push", call.New("PushManifest", "A", "").CheckPush(nil), ociregistry.ErrNameInvalid},
		{"push", call.New("PushManifest", "a", "sha256:x").CheckPush(nil), ociregistry.ErrDigestInvalid},
		{"push", call.New("PushManifest", "a", ".v1").CheckPush(nil), ociregistry.ErrManifestInvalid},
		{"push", call.New("PushManifest", "a", "v1").CheckPush([]string{"v2", ""}), ociregistry.ErrManifestInvalid},
		{"push", call.New("PushManifest", "a", digest).CheckPush([]string{long}), ociregistry.ErrManifestInvalid},
	}
	for i, test := range tests {
		comment := qt.Commentf("%s, test %d", test.check, i)
		if test.want == nil {
			qt.Check(t, qt.IsNil(test.err), comment)
			continue
		}
		qt.Check(t, qt.ErrorIs(test.err, test.want), comment)
		var op *ociregistry.OpError
		qt.Check(t, qt.ErrorAs(test.err, &op), comment)
	}
}

func TestCheckTagsToSet_NamesTheTag(t *testing.T) {
	t.Parallel()
	qt.Check(t, qt.IsNil(call.CheckTagsToSet()))
	qt.Check(t, qt.IsNil(call.CheckTagsToSet("v1", "v2")))
	long := strings.Repeat("a", 1000)
	for _, tag := range []string{"", "-x", "a:b", "\x00", long} {
		err := call.CheckTagsToSet("v1", tag)
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestInvalid)))
		qt.Check(t, qt.StringContains(err.Error(), fmt.Sprintf("invalid tag %.130q", tag)))
		qt.Check(t, qt.IsTrue(len(err.Error()) < 200))
	}
}

func TestRefIsADigestOrATagOrNeither(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		ref         string
		digest, tag bool
	}{
		{"", false, false},
		{"v1", false, true},
		{"-x", false, true},
		{digest, true, false},
		{"sha256:x", true, false},
		{":", true, false},
	} {
		qt.Check(t, qt.Equals(call.IsDigest(test.ref), test.digest), qt.Commentf("%q", test.ref))
		qt.Check(t, qt.Equals(call.IsTag(test.ref), test.tag), qt.Commentf("%q", test.ref))
	}
}

func TestErrorsNameTheCall(t *testing.T) {
	t.Parallel()
	qt.Check(t, qt.IsNil(call.New("GetTag", "a", "v1").Wrap(nil)))
	var got *ociregistry.OpError
	qt.Assert(t, qt.ErrorAs(call.New("GetTag", "a", "v1").Wrap(ociregistry.ErrDenied), &got))
	qt.Check(t, qt.Equals(*got, ociregistry.OpError{Op: "GetTag", Repository: "a", Ref: "v1", Err: ociregistry.ErrDenied}))
}

// hollow is an error that may wrap others, and wraps none.
type hollow struct{ is error }

func (e hollow) Error() string        { return "hollow" }
func (e hollow) Unwrap() error        { return nil }
func (e hollow) Is(target error) bool { return e.is == target }

func TestErrorIsOnlyLooksAtAllThatIsWrapped(t *testing.T) {
	t.Parallel()
	a, b, other := errors.New("a"), errors.New("b"), errors.New("other")
	tests := []struct {
		err  error
		want bool
	}{
		{nil, false},
		{a, true},
		{other, false},
		{fmt.Errorf("in a registry: %w", b), true},
		{fmt.Errorf("in a registry: %w", other), false},
		{errors.Join(a, b), true},
		{errors.Join(a, other), false},
		{errors.Join(a, fmt.Errorf("in a registry: %w", errors.Join(b, other))), false},
		{fmt.Errorf("%w: %w", a, b), true},
		{hollow{a}, true},
		{hollow{other}, false},
	}
	for _, test := range tests {
		qt.Check(t, qt.Equals(call.ErrorIsOnly(test.err, []error{a, b}), test.want), qt.Commentf("%v", test.err))
	}
}
