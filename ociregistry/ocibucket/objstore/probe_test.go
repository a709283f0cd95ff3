package objstore_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
)

func TestProbe_FindsStoresThatDoNotKeepConditions(t *testing.T) {
	t.Parallel()
	ignore := memstore.Fault{IgnoreCondition: true}
	tests := map[string]func(memstore.Request) memstore.Fault{
		"ignores if absent": func(r memstore.Request) (f memstore.Fault) {
			if r.Op == "Put" && r.Condition.IfAbsent {
				f = ignore
			}
			return f
		},
		"ignores if match": func(r memstore.Request) (f memstore.Fault) {
			if r.Op == "Put" && r.Condition.IfMatch != "" {
				f = ignore
			}
			return f
		},
		"ignores conditions of deletes": func(r memstore.Request) (f memstore.Fault) {
			if r.Op == "Delete" {
				f = ignore
			}
			return f
		},
		"ignores conditions of complete": func(r memstore.Request) (f memstore.Fault) {
			if r.Op == "CompleteMultipart" {
				f = ignore
			}
			return f
		},
		"checks if absent, then writes": func(r memstore.Request) (f memstore.Fault) {
			if r.Condition.IfAbsent {
				f.NotAtomic = time.Millisecond
			}
			return f
		},
		"checks if match, then writes": func(r memstore.Request) (f memstore.Fault) {
			if r.Condition.IfMatch != "" {
				f.NotAtomic = time.Millisecond
			}
			return f
		},
	}
	for name, fault := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := memstore.New(&memstore.Options{Fault: fault})
				err := objstore.Probe(t.Context(), s, "p/")
				qt.Check(t, qt.ErrorIs(err, objstore.ErrConditions))
				qt.Check(t, qt.HasLen(s.Keys(), 0))
			})
		})
	}
}

func TestProbe_AcceptsGoodStoresInBadWeather(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			rates := memstore.Rates{Throttled: 0.05, Conflict: 0.05, Temporary: 0.05, Lost: 0.02, MaxDelay: time.Second}
			s := memstore.New(&memstore.Options{Fault: memstore.Random(seed, rates), NoDeleteIfMatch: seed%2 == 0})
			err := objstore.Probe(t.Context(), s, "p/")
			// A lost answer may leave a probe without a verdict, but not with a false one.
			qt.Check(t, qt.Not(qt.ErrorIs(err, objstore.ErrConditions)), qt.Commentf("seed %d", seed))
		})
	}
}

func TestProbe_ReturnsWhatTheStoreRefuses(t *testing.T) {
	t.Parallel()
	s := memstore.New(&memstore.Options{Fault: func(memstore.Request) memstore.Fault {
		return memstore.Fault{Kind: objstore.ErrDenied}
	}})
	err := objstore.Probe(t.Context(), s, "p/")
	qt.Check(t, qt.ErrorIs(err, objstore.ErrDenied))
	qt.Check(t, qt.Not(qt.ErrorIs(err, objstore.ErrConditions)))
}

// TestProbe_TakesTheTimeOfFewRequests has a store that takes a second for each.
func TestProbe_TakesTheTimeOfFewRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(&memstore.Options{Fault: func(memstore.Request) memstore.Fault {
			return memstore.Fault{Delay: time.Second}
		}})
		began := time.Now()
		qt.Assert(t, qt.IsNil(objstore.Probe(t.Context(), s, "p/")))
		qt.Check(t, qt.IsTrue(time.Since(began) <= 25*time.Second), qt.Commentf("%v", time.Since(began)))
		qt.Check(t, qt.HasLen(s.Keys(), 0))
	})
}
