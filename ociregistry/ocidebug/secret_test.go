package ocidebug_test

import (
	"context"
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocidebug"
)

// Neither content nor what opens a session is logged.
func TestNoSecretsAreLogged(t *testing.T) {
	t.Parallel()
	var log recorder
	r := ocidebug.New(ocimem.New(), log.logf)
	ctx := t.Context()
	_, err := r.PushManifest(ctx, "app", "v1", []byte(manifest), testType)
	qt.Assert(t, qt.IsNil(err))
	_, err = r.PushManifest(ctx, "app", "v1", []byte(manifest), "application/vnd.oci.image.manifest.v1+json")
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrManifestInvalid))
	_, err = r.PushBlob(ctx, "app", ociregistry.Descriptor{Digest: absent, Size: blobDesc.Size}, strings.NewReader(content))
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
	w, err := r.PushBlobChunked(ctx, "app", 0)
	qt.Assert(t, qt.IsNil(err))
	id := w.ID()
	_, err = w.Write([]byte(content))
	qt.Assert(t, qt.IsNil(err))
	_, err = r.PushBlobChunkedResume(ctx, "app", id, 1, 0)
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
	_, err = w.Commit(absent)
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
	rd, err := r.GetTag(ctx, "app", "v1")
	qt.Assert(t, qt.IsNil(err))
	_, err = io.ReadAll(rd)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(rd.Close()))

	all := strings.Join(log.take(), "\n")
	for _, secret := range []string{content, manifest, "the content", id} {
		qt.Check(t, qt.IsFalse(strings.Contains(all, secret)), qt.Commentf("%q in\n%s", secret, all))
	}
}

// An error of any registry may have the id of the session in its message.
func TestUploadIDsInErrorsAreNotLogged(t *testing.T) {
	t.Parallel()
	const id = "0123456789abcdef"
	var log recorder
	r := ocidebug.New(&ociregistry.Funcs{PushBlobChunkedResume_: func(_ context.Context, _, id string, _ int64, _ int) (ociregistry.BlobWriter, error) {
		return nil, errors.New("open /uploads/" + id + ".state: permission denied")
	}}, log.logf)
	_, err := r.PushBlobChunkedResume(t.Context(), "app", id, 1, 0)
	qt.Assert(t, qt.StringContains(err.Error(), id))
	lines := log.take()
	qt.Assert(t, qt.HasLen(lines, 1))
	qt.Check(t, qt.StringContains(lines[0], "permission denied"))
	qt.Check(t, qt.Not(qt.StringContains(lines[0], id)))
}

func TestQueriesAreNotLogged(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		want string
	}{
		{errors.New("plain"), `error=plain`},
		{&url.Error{Op: "Put", URL: "https://example.com/v2/a/blobs/uploads/1?_state=SECRET&digest=sha256:ab", Err: io.ErrUnexpectedEOF},
			`error="Put \"https://example.com/v2/a/blobs/uploads/1?…\": unexpected EOF"`},
		{errors.New("/v2/a?token=SECRET and https://b/?x=SECRET"), `error="/v2/a?… and https://b/?…"`},
		{errors.New("at <https://b/?x=SECRET>; next"), `error="at <https://b/?…>; next"`},
		{errors.New("really? yes"), `error="really? yes"`},
		{errors.New("why?"), `error=why?`},
		{errors.New("a?b?c=SECRET"), `error=a?…`},
		{errors.New("two\nlines"), `error="two\nlines"`},
	} {
		var log recorder
		r := ocidebug.New(&ociregistry.Funcs{
			NewError: func(context.Context, string, string) error { return test.err },
		}, log.logf)
		err := r.DeleteTag(t.Context(), "app", "v1")
		qt.Check(t, qt.Equals(err, test.err))
		lines := log.take()
		qt.Assert(t, qt.HasLen(lines, 1))
		_, got, _ := strings.Cut(lines[0], " error=")
		qt.Check(t, qt.Equals("error="+got, test.want))
		qt.Check(t, qt.IsFalse(strings.Contains(lines[0], "SECRET")))
	}
}
