package flight

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
)

func TestGroup_SharesOneCallByKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const callers = 10
		var g Group[string, string]
		failed := errors.New("failed")
		seen := make(map[string]int)
		events := make(chan string)
		for range callers {
			for _, key := range []string{"a", "b"} {
				go func() {
					v, err := g.Do(t.Context(), key, func(context.Context) (string, error) {
						time.Sleep(time.Second)
						events <- "call " + key
						return "value of " + key, failed
					})
					qt.Check(t, qt.Equals(err, failed))
					events <- v
				}()
			}
		}
		for range 2 + 2*callers {
			seen[<-events]++
		}
		qt.Check(t, qt.DeepEquals(seen, map[string]int{"call a": 1, "call b": 1, "value of a": callers, "value of b": callers}))
		qt.Check(t, qt.HasLen(g.calls, 0))
	})
}

func TestGroup_CallsAnewAfterResult(t *testing.T) {
	t.Parallel()
	var g Group[int, int]
	for want := range 3 {
		got, err := g.Do(t.Context(), 1, func(context.Context) (int, error) { return want, nil })
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(got, want))
	}
}

// One caller after the other leaves, with the cause of its own context. The call's
// context ends with the last of them.
func TestGroup_AbandonsCallWhenTheLastCallerLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g Group[int, int]
		left := errors.New("left")
		ended := false
		errs := make([]error, 5)
		var cancels []context.CancelCauseFunc
		for i := range errs {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancels = append(cancels, cancel)
			go func() {
				_, errs[i] = g.Do(ctx, 1, func(ctx context.Context) (int, error) {
					<-ctx.Done()
					ended = true
					return 0, nil
				})
			}()
			synctest.Wait()
		}
		for i, cancel := range cancels {
			qt.Check(t, qt.IsNil(errs[i]))
			qt.Check(t, qt.IsFalse(ended))
			cancel(left)
			synctest.Wait()
			qt.Check(t, qt.Equals(errs[i], left))
		}
		qt.Check(t, qt.IsTrue(ended))
	})
}

// leaves calls f with a context that ends after a second.
func leaves(t *testing.T, f func(context.Context)) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	f(ctx)
}

func TestGroup_DoesNotJoinAbandonedCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g Group[int, string]
		leaves(t, func(ctx context.Context) {
			_, err := g.Do(ctx, 1, func(ctx context.Context) (string, error) {
				<-ctx.Done()
				time.Sleep(time.Hour) // slow to end
				return "first", nil
			})
			qt.Check(t, qt.ErrorIs(err, context.DeadlineExceeded))
		})
		v, err := g.Do(t.Context(), 1, func(context.Context) (string, error) {
			time.Sleep(2 * time.Hour) // the first call ends meanwhile, and does not remove this one
			return "second", nil
		})
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(v, "second"))
	})
}

func TestGroup_FinishesCallThatAllCallersLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, string]{Finish: true}
		leaves(t, func(ctx context.Context) {
			_, err := g.Do(ctx, 1, func(ctx context.Context) (string, error) {
				time.Sleep(time.Hour)
				return "first", ctx.Err()
			})
			qt.Check(t, qt.ErrorIs(err, context.DeadlineExceeded))
		})
		v, err := g.Do(t.Context(), 1, func(context.Context) (string, error) { return "second", nil })
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(v, "first"))
	})
}

func TestGroup_StartsNothingForEndedContext(t *testing.T) {
	t.Parallel()
	var g Group[int, int]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := g.Do(ctx, 1, func(context.Context) (int, error) { panic("not reached") })
	qt.Check(t, qt.Equals(err, context.Canceled))
}

func TestGroup_ReturnsErrorOfStart(t *testing.T) {
	t.Parallel()
	var g Group[int, int]
	failed := errors.New("failed")
	_, err := g.Join(t.Context(), 1, func() (Call[int], error) { return nil, failed })
	qt.Check(t, qt.Equals(err, failed))
	v, err := g.Do(t.Context(), 1, func(context.Context) (int, error) { return 2, nil })
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(v, 2))
}

func TestGroup_PassesValuesOfFirstCaller(t *testing.T) {
	t.Parallel()
	type key struct{}
	var g Group[int, any]
	v, err := g.Do(context.WithValue(t.Context(), key{}, "value"), 1, func(ctx context.Context) (any, error) {
		return ctx.Value(key{}), nil
	})
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(v, any("value")))
}
