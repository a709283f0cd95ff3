package ociunify

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
)

// endedAfter returns how long it takes until a task ends, and the cause.
func endedAfter(t *task) (time.Duration, error) {
	start := time.Now()
	<-t.Done()
	return time.Since(start), context.Cause(t)
}

func TestWatch_EndsWhatWaitsForTooLong(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		do   func(*task)
		want time.Duration
	}{
		{"one wait", func(t *task) { t.wait(time.Minute) }, time.Minute},
		{"a wait after one that was answered", func(t *task) {
			t.waited(t.wait(time.Second))
			time.Sleep(time.Hour)
			t.wait(time.Minute)
		}, time.Minute},
		{"a longer wait within one", func(t *task) {
			t.wait(time.Minute)
			before := t.wait(time.Hour)
			time.Sleep(time.Second)
			t.waited(before)
		}, 59 * time.Second},
		{"a shorter wait within one", func(t *task) {
			t.wait(time.Hour)
			t.wait(time.Second)
		}, time.Second},
		{"a shorter wait within one that was answered", func(t *task) {
			t.wait(time.Hour)
			t.waited(t.wait(time.Second))
		}, time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var w watch
				// Others do not matter, whether they wait longer or shorter.
				for _, limit := range []time.Duration{time.Millisecond, time.Minute - 1, 24 * time.Hour} {
					other := new(task)
					w.detach(t.Context(), other)
					other.wait(limit)
				}
				of := new(task)
				w.start(t.Context(), of)
				test.do(of)
				after, err := endedAfter(of)
				qt.Check(t, qt.Equals(after, test.want))
				qt.Check(t, qt.Equals(err, error(errStalled)))
				of.end()
			})
		})
	}
}

// The watch keeps no task that neither waits nor is detached, even if nobody ends it. A
// detached task ends with the watch.
func TestWatch_HoldsOnlyTasksThatWaitOrAreDetached(t *testing.T) {
	t.Parallel()
	var w watch
	own, detached, late := new(task), new(task), new(task)
	w.start(t.Context(), own)
	own.waited(own.wait(time.Hour))
	qt.Check(t, qt.IsNil(w.first))
	own.wait(time.Hour)

	ctx, cancel := context.WithCancel(t.Context())
	w.detach(ctx, detached)
	cancel()
	qt.Check(t, qt.IsNil(detached.Err()))
	w.close()
	qt.Check(t, qt.IsNil(own.Err()))
	qt.Check(t, qt.IsNotNil(detached.Err()))
	w.detach(t.Context(), late)
	qt.Check(t, qt.IsNotNil(late.Err()))
	for _, task := range []*task{own, detached, late} {
		task.end()
		task.end()
	}
	qt.Check(t, qt.IsNil(w.first))
}

// Stopping a task closes what it reads, so that a Read that does not notice the end of the
// context ends too. If the task has ended before, that is closed at once.
func TestTask_ClosesWhatItReads(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(*watch, *task){
		"stopped":        func(_ *watch, t *task) { t.stop(nil) },
		"closed":         func(w *watch, _ *task) { w.close() },
		"stalled":        func(_ *watch, t *task) { t.wait(time.Minute) },
		"stopped before": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var w watch
				of := new(task)
				w.detach(t.Context(), of)
				if stop == nil {
					of.stop(nil)
				}
				rd, wr := io.Pipe()
				defer wr.Close()
				of.reads(rd)
				if stop != nil {
					stop(&w, of)
				}
				_, err := rd.Read(make([]byte, 1))
				qt.Check(t, qt.ErrorIs(err, io.ErrClosedPipe))
				of.end()
			})
		})
	}
}
