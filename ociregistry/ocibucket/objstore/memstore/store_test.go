package memstore_test

import (
	"context"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/storetest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) objstore.Store {
		server := httptest.NewUnstartedServer(nil)
		s := memstore.New(&memstore.Options{URL: "http://" + server.Listener.Addr().String(), PageSize: 7, MinPartSize: 100})
		server.Config.Handler = s
		server.Start()
		t.Cleanup(server.Close)
		return s
	})
}

func TestContract_OfLesserStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) objstore.Store {
		return memstore.New(&memstore.Options{NoDeleteIfMatch: true, DatedByCompletion: true})
	})
}

func TestContract_OfRetriesOverThrottlingStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) objstore.Store {
		rates := memstore.Rates{Throttled: 0.1, Temporary: 0.1, Conflict: 0.05, Break: 0.1}
		s := memstore.New(&memstore.Options{Fault: memstore.Random(1, rates)})
		return objstore.Retry(s, &objstore.RetryOptions{Attempts: 30, MaxDelay: time.Millisecond})
	})
}

// faults gives the first requests the faults of a list.
func faults(list ...memstore.Fault) func(memstore.Request) memstore.Fault {
	return func(memstore.Request) memstore.Fault {
		if len(list) == 0 {
			return memstore.Fault{}
		}
		f := list[0]
		list = list[1:]
		return f
	}
}

func put(s objstore.Store, body string, cond objstore.Condition) error {
	_, err := s.Put(context.Background(), "a", []byte(body), cond)
	return err
}

func get(t *testing.T, s objstore.Store) string {
	t.Helper()
	body, _, err := objstore.ReadAll(t.Context(), s, "a", 1<<20)
	qt.Assert(t, qt.IsNil(err))
	return string(body)
}

func TestFault_LostWriteIsCarriedOut(t *testing.T) {
	t.Parallel()
	s := memstore.New(&memstore.Options{Fault: faults(memstore.Fault{Lost: true})})
	qt.Check(t, qt.IsTrue(objstore.Unclear(put(s, "x", objstore.Condition{IfAbsent: true}))))
	qt.Check(t, qt.Equals(get(t, s), "x"))
	qt.Check(t, qt.ErrorIs(put(s, "x", objstore.Condition{IfAbsent: true}), objstore.ErrPrecondition))
}

func TestFault_LateWriteLandsWithItsConditionAndTheBytesItHad(t *testing.T) {
	t.Parallel()
	s := memstore.New(&memstore.Options{Fault: func(memstore.Request) memstore.Fault { return memstore.Fault{Late: true} }})
	body := []byte("late")
	_, err := s.Put(t.Context(), "a", body, objstore.Condition{IfAbsent: true})
	qt.Assert(t, qt.ErrorIs(err, objstore.ErrUnclear))
	copy(body, "XXXX")
	s.Land(func(memstore.Request) bool { return false })
	qt.Check(t, qt.HasLen(s.Keys(), 0))
	s.Land(func(memstore.Request) bool { return true })
	qt.Check(t, qt.Equals(get(t, s), "late"))
	qt.Check(t, qt.ErrorIs(put(s, "again", objstore.Condition{IfAbsent: true}), objstore.ErrUnclear))
	s.Land(func(memstore.Request) bool { return true })
	qt.Check(t, qt.Equals(get(t, s), "late"))
}

func TestFault_TwiceTellsTheWinnerThatItLost(t *testing.T) {
	t.Parallel()
	s := memstore.New(&memstore.Options{Fault: faults(memstore.Fault{Twice: true})})
	qt.Check(t, qt.ErrorIs(put(s, "x", objstore.Condition{IfAbsent: true}), objstore.ErrPrecondition))
	qt.Check(t, qt.Equals(get(t, s), "x"))
}

func TestFault_AgainIsCarriedOutOnceMore(t *testing.T) {
	t.Parallel()
	s := memstore.New(&memstore.Options{Fault: faults(memstore.Fault{Again: true})})
	qt.Assert(t, qt.IsNil(put(s, "old", objstore.Condition{})))
	qt.Assert(t, qt.IsNil(put(s, "new", objstore.Condition{})))
	qt.Check(t, qt.Equals(get(t, s), "new"))
	s.Land(func(memstore.Request) bool { return true })
	qt.Check(t, qt.Equals(get(t, s), "old"))
	s.Land(func(memstore.Request) bool { return true })
	qt.Check(t, qt.Equals(get(t, s), "old"))
}

func TestFault_KindIsAnsweredInstead(t *testing.T) {
	t.Parallel()
	for _, kind := range []error{objstore.ErrThrottled, objstore.ErrConflict, objstore.ErrDenied} {
		s := memstore.New(&memstore.Options{Fault: faults(memstore.Fault{Kind: kind})})
		err := put(s, "x", objstore.Condition{})
		qt.Check(t, qt.ErrorIs(err, kind))
		qt.Check(t, qt.IsFalse(objstore.Unclear(err)))
		qt.Check(t, qt.IsFalse(objstore.Date(err).IsZero()))
		qt.Check(t, qt.HasLen(s.Keys(), 0))
	}
}

func TestFault_DelayEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(&memstore.Options{Fault: func(memstore.Request) memstore.Fault { return memstore.Fault{Delay: time.Hour} }})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err := s.Put(ctx, "a", nil, objstore.Condition{})
		qt.Check(t, qt.ErrorIs(err, context.DeadlineExceeded))
		qt.Check(t, qt.ErrorIs(err, objstore.ErrUnclear))
		qt.Check(t, qt.Equals(time.Since(start), time.Minute))
		_, err = s.Put(t.Context(), "a", nil, objstore.Condition{})
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(time.Since(start), time.Hour+time.Minute))
	})
}

func TestOptions_ClockDatesObjectsAndAnswers(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 0, 0, 0, 5e8, time.UTC)
	s := memstore.New(&memstore.Options{Now: func() time.Time { return now }})
	up, err := s.CreateMultipart(t.Context(), "parts")
	qt.Assert(t, qt.IsNil(err))
	part, err := s.PutPart(t.Context(), up, 1, []byte("x"))
	qt.Assert(t, qt.IsNil(err))
	created := now.Truncate(time.Second)
	now = now.Add(time.Hour)
	info, err := s.CompleteMultipart(t.Context(), up, []objstore.Part{part}, objstore.Condition{})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(info.LastModified, created))
	qt.Check(t, qt.Equals(info.Date, created.Add(time.Hour)))
	_, err = s.Get(t.Context(), "absent", objstore.Range{})
	qt.Check(t, qt.Equals(objstore.Date(err), created.Add(time.Hour)))
}

func TestRandom_IsTheSameForASeed(t *testing.T) {
	t.Parallel()
	rates := memstore.Rates{Throttled: 0.3, Lost: 0.3, Late: 0.3, MaxDelay: time.Second}
	one, two := memstore.Random(7, rates), memstore.Random(7, rates)
	some := false
	for range 100 {
		f := one(memstore.Request{Write: true})
		qt.Assert(t, qt.Equals(f, two(memstore.Request{Write: true})))
		some = some || f.Lost
	}
	qt.Check(t, qt.IsTrue(some))
}
