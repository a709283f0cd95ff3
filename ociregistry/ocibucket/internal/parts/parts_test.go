package parts_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/parts"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
)

func TestBuffer_GrowsToAPartAndKeepsItsBytes(t *testing.T) {
	t.Parallel()
	const size = 2 << 20
	from := parts.NewBuffers(size)
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)
	b := from.New()
	qt.Check(t, qt.HasLen(b.Bytes(), 0))
	n := 0
	for n < len(data) && b.Room() > 0 {
		n += b.Write(data[n:min(n+10_007, len(data))])
	}
	qt.Check(t, qt.Equals(n, size))
	qt.Check(t, qt.Equals(b.Room(), 0))
	qt.Check(t, qt.Equals(b.Write([]byte("x")), 0))
	qt.Check(t, qt.IsTrue(bytes.Equal(b.Bytes(), data[:size])))
	b.Empty()
	_, err := b.ReadOnce(strings.NewReader("again"))
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(b.Bytes()), "again"))
	b.Free()
	qt.Check(t, qt.Equals(b.Len(), 0))
	qt.Check(t, qt.Equals(b.Write([]byte("more")), 4))
}

// begin begins an upload, and returns a function that sends a part.
func begin(t *testing.T, ctx context.Context, store objstore.Store) (*parts.Sender, objstore.Multipart, func(number int, text string) error) {
	up, err := store.CreateMultipart(t.Context(), "d/X")
	qt.Assert(t, qt.IsNil(err))
	from := parts.NewBuffers(1 << 20)
	s := parts.NewSender(ctx, store, up, 2)
	return s, up, func(number int, text string) error {
		b := from.New()
		b.Write([]byte(text))
		return s.Send(number, b)
	}
}

func TestSender_SendsPartsOfWhichTheObjectIsMade(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	s, up, send := begin(t, t.Context(), store)
	for i, text := range []string{"a", "b", "c", "d", "e"} {
		qt.Assert(t, qt.IsNil(send(i+1, text)))
	}
	sent, err := s.Wait()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(sent, 5))
	_, err = store.CompleteMultipart(t.Context(), up, sent, objstore.Condition{})
	qt.Assert(t, qt.IsNil(err))
	got, _, err := objstore.ReadAll(t.Context(), store, "d/X", 10)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(got), "abcde"))
}

func TestSender_EndsWithItsFirstError(t *testing.T) {
	t.Parallel()
	store := memstore.New(&memstore.Options{Fault: func(req memstore.Request) memstore.Fault {
		if req.Op == "PutPart" {
			return memstore.Fault{Kind: objstore.ErrDenied}
		}
		return memstore.Fault{}
	}})
	s, _, send := begin(t, t.Context(), store)
	var err error
	for i := 1; err == nil && i < 100; i++ {
		err = send(i, "x")
	}
	qt.Check(t, qt.ErrorIs(err, objstore.ErrDenied))
	_, err = s.Wait()
	qt.Check(t, qt.ErrorIs(err, objstore.ErrDenied))

	ctx, cancel := context.WithCancelCause(t.Context())
	s, _, send = begin(t, ctx, memstore.New(nil))
	ended := errors.New("ended")
	cancel(ended)
	qt.Check(t, qt.ErrorIs(send(1, "x"), ended))
	s.Stop()
}
