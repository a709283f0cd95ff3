package ocicopy

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
)

func TestMirror_RunsAPassAtOnceThenAtTheInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src, dst := newSpy(ocimem.New()), ocimem.New()
		mustPush(t, src, "a", image(1), "v1")
		var passes []time.Duration
		start := time.Now()
		src.before = func(_ context.Context, method, _, _ string) error {
			if method == "Tags" {
				passes = append(passes, time.Since(start))
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute+time.Second)
		defer cancel()
		m := mustMirror(t, dst, &MirrorOptions{Interval: time.Minute}, hub(src, Rule{Repositories: "a"}))
		qt.Check(t, qt.ErrorIs(m.Run(ctx), context.DeadlineExceeded))
		qt.Check(t, qt.DeepEquals(passes, []time.Duration{0, time.Minute, 2 * time.Minute, 3 * time.Minute}))
		qt.Check(t, qt.Equals(time.Since(start), 3*time.Minute+time.Second))
	})
}

func TestMirror_RunsOnePassAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src, dst := newSpy(ocimem.New()), ocimem.New()
		mustPush(t, src, "a", image(1), "v1")
		src.before = func(ctx context.Context, method, _, _ string) error {
			if method != "Tags" {
				return nil
			}
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		m := mustMirror(t, dst, nil, hub(src, Rule{Repositories: "a"}))
		src.take()
		var wait sync.WaitGroup
		for range 10 {
			wait.Go(func() { qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 1})) })
		}
		wait.Wait()
		qt.Check(t, qt.Equals(src.take(), "GetBlob 3, GetManifest 1, Referrers 1, ResolveTag 1, Tags 1"))

		// A caller that waits can leave. If the caller that runs the pass leaves, one
		// that waits runs another.
		ctx, cancel := context.WithCancel(t.Context())
		for range 2 {
			wait.Go(func() {
				_, err := m.Pass(ctx)
				qt.Check(t, qt.ErrorIs(err, context.Canceled))
			})
		}
		synctest.Wait()
		wait.Go(func() { qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Same: 1})) })
		synctest.Wait()
		cancel()
		wait.Wait()
		qt.Check(t, qt.Equals(src.take(), "Referrers 1, ResolveTag 1, Tags 2"))
	})
}

// The bubble of synctest ends only when all goroutines in it have ended.
func TestMirror_StopsAPassPromptlyWhenCancelled(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"Repositories", "Tags", "ResolveTag", "GetManifest", "GetBlob", "Referrers", "backoff", "interval"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				src, dst := newSpy(ocimem.New()), ocimem.New()
				for _, repo := range []string{"a", "b", "c", "d", "e", "f"} {
					mustPush(t, src, repo, image(1), "v1", "v2", "v3")
				}
				src.before = func(ctx context.Context, method, _, _ string) error {
					switch {
					case at == "backoff":
						return errors.New("broken")
					case method == at:
						<-ctx.Done()
						return ctx.Err()
					}
					return nil
				}
				var failed []Event
				opts := &MirrorOptions{Report: func(e Event) {
					if e.Outcome == Failed {
						failed = append(failed, e)
					}
				}}
				m := mustMirror(t, dst, opts, hub(src, Rule{Repositories: "**"}))
				ctx, cancel := context.WithCancel(t.Context())
				start := time.Now()
				result := make(chan error)
				go func() { result <- m.Run(ctx) }()
				synctest.Wait() // everything is stuck
				cancel()
				qt.Check(t, qt.ErrorIs(<-result, context.Canceled))
				qt.Check(t, qt.Equals(time.Since(start), 0))
				qt.Check(t, qt.HasLen(failed, 0))
			})
		})
	}
}
