package parallel_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/parallel"
)

func TestDo_CallsForEachNumberAsManyAtATimeAsAllowed(t *testing.T) {
	t.Parallel()
	for _, concurrency := range []int{1, 3, 100} {
		synctest.Test(t, func(t *testing.T) {
			var called [10]atomic.Int32
			var running atomic.Int32
			gate := make(chan struct{})
			done := make(chan error)
			go func() {
				done <- parallel.Do(concurrency, len(called), func(i int) error {
					called[i].Add(1)
					running.Add(1)
					defer running.Add(-1)
					<-gate
					return nil
				})
			}()
			synctest.Wait()
			qt.Check(t, qt.Equals(int(running.Load()), min(concurrency, len(called))))
			close(gate)
			qt.Check(t, qt.IsNil(<-done))
			for i := range called {
				qt.Check(t, qt.Equals(called[i].Load(), 1), qt.Commentf("%d", i))
			}
		})
	}
}

func TestDo_StopsAfterAnError(t *testing.T) {
	t.Parallel()
	failure := errors.New("failure")
	calls := 0
	err := parallel.Do(1, 10, func(i int) error {
		calls++
		if i == 3 {
			return failure
		}
		return nil
	})
	qt.Check(t, qt.ErrorIs(err, failure))
	qt.Check(t, qt.Equals(calls, 4))
	qt.Check(t, qt.IsNil(parallel.Do(5, 0, func(int) error { return failure })))
}

func TestEach_EndsTheOthersAtTheFirstError(t *testing.T) {
	t.Parallel()
	failure := errors.New("failure")
	var calls atomic.Int32
	err := parallel.Each(t.Context(), 3, []string{"waits", "waits", "fails", "left out"}, func(ctx context.Context, x string) error {
		calls.Add(1)
		if x == "fails" {
			return failure
		}
		<-ctx.Done()
		return ctx.Err()
	})
	qt.Check(t, qt.Equals(err, failure))
	qt.Check(t, qt.Equals(calls.Load(), 3))
}

func TestEach_ReturnsTheErrorOfItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never := func(context.Context, int) error {
		t.Error("called after the context has ended")
		return nil
	}
	qt.Check(t, qt.ErrorIs(parallel.Each(ctx, 2, []int{1, 2, 3}, never), context.Canceled))
	qt.Check(t, qt.IsNil(parallel.Each(t.Context(), 2, nil, never)))
}

// A caller that recovers, as servers do, need not know that there were other goroutines.
func TestDo_PanicsInTheGoroutineOfItsCaller(t *testing.T) {
	t.Parallel()
	var called atomic.Int32
	panicking := func(i int) error {
		called.Add(1)
		if i == 3 {
			panic("three")
		}
		return nil
	}
	qt.Check(t, qt.PanicMatches(func() { parallel.Do(2, 10, panicking) }, "three"))
	qt.Check(t, qt.Equals(called.Load(), 10))
	qt.Check(t, qt.PanicMatches(func() {
		parallel.Each(t.Context(), 2, []int{1, 2, 3, 4}, func(_ context.Context, i int) error { return panicking(i) })
	}, "three"))
}
