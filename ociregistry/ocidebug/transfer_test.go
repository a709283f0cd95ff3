package ocidebug_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocidebug"
)

type seq[T any] = iter.Seq2[T, error]

// plainReader is a BlobReader and nothing else.
type plainReader struct{ r *strings.Reader }

func (r plainReader) Read(p []byte) (int, error)         { return r.r.Read(p) }
func (r plainReader) Close() error                       { return nil }
func (r plainReader) Descriptor() ociregistry.Descriptor { return blobDesc }

// writerTo has a WriteTo that can be told from a copy.
type writerTo struct{ used *bool }

func (w writerTo) WriteTo(dst io.Writer) (int64, error) {
	*w.used = true
	n, err := io.WriteString(dst, content)
	return int64(n), err
}

// openBlob returns the reader that a logged registry makes of rd.
func openBlob(t *testing.T, rd ociregistry.BlobReader, log *recorder) ociregistry.BlobReader {
	t.Helper()
	r := ocidebug.New(&ociregistry.Funcs{
		GetBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.BlobReader, error) { return rd, nil },
	}, log.logf)
	got, err := r.GetBlob(t.Context(), "app", blobDigest)
	qt.Assert(t, qt.IsNil(err))
	log.take()
	return got
}

// A reader can do what the one beneath can. It always has a WriteTo.
func TestReadersKeepTheirInterfaces(t *testing.T) {
	t.Parallel()
	var used bool
	s := strings.NewReader(content)
	plain, to := plainReader{s}, writerTo{&used}
	type both struct {
		ociregistry.BlobReader
		io.Seeker
		io.ReaderAt
	}
	tests := []struct {
		name                        string
		rd                          ociregistry.BlobReader
		canSeek, canReadAt, hasFast bool
	}{
		{"Plain", plain, false, false, false},
		{"Seeker", struct {
			ociregistry.BlobReader
			io.Seeker
		}{plain, s}, true, false, false},
		{"ReaderAt", struct {
			ociregistry.BlobReader
			io.ReaderAt
		}{plain, s}, false, true, false},
		{"SeekerReaderAt", both{plain, s, s}, true, true, false},
		{"WriterTo", struct {
			ociregistry.BlobReader
			io.WriterTo
		}{plain, to}, false, false, true},
		{"All", struct {
			both
			io.WriterTo
		}{both{plain, s, s}, to}, true, true, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var log recorder
			rd := openBlob(t, test.rd, &log)
			qt.Check(t, qt.DeepEquals(rd.Descriptor(), blobDesc))
			moved := len(content)

			seeker, canSeek := rd.(io.Seeker)
			qt.Check(t, qt.Equals(canSeek, test.canSeek))
			at, canReadAt := rd.(io.ReaderAt)
			qt.Check(t, qt.Equals(canReadAt, test.canReadAt))
			if canReadAt {
				var p [3]byte
				_, err := at.ReadAt(p[:], 4)
				qt.Check(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(string(p[:]), content[4:7]))
				moved += len(p)
			}
			_, err := s.Seek(0, io.SeekStart)
			qt.Assert(t, qt.IsNil(err))
			want := content
			if canSeek && !test.hasFast {
				_, err := seeker.Seek(10, io.SeekStart)
				qt.Check(t, qt.IsNil(err))
				want = content[10:]
				moved -= 10
			}

			used = false
			var got bytes.Buffer
			n, err := rd.(io.WriterTo).WriteTo(&got)
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(n, int64(len(want))))
			qt.Check(t, qt.Equals(got.String(), want))
			qt.Check(t, qt.Equals(used, test.hasFast))

			qt.Check(t, qt.IsNil(rd.Close()))
			qt.Check(t, qt.IsNil(rd.Close()))
			lines := log.take()
			qt.Assert(t, qt.HasLen(lines, 1))
			qt.Check(t, qt.Matches(lines[0], `msg=BlobReader\.Close .* bytes=`+strconv.Itoa(moved)+` duration=\S+`))
		})
	}
}

// Registries can be logged more than once.
func TestReaders_CanBeLoggedTwice(t *testing.T) {
	t.Parallel()
	var used bool
	var log recorder
	rd := openBlob(t, openBlob(t, struct {
		ociregistry.BlobReader
		io.WriterTo
		io.Seeker
	}{plainReader{strings.NewReader(content)}, writerTo{&used}, strings.NewReader(content)}, &log), &log)
	_, canSeek := rd.(io.Seeker)
	qt.Check(t, qt.IsTrue(canSeek))
	_, canReadAt := rd.(io.ReaderAt)
	qt.Check(t, qt.IsFalse(canReadAt))
	_, err := io.Copy(io.Discard, rd)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(used))
}

type brokenReader struct {
	plainReader
	err error
}

func (r brokenReader) Read(p []byte) (int, error) {
	n, err := r.plainReader.Read(p)
	if err == io.EOF {
		err = r.err
	}
	return n, err
}

// An error that came while reading stands in the last record.
func TestReadErrorIsLogged(t *testing.T) {
	t.Parallel()
	var log recorder
	broken := errors.New("broken")
	rd := openBlob(t, brokenReader{plainReader{strings.NewReader(content)}, broken}, &log)
	_, err := io.ReadAll(rd)
	qt.Check(t, qt.Equals(err, broken))
	qt.Check(t, qt.IsNil(rd.Close()))
	lines := log.take()
	qt.Assert(t, qt.HasLen(lines, 1))
	qt.Check(t, qt.Matches(lines[0], `msg=BlobReader\.Close .* bytes=21 duration=\S+ error=broken`))
}

// plainWriter is a BlobWriter without ReadFrom.
type plainWriter struct {
	ociregistry.BlobWriter
	buf *bytes.Buffer
	err error
}

func (w plainWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	return w.buf.Write(p)
}
func (w plainWriter) Close() error { return nil }
func (w plainWriter) ID() string   { return "1" }

type readerFrom struct {
	plainWriter
	used *bool
}

func (w readerFrom) ReadFrom(r io.Reader) (int64, error) {
	*w.used = true
	return w.buf.ReadFrom(r)
}

func openUpload(t *testing.T, w ociregistry.BlobWriter, log *recorder) ociregistry.BlobWriter {
	t.Helper()
	r := ocidebug.New(&ociregistry.Funcs{
		PushBlobChunked_: func(context.Context, string, int) (ociregistry.BlobWriter, error) { return w, nil },
	}, log.logf)
	got, err := r.PushBlobChunked(t.Context(), "app", 0)
	qt.Assert(t, qt.IsNil(err))
	log.take()
	return got
}

func TestWritersKeepTheirReadFrom(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	var used bool
	plain := plainWriter{buf: &buf}
	for _, test := range []struct {
		name     string
		w        ociregistry.BlobWriter
		wantUsed bool
	}{
		{"Plain", plain, false},
		{"ReaderFrom", readerFrom{plain, &used}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log recorder
			w := openUpload(t, test.w, &log)
			buf.Reset()
			used = false
			// Without the WriteTo that strings.Reader has.
			n, err := io.Copy(w, struct{ io.Reader }{strings.NewReader(content)})
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(n, int64(len(content))))
			qt.Check(t, qt.Equals(used, test.wantUsed))
			_, err = w.Write([]byte("!"))
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(buf.String(), content+"!"))

			qt.Check(t, qt.IsNil(w.Close()))
			lines := log.take()
			qt.Assert(t, qt.HasLen(lines, 1))
			qt.Check(t, qt.Matches(lines[0], `msg=BlobWriter\.Close .* bytes=22 duration=\S+`))
		})
	}
}

func TestWriteErrorIsLogged(t *testing.T) {
	t.Parallel()
	var log recorder
	broken := errors.New("broken")
	w := openUpload(t, plainWriter{buf: new(bytes.Buffer), err: broken}, &log)
	_, err := io.Copy(w, strings.NewReader(content))
	qt.Check(t, qt.Equals(err, broken))
	qt.Check(t, qt.IsNil(w.Close()))
	lines := log.take()
	qt.Assert(t, qt.HasLen(lines, 1))
	qt.Check(t, qt.Matches(lines[0], `msg=BlobWriter\.Close .* bytes=0 duration=\S+ error=broken`))
}

// What is pushed reaches the registry as the caller passed it, so that a remote
// one can read it again.
func TestPushedContentIsNotWrapped(t *testing.T) {
	t.Parallel()
	var log recorder
	var got io.Reader
	r := ocidebug.New(&ociregistry.Funcs{
		PushBlob_: func(_ context.Context, _ string, desc ociregistry.Descriptor, content io.Reader) (ociregistry.Descriptor, error) {
			got = content
			return desc, nil
		},
	}, log.logf)
	want := strings.NewReader(content)
	_, err := r.PushBlob(t.Context(), "app", blobDesc, want)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals[io.Reader](got, want))
}
