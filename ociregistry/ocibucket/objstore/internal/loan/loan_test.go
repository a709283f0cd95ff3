package loan

import (
	"io"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestReader_ReadsUntilReturn(t *testing.T) {
	t.Parallel()
	l := New([]byte("content"))
	got, err := io.ReadAll(l)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(got), "content"))
	_, err = l.Seek(3, io.SeekStart)
	qt.Assert(t, qt.IsNil(err))
	l.Return()
	n, err := l.Read(make([]byte, 10))
	qt.Check(t, qt.Equals(n, 0))
	qt.Check(t, qt.ErrorIs(err, errReturned))
	_, err = l.Seek(0, io.SeekStart)
	qt.Check(t, qt.ErrorIs(err, errReturned))
}
