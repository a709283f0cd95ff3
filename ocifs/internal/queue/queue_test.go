package queue

import (
	"testing"

	"github.com/go-quicktest/qt"
)

func TestQueue_BatchesUpToTheLimits(t *testing.T) {
	t.Parallel()
	const big = MaxBytes/2 + 1
	for _, test := range []struct {
		name    string
		waiting []*Call
		want    []int // the lengths of the batches
	}{
		{"together", []*Call{{}, {Size: 10}, {}}, []int{3}},
		{"exclusive", []*Call{{}, {Exclusive: true}, {}, {}}, []int{1, 1, 2}},
		{"bytes", []*Call{{Size: big}, {Size: 10}, {Size: big}, {Size: big}}, []int{2, 1, 1}},
		{"too many bytes", []*Call{{Size: 4 * big}, {Size: 10}, {Size: 4 * big}}, []int{1, 1, 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			q := Queue[*Call]{waiting: test.waiting}
			var got []int
			for len(q.waiting) > 0 {
				got = append(got, len(q.next()))
			}
			qt.Check(t, qt.DeepEquals(got, test.want))
		})
	}
}
