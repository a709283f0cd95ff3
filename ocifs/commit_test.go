package ocifs

import (
	"testing"

	"github.com/go-quicktest/qt"
)

func TestTake(t *testing.T) {
	t.Parallel()
	const big = maxBatchBytes/2 + 1
	for _, test := range []struct {
		name    string
		waiting []*change
		want    []int // the lengths of the batches
	}{
		{"together", []*change{{}, {size: 10}, {}}, []int{3}},
		{"alone", []*change{{}, {alone: true}, {}, {}}, []int{1, 1, 2}},
		{"bytes", []*change{{size: big}, {size: 10}, {size: big}, {size: big}}, []int{2, 1, 1}},
		{"too many bytes", []*change{{size: 4 * big}, {size: 10}, {size: 4 * big}}, []int{1, 1, 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			q := queue{waiting: test.waiting}
			var got []int
			for len(q.waiting) > 0 {
				got = append(got, len(q.take()))
			}
			qt.Check(t, qt.DeepEquals(got, test.want))
		})
	}
}
