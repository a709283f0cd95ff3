package blobs

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// fileReader returns a reader of a part of a file with these bytes.
func fileReader(t *testing.T, ctx context.Context, data []byte, start, end int64) *blobReader {
	t.Helper()
	name := filepath.Join(scratch.Kept(t), "blob")
	qt.Assert(t, qt.IsNil(os.WriteFile(name, data, 0o644)))
	f, err := disk.OS{}.OpenFile(name, os.O_RDONLY, 0)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { f.Close() })
	desc := ociregistry.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	return NewReader(ctx, f, desc, start, end).(*blobReader)
}

func TestBlobReader(t *testing.T) {
	t.Parallel()
	data := disktest.RandomBytes(1, 3*bufferSize+7)
	size := int64(len(data))
	for _, part := range [][2]int64{{0, size}, {0, 0}, {5, 5}, {1000, size}, {7, 2000}, {size, size}} {
		want := data[part[0]:part[1]]
		r := fileReader(t, background, data, part[0], part[1])
		qt.Check(t, qt.IsNil(iotest.TestReader(r, want)))
		qt.Check(t, qt.Equals(r.Descriptor().Size, size))
		for _, w := range []interface {
			io.Writer
			Bytes() []byte
		}{new(bytes.Buffer), &plainWriter{}} {
			_, err := r.Seek(0, io.SeekStart)
			qt.Assert(t, qt.IsNil(err))
			n, err := r.WriteTo(w)
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(n, int64(len(want))))
			qt.Check(t, qt.IsTrue(bytes.Equal(w.Bytes(), want)))
			_, err = r.Read(make([]byte, 1))
			qt.Check(t, qt.Equals(err, io.EOF))
		}
		if len(want) > 3 {
			_, err := r.Seek(-3, io.SeekEnd)
			qt.Assert(t, qt.IsNil(err))
			rest, err := io.ReadAll(onlyReader{r})
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(rest, want[len(want)-3:]))
		}
	}
}

// plainWriter is no io.ReaderFrom.
type plainWriter struct{ b []byte }

func (w *plainWriter) Write(p []byte) (int, error) { w.b = append(w.b, p...); return len(p), nil }
func (w *plainWriter) Bytes() []byte               { return w.b }

// TestBlobReader_HandsOverTheFile checks what a network connection receives. It
// recognizes an *os.File below an *io.LimitedReader, and nothing else.
func TestBlobReader_HandsOverTheFile(t *testing.T) {
	t.Parallel()
	data := disktest.RandomBytes(1, 2*piece+7)
	r := fileReader(t, background, data, 3, int64(len(data)))
	w := &readerFromWriter{t: t}
	n, err := r.WriteTo(w)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(n, int64(len(data))-3))
	qt.Check(t, qt.Equals(w.calls, 3))
	qt.Check(t, qt.IsTrue(bytes.Equal(w.Bytes(), data[3:])))
}

type readerFromWriter struct {
	plainWriter
	t     *testing.T
	calls int
}

func (w *readerFromWriter) ReadFrom(r io.Reader) (int64, error) {
	w.calls++
	limited, ok := r.(*io.LimitedReader)
	qt.Assert(w.t, qt.IsTrue(ok))
	_, ok = limited.R.(*os.File)
	qt.Assert(w.t, qt.IsTrue(ok))
	return io.Copy(&w.plainWriter, r)
}

func TestBlobReaderOverTCP(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	qt.Assert(t, qt.IsNil(err))
	defer l.Close()
	data := disktest.RandomBytes(1, piece+1000)
	r := fileReader(t, background, data, 1, int64(len(data)))
	sent := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(c, r)
			c.Close()
		}
		sent <- err
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	qt.Assert(t, qt.IsNil(err))
	defer c.Close()
	got, err := io.ReadAll(c)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(<-sent))
	qt.Check(t, qt.IsTrue(bytes.Equal(got, data[1:])))
}

// TestBlobReader_FailsOnShortFile reads a file that was truncated.
func TestBlobReader_FailsOnShortFile(t *testing.T) {
	t.Parallel()
	data := disktest.RandomBytes(1, 1000)
	for name, read := range map[string]func(*blobReader) (int64, error){
		"Read":     func(r *blobReader) (int64, error) { b, err := io.ReadAll(r); return int64(len(b)), err },
		"WriteTo":  func(r *blobReader) (int64, error) { return r.WriteTo(&plainWriter{}) },
		"ReadFrom": func(r *blobReader) (int64, error) { return r.WriteTo(new(bytes.Buffer)) },
		"ReadAt": func(r *blobReader) (int64, error) {
			n, err := r.ReadAt(make([]byte, 1001), 0)
			return int64(n), err
		},
	} {
		n, err := read(fileReader(t, background, data, 0, 2000))
		qt.Check(t, qt.Equals(n, 1000), qt.Commentf("%s", name))
		qt.Check(t, qt.ErrorIs(err, io.ErrUnexpectedEOF), qt.Commentf("%s", name))
	}
}

func TestBlobReaderEnds(t *testing.T) {
	t.Parallel()
	data := disktest.RandomBytes(1, 1000)
	check := func(r *blobReader, want error) {
		t.Helper()
		_, err := r.Read(make([]byte, 1))
		qt.Check(t, qt.ErrorIs(err, want))
		_, err = r.ReadAt(make([]byte, 1), 0)
		qt.Check(t, qt.ErrorIs(err, want))
		_, err = r.Seek(0, io.SeekStart)
		qt.Check(t, qt.ErrorIs(err, want))
		_, err = r.WriteTo(io.Discard)
		qt.Check(t, qt.ErrorIs(err, want))
		qt.Check(t, qt.IsNil(r.Close()))
		qt.Check(t, qt.IsNil(r.Close()))
	}
	r := fileReader(t, background, data, 0, 1000)
	qt.Check(t, qt.IsNil(r.Close()))
	check(r, fs.ErrClosed)
	ctx, cancel := context.WithCancel(background)
	r = fileReader(t, ctx, data, 0, 1000)
	cancel()
	check(r, context.Canceled)
	_, err := fileReader(t, background, data, 0, 1000).Seek(-1, io.SeekStart)
	qt.Check(t, qt.ErrorMatches(err, ".*negative.*"))
	_, err = fileReader(t, background, data, 0, 1000).Seek(0, 7)
	qt.Check(t, qt.ErrorMatches(err, ".*whence.*"))
	_, err = fileReader(t, background, data, 0, 1000).ReadAt(nil, -1)
	qt.Check(t, qt.ErrorMatches(err, ".*negative.*"))
}
