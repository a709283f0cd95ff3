package contentrange

import (
	"testing"

	"github.com/go-quicktest/qt"
)

func TestParse_RefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	three := int64(3)
	text := func(s string) *string { return &s }
	for _, test := range []struct {
		length       *int64
		contentRange *string
		want         [3]int64 // offset, length, size
	}{
		{&three, nil, [3]int64{0, 3, 3}},
		{&three, text("bytes 2-4/9"), [3]int64{2, 3, 9}},
		{&three, text("bytes 2-5/9"), [3]int64{2, 3, -1}},
		{&three, text("bytes */9"), [3]int64{0, 3, -1}},
		{nil, nil, [3]int64{0, 0, -1}},
		{nil, text("bytes 2-4/9"), [3]int64{0, 0, -1}},
	} {
		offset, length, size := Parse(test.length, test.contentRange)
		qt.Check(t, qt.Equals([3]int64{offset, length, size}, test.want))
	}
}
