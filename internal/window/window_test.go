package window_test

import (
	"io"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/window"
	"github.com/seed-40b21970/oci/ociregistry"
)

func TestEnd_IsWithinTheBlob(t *testing.T) {
	t.Parallel()
	tests := []struct {
		offset0, offset1 int64
		want             int64 // -1 if there is no such range
	}{
		{0, -1, 10},
		{0, 10, 10},
		{3, 7, 7},
		{3, 3, 3},
		{3, 11, 10},
		{10, -1, 10},
		{10, 20, 10},
		{0, 0, 0},
		{-1, -1, -1},
		{11, -1, -1},
		{11, 20, -1},
		{7, 3, -1},
	}
	for _, test := range tests {
		comment := qt.Commentf("from %d to %d", test.offset0, test.offset1)
		end, err := window.End(10, test.offset0, test.offset1)
		if test.want < 0 {
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid), comment)
			continue
		}
		qt.Check(t, qt.IsNil(err), comment)
		qt.Check(t, qt.Equals(end, test.want), comment)
	}
}

func TestSeek_LeadsAnywhereButBeforeTheBeginning(t *testing.T) {
	t.Parallel()
	tests := []struct {
		offset int64
		whence int
		want   int64 // -1 if that fails
	}{
		{0, io.SeekStart, 0},
		{12, io.SeekStart, 12},
		{-1, io.SeekStart, -1},
		{0, io.SeekCurrent, 4},
		{-4, io.SeekCurrent, 0},
		{-5, io.SeekCurrent, -1},
		{0, io.SeekEnd, 10},
		{-10, io.SeekEnd, 0},
		{5, io.SeekEnd, 15},
		{-11, io.SeekEnd, -1},
		{0, 3, -1},
	}
	for _, test := range tests {
		comment := qt.Commentf("Seek(%d, %d)", test.offset, test.whence)
		got, err := window.Seek(4, 10, test.offset, test.whence)
		qt.Check(t, qt.Equals(err == nil, test.want >= 0), comment)
		qt.Check(t, qt.Equals(got, max(test.want, 0)), comment)
	}
}
