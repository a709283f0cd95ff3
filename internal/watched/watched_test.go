package watched_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/internal/watched"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
)

// plain is a reader that can only read; seeking and at can do more.
type plain struct{ io.Reader }

func (plain) Close() error                       { return nil }
func (plain) Descriptor() ociregistry.Descriptor { return ociregistry.Descriptor{} }

type seeking struct {
	plain
	io.Seeker
}

type at struct {
	plain
	io.ReaderAt
}

type verifying struct{ plain }

var state = verified.State{Digest: "sha256:x", Read: 3, Ended: true}

func (verifying) Verified() verified.State { return state }

func TestReader_CanDoWhatTheOneBeneathCan(t *testing.T) {
	t.Parallel()
	s := strings.NewReader("hello")
	for _, rd := range []ociregistry.BlobReader{
		plain{s}, seeking{plain{s}, s}, at{plain{s}, s}, verifying{plain{s}},
		struct {
			seeking
			io.ReaderAt
		}{seeking{plain{s}, s}, s},
	} {
		got := watched.Reader(rd, func(watched.End) {})
		_, want := rd.(io.Seeker)
		_, can := got.(io.Seeker)
		qt.Check(t, qt.Equals(can, want), qt.Commentf("%T", rd))
		_, want = rd.(io.ReaderAt)
		_, can = got.(io.ReaderAt)
		qt.Check(t, qt.Equals(can, want), qt.Commentf("%T", rd))
		qt.Check(t, qt.Equals(verified.By(got), verified.By(rd)), qt.Commentf("%T", rd))
	}
}

func TestReader_TellsItsEndOnce(t *testing.T) {
	t.Parallel()
	var ends []watched.End
	s := strings.NewReader("hello")
	rd := watched.Reader(at{plain{s}, s}, func(e watched.End) { ends = append(ends, e) })
	_, err := io.CopyN(io.Discard, rd, 2)
	qt.Assert(t, qt.IsNil(err))
	_, err = rd.(io.ReaderAt).ReadAt(make([]byte, 1), 4)
	qt.Assert(t, qt.IsNil(err))
	_, err = io.Copy(io.Discard, rd)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(ends, 0))
	rd.Close()
	rd.Close()
	qt.Check(t, qt.DeepEquals(ends, []watched.End{{Method: "BlobReader.Close", Bytes: 6}}))
}

func TestReader_TellsItsFirstError(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk on fire")
	var end watched.End
	rd := watched.Reader(plain{io.MultiReader(strings.NewReader("hello"), brokenReader{broken})}, func(e watched.End) { end = e })
	io.Copy(io.Discard, rd)
	rd.Close()
	qt.Check(t, qt.Equals(end, watched.End{Method: "BlobReader.Close", Bytes: 5, Err: broken}))
}

type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

func TestWriter_TellsItsEndOnce(t *testing.T) {
	t.Parallel()
	const hello = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	for _, test := range []struct {
		end  func(ociregistry.BlobWriter) error
		want watched.End
	}{
		{func(w ociregistry.BlobWriter) error { _, err := w.Commit(hello); return err }, watched.End{Method: "BlobWriter.Commit", Digest: hello, Bytes: 5}},
		{ociregistry.BlobWriter.Close, watched.End{Method: "BlobWriter.Close", Bytes: 5}},
		{ociregistry.BlobWriter.Cancel, watched.End{Method: "BlobWriter.Cancel", Bytes: 5}},
	} {
		var ends []watched.End
		w, err := ocimem.New().PushBlobChunked(t.Context(), "foo", 0)
		qt.Assert(t, qt.IsNil(err))
		w = watched.Writer(w, func(e watched.End) { ends = append(ends, e) })
		_, err = io.Copy(w, strings.NewReader("hello"))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(test.end(w)))
		qt.Check(t, qt.IsNil(w.Cancel()))
		qt.Check(t, qt.IsNil(w.Close()))
		qt.Check(t, qt.DeepEquals(ends, []watched.End{test.want}))
	}
}
