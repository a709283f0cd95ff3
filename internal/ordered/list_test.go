package ordered_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/ordered"
)

// list calls List for the first n numbers.
func list(ctx context.Context, n int, after string, use func(batch []string) (bool, error)) error {
	var set ordered.Set
	for i := range n {
		set.Add(fmt.Sprintf("%04d", i))
	}
	return ordered.List(ctx, after, func(batch []string, after string) ([]string, error) {
		return set.AppendAfter(batch, after, ordered.BatchSize), nil
	}, use)
}

func TestList_HasEachStringOnceInOrder(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, ordered.BatchSize - 1, ordered.BatchSize, ordered.BatchSize + 1, 2 * ordered.BatchSize, 1000} {
		var got []string
		err := list(t.Context(), n, "0006", func(batch []string) (bool, error) {
			got = append(got, batch...)
			return true, nil
		})
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(len(got), max(n-7, 0)))
		for i, s := range got {
			qt.Check(t, qt.Equals(s, fmt.Sprintf("%04d", i+7)))
		}
	}
}

func TestList_EndsWhenItsCallerOrContextDoes(t *testing.T) {
	t.Parallel()
	seen := 0
	count := func(more bool, err error) func([]string) (bool, error) {
		seen = 0
		return func([]string) (bool, error) {
			seen++
			return more || seen < 3, err
		}
	}
	qt.Check(t, qt.IsNil(list(t.Context(), 1000, "", count(false, nil))))
	qt.Check(t, qt.Equals(seen, 3))

	failed := errors.New("failed")
	qt.Check(t, qt.ErrorIs(list(t.Context(), 1000, "", count(true, failed)), failed))
	qt.Check(t, qt.Equals(seen, 1))

	err := ordered.List(t.Context(), "", func([]string, string) ([]string, error) { return nil, failed }, count(true, nil))
	qt.Check(t, qt.ErrorIs(err, failed))

	ctx, cancel := context.WithCancel(t.Context())
	err = list(ctx, 1000, "", func([]string) (bool, error) {
		cancel()
		return true, nil
	})
	qt.Check(t, qt.ErrorIs(err, context.Canceled))
}
