package ctxio_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/ctxio"
)

func TestReadFull(t *testing.T) {
	t.Parallel()
	failed := errors.New("failed")
	for _, test := range []struct {
		name string
		r    io.Reader
		want string
		err  error
	}{
		{"full", iotest.OneByteReader(strings.NewReader("abcdef")), "abcd", nil},
		{"early end", strings.NewReader("ab"), "ab", io.EOF},
		{"no bytes", strings.NewReader(""), "", io.EOF},
		{"failure", io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(failed)), "ab", failed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := make([]byte, 4)
			n, err := ctxio.ReadFull(t.Context(), test.r, p)
			qt.Check(t, qt.Equals(string(p[:n]), test.want))
			qt.Check(t, qt.Equals(err, test.err))
		})
	}
}

func TestReadFull_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	reads := 0
	r := readerFunc(func(p []byte) (int, error) {
		reads++
		cancel()
		return 1, nil
	})
	for _, want := range []int{1, 0} { // bytes: that it has ended is noticed after a read, and before the first
		n, err := ctxio.ReadFull(ctx, r, make([]byte, 4))
		qt.Check(t, qt.Equals(n, want))
		qt.Check(t, qt.ErrorIs(err, context.Canceled))
		qt.Check(t, qt.Equals(reads, 1))
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
