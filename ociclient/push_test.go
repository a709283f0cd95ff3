package ociclient_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
	"github.com/seed-40b21970/oci/ociserver"
)

// readerAt is a reader that is an [io.ReaderAt], and not an [io.Seeker].
type readerAt struct {
	io.Reader
	io.ReaderAt
}

// withBody is a reader with GetBody.
type withBody struct{ io.Reader }

func (withBody) GetBody() (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(content)), nil
}

func TestContentOfOtherSizeIsNotPushed(t *testing.T) {
	t.Parallel()
	readers := map[string]func(string) io.Reader{
		"Seeker": func(s string) io.Reader { return strings.NewReader(s) },
		"Once":   once,
	}
	tests := []struct {
		name    string
		content string
		want    error
	}{
		{"shorter", content[:20], ociregistry.ErrSizeInvalid},
		{"empty", "", ociregistry.ErrSizeInvalid},
		{"longer", content + "s", ociregistry.ErrSizeInvalid},
		{"other", strings.ToUpper(content), ociregistry.ErrDigestInvalid},
	}
	for kind, reader := range readers {
		for _, test := range tests {
			for _, chunk := range []int{0, 5, 21} {
				srv := faultserver.New(t, ociserver.New(ocimem.New(), nil), anyChunk)
				reg := clientOf(t, srv, ociclient.Options{ChunkSize: chunk}, newClock())
				_, err := reg.PushBlob(ctx, "foo", blobDesc(content), reader(test.content))
				comment := qt.Commentf("%s, %s, in chunks of %d", kind, test.name, chunk)
				qt.Assert(t, qt.ErrorIs(err, test.want), comment)
				if test.want == ociregistry.ErrSizeInvalid {
					for _, r := range srv.Requests("PUT ") {
						qt.Assert(t, qt.IsTrue(r.Body < int64(len(content))), comment)
					}
				}
				_, err = reg.ResolveBlob(ctx, "foo", blobDesc(content).Digest)
				qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrBlobUnknown), comment)
				qt.Assert(t, qt.Equals(len(srv.Requests("POST ")), len(srv.Requests("DELETE "))), comment)
			}
		}
	}
	for _, wrong := range []error{ociregistry.ErrSizeInvalid, errors.New("a disk is on fire")} {
		reg, _ := faulty(t, ociclient.Options{ChunkSize: 5}, anyChunk)
		_, err := reg.PushBlob(ctx, "foo", blobDesc(content+content), io.MultiReader(strings.NewReader(content), failing{wrong}))
		qt.Assert(t, qt.ErrorIs(err, wrong))
	}
}

func TestReadersThatCanBeReadAgainAreSentAgain(t *testing.T) {
	t.Parallel()
	readers := map[string]func() io.Reader{
		"Seeker":   func() io.Reader { return strings.NewReader(content) },
		"ReaderAt": func() io.Reader { return readerAt{strings.NewReader(content), strings.NewReader(content)} },
		"GetBody":  func() io.Reader { return withBody{strings.NewReader(content)} },
		"Seeker in the middle": func() io.Reader {
			r := strings.NewReader("before" + content)
			r.Seek(6, io.SeekStart)
			return r
		},
		"Small": func() io.Reader { return once(content) },
	}
	faults := map[string]rule{
		"503":         {On: "PUT ", Times: 2, Status: 503},
		"429":         {On: "PUT ", Times: 1, Status: 429},
		"401":         {On: "PUT ", Header: header{"Authorization": ""}, Status: 401, Set: header{"WWW-Authenticate": `Basic realm="x"`}},
		"cut":         {On: "PUT ", Times: 2, CutRequest: 10},
		"lost":        {On: "PUT ", Times: 1, Status: 500, LoseAnswer: true},
		"answered":    {On: "PUT ", Times: 1, LoseAnswer: true},
		"unreachable": {On: "POST ", Times: 3, LoseAnswer: true},
	}
	for kind, reader := range readers {
		for name, fault := range faults {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				backend := ocimem.New()
				srv := faultserver.New(t, ociserver.New(backend, nil), fault)
				transport := ociauth.NewStdTransport(ociauth.StdTransportParams{
					Transport: newTransport(t),
					Config:    everywhere{Username: "user", Password: "secret"},
				})
				reg := clientOf(t, srv, ociclient.Options{Transport: transport}, newClock())
				_, err := reg.PushBlob(ctx, "foo", blobDesc(content), reader())
				qt.Assert(t, qt.IsNil(err))
				wantBlob(t, backend, content)
			})
		}
	}
}

func TestOnlyChunksAreSentAgainOfOtherReaders(t *testing.T) {
	t.Parallel()
	blob := pattern(100)
	for _, fault := range []rule{{Status: 503}, {Status: 503, LoseAnswer: true}, {CutRequest: 4}} {
		fault.On, fault.Every = "PATCH ", 2
		backend := ocimem.New()
		srv := faultserver.New(t, ociserver.New(backend, nil), fault, anyChunk)
		reg := clientOf(t, srv, ociclient.Options{ChunkSize: 10}, newClock())
		_, err := reg.PushBlob(ctx, "foo", blobDesc(blob), once(blob))
		qt.Assert(t, qt.IsNil(err))
		wantBlob(t, backend, blob)
		for _, r := range srv.Requests("P") {
			qt.Assert(t, qt.IsTrue(r.Body <= 10))
		}
	}
}
