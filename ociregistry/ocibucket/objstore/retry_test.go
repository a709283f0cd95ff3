package objstore_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/countstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
)

var (
	throttled = memstore.Fault{Kind: objstore.ErrThrottled}
	conflict  = memstore.Fault{Kind: objstore.ErrConflict}
	temporary = memstore.Fault{Kind: objstore.ErrTemporary}
	lost      = memstore.Fault{Lost: true}
)

// script returns a store whose requests have the faults of a list, one after the other, and
// none when it is over.
func script(opts *objstore.RetryOptions, list ...memstore.Fault) (objstore.Store, *countstore.Store) {
	count := countstore.New(memstore.New(&memstore.Options{Fault: func(memstore.Request) (f memstore.Fault) {
		if len(list) > 0 {
			f, list = list[0], list[1:]
		}
		return f
	}}))
	return objstore.Retry(count, opts), count
}

// calls are all methods, and whether they change something.
var calls = map[string]struct {
	write bool
	do    func(context.Context, objstore.Store) error
}{
	"Get": {false, func(ctx context.Context, s objstore.Store) error {
		_, err := s.Get(ctx, "absent", objstore.Range{})
		return err
	}},
	"List": {false, func(ctx context.Context, s objstore.Store) error {
		_, err := s.List(ctx, objstore.ListOptions{})
		return err
	}},
	"ListParts": {false, func(ctx context.Context, s objstore.Store) error {
		_, err := s.ListParts(ctx, objstore.Multipart{Key: "a", ID: "x"}, 0)
		return err
	}},
	"ListMultiparts": {false, func(ctx context.Context, s objstore.Store) error {
		_, err := s.ListMultiparts(ctx, objstore.MultipartOptions{})
		return err
	}},
	"Put": {true, func(ctx context.Context, s objstore.Store) error {
		_, err := s.Put(ctx, "a", nil, objstore.Condition{})
		return err
	}},
	"Delete": {true, func(ctx context.Context, s objstore.Store) error {
		_, err := s.Delete(ctx, "a", objstore.Condition{})
		return err
	}},
	"CreateMultipart": {true, func(ctx context.Context, s objstore.Store) error {
		_, err := s.CreateMultipart(ctx, "a")
		return err
	}},
	"PutPart": {true, func(ctx context.Context, s objstore.Store) error {
		_, err := s.PutPart(ctx, objstore.Multipart{Key: "a", ID: "x"}, 1, []byte("x"))
		return err
	}},
	"AbortMultipart": {true, func(ctx context.Context, s objstore.Store) error {
		_, err := s.AbortMultipart(ctx, objstore.Multipart{Key: "a", ID: "x"})
		return err
	}},
}

// guarded are the writes that must not be made twice.
var guarded = map[string]func(context.Context, objstore.Store) error{
	"Put if absent": func(ctx context.Context, s objstore.Store) error {
		_, err := s.Put(ctx, "a", nil, objstore.Condition{IfAbsent: true})
		return err
	},
	"Put if match": func(ctx context.Context, s objstore.Store) error {
		_, err := s.Put(ctx, "a", nil, objstore.Condition{IfMatch: "x"})
		return err
	},
	"Delete if match": func(ctx context.Context, s objstore.Store) error {
		_, err := s.Delete(ctx, "a", objstore.Condition{IfMatch: "x"})
		return err
	},
	"CompleteMultipart": func(ctx context.Context, s objstore.Store) error {
		parts := []objstore.Part{{Number: 1, ETag: "x", Size: 1}}
		_, err := s.CompleteMultipart(ctx, objstore.Multipart{Key: "a", ID: "x"}, parts, objstore.Condition{})
		return err
	},
}

func TestRetry_RepeatsWhatWasNotDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, call := range calls {
			s, count := script(nil, throttled, throttled)
			call.do(t.Context(), s)
			qt.Check(t, qt.Equals(count.Counts().Total(), 3), qt.Commentf(name))
		}
		for name, call := range guarded {
			s, count := script(nil, throttled, conflict)
			call(t.Context(), s)
			qt.Check(t, qt.Equals(count.Counts().Total(), 3), qt.Commentf(name))
		}
	})
}

func TestRetry_RepeatsReadsAndWhatMayBeDoneTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, call := range calls {
			fault := lost
			if !call.write {
				fault = temporary
			}
			s, count := script(nil, fault, fault)
			call.do(t.Context(), s)
			qt.Check(t, qt.Equals(count.Counts().Total(), 3), qt.Commentf(name))
		}
	})
}

func TestRetry_NeverRepeatsUnclearWritesUnderConditions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, call := range guarded {
			s, count := script(nil, throttled, lost)
			err := call(t.Context(), s)
			qt.Check(t, qt.ErrorIs(err, objstore.ErrUnclear), qt.Commentf(name))
			qt.Check(t, qt.Equals(count.Counts().Total(), 2), qt.Commentf(name))
		}
	})
}

func TestRetry_IsUnclearIfAnyAttemptWas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, count := script(&objstore.RetryOptions{Attempts: 2}, lost, throttled)
		_, err := s.Put(t.Context(), "a", nil, objstore.Condition{})
		qt.Check(t, qt.ErrorIs(err, objstore.ErrUnclear))
		qt.Check(t, qt.ErrorIs(err, objstore.ErrThrottled))
		qt.Check(t, qt.IsTrue(objstore.Unclear(err)))
		qt.Check(t, qt.Equals(count.Counts().Total(), 2))
	})
}

func TestRetry_AbortThatFindsNothingAfterAnUnclearAnswerSucceeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := script(nil, memstore.Fault{}, lost)
		up, err := s.CreateMultipart(t.Context(), "a")
		qt.Assert(t, qt.IsNil(err))
		date, err := s.AbortMultipart(t.Context(), up)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.IsFalse(date.IsZero()))
		_, err = s.AbortMultipart(t.Context(), up)
		qt.Check(t, qt.ErrorIs(err, objstore.ErrNotFound))
	})
}

func TestRetry_GivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		always := make([]memstore.Fault, 100)
		for i := range always {
			always[i] = throttled
		}
		for attempts, want := range map[int]int{-1: 1, 0: objstore.DefaultAttempts, 1: 1, 3: 3} {
			s, count := script(&objstore.RetryOptions{Attempts: attempts}, always...)
			_, err := s.List(t.Context(), objstore.ListOptions{})
			qt.Check(t, qt.ErrorIs(err, objstore.ErrThrottled))
			qt.Check(t, qt.Equals(count.Counts().Total(), want))
		}
		// The end of the context ends the wait.
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		s, count := script(nil, always...)
		s.List(ctx, objstore.ListOptions{})
		qt.Check(t, qt.Equals(count.Counts().Total(), 1))
		// What is refused is not asked again.
		s, count = script(nil, memstore.Fault{Kind: objstore.ErrDenied})
		_, err := s.List(t.Context(), objstore.ListOptions{})
		qt.Check(t, qt.ErrorIs(err, objstore.ErrDenied))
		qt.Check(t, qt.Equals(count.Counts().Total(), 1))
	})
}

func TestRetry_EndsAttemptsThatTakeTooLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := memstore.Fault{Delay: time.Hour}
		opts := &objstore.RetryOptions{Timeout: time.Second}
		s, count := script(opts, slow, slow)
		start := time.Now()
		_, err := s.List(t.Context(), objstore.ListOptions{})
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(count.Counts().Total(), 3))
		qt.Check(t, qt.IsTrue(time.Since(start) < 3*time.Second))
		s, _ = script(opts, slow)
		_, err = s.Get(t.Context(), "absent", objstore.Range{})
		qt.Check(t, qt.ErrorIs(err, objstore.ErrNotFound))
		s, _ = script(opts, slow)
		_, err = s.Put(t.Context(), "a", nil, objstore.Condition{IfAbsent: true})
		qt.Check(t, qt.ErrorIs(err, objstore.ErrUnclear))
	})
}

func TestRetry_BodyGoesOnWhereItBrokeOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		want := strings.Repeat("0123456789", 1000)
		breaks := func(after int64) memstore.Fault { return memstore.Fault{Break: true, BreakAfter: after} }
		s, count := script(nil, memstore.Fault{}, breaks(10), breaks(0), breaks(5000))
		_, err := s.Put(t.Context(), "a", []byte(want), objstore.Condition{})
		qt.Assert(t, qt.IsNil(err))
		o, err := s.Get(t.Context(), "a", objstore.Range{Offset: 3, Length: 9000})
		qt.Assert(t, qt.IsNil(err))
		defer o.Body.Close()
		got, err := io.ReadAll(o.Body)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(string(got) == want[3:9003]))
		qt.Check(t, qt.Equals(count.Counts()["Get"], 4))
	})
}

func TestRetry_BodyDoesNotGoOnInAnotherObject(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := script(nil, memstore.Fault{}, memstore.Fault{Break: true, BreakAfter: 10})
		s.Put(t.Context(), "a", make([]byte, 100), objstore.Condition{})
		o, err := s.Get(t.Context(), "a", objstore.Range{})
		qt.Assert(t, qt.IsNil(err))
		defer o.Body.Close()
		s.Put(t.Context(), "a", []byte(strings.Repeat("x", 100)), objstore.Condition{})
		got, err := io.ReadAll(o.Body)
		qt.Check(t, qt.ErrorIs(err, objstore.ErrTemporary))
		qt.Check(t, qt.HasLen(got, 10))
	})
}
