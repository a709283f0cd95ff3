package bucket_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
)

func TestIsVoid_IsWhatLandsLaterThanHalfOfTheGrace(t *testing.T) {
	t.Parallel()
	b := bucket.New(memstore.New(nil), "", time.Hour)
	t0 := time.Unix(1000, 0)
	tests := []struct {
		after       time.Duration
		void, maybe bool
	}{
		{0, false, false},
		{30*time.Minute - 3*time.Second, false, false},
		{30*time.Minute - time.Second, false, true},
		{30 * time.Minute, false, true},
		{30*time.Minute + time.Second, true, true},
	}
	for _, test := range tests {
		qt.Check(t, qt.Equals(b.IsVoid(t0, t0.Add(test.after)), test.void), qt.Commentf("%v", test.after))
		qt.Check(t, qt.Equals(b.MayBeVoid(t0, t0.Add(test.after)), test.maybe), qt.Commentf("%v", test.after))
		qt.Check(t, qt.IsFalse(b.IsVoid(time.Time{}, t0.Add(test.after))))
	}
}

// first returns a store whose first write meets a fault.
func first(f memstore.Fault) *bucket.Bucket {
	var done atomic.Bool
	s := memstore.New(&memstore.Options{Fault: func(req memstore.Request) memstore.Fault {
		if req.Write && !done.Swap(true) {
			return f
		}
		return memstore.Fault{}
	}})
	return bucket.New(s, "p/", time.Hour)
}

func TestWrite_KnowsItsOwn(t *testing.T) {
	t.Parallel()
	for _, f := range []memstore.Fault{{}, {Lost: true}, {Late: true}, {Twice: true}, {Again: true}} {
		b := first(f)
		o, err := b.Write(t.Context(), "k", []byte("mine"), objstore.Condition{IfAbsent: true})
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%+v", f))
		got, err := b.Read(t.Context(), "k", 10)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(got.Text, "mine"))
		qt.Check(t, qt.Equals(o.ETag, got.ETag))
		qt.Check(t, qt.Equals(b.Seen(), got.Date))
	}
}

func TestWrite_ReturnsWhatIsThereInItsPlace(t *testing.T) {
	t.Parallel()
	for _, f := range []memstore.Fault{{}, {Lost: true}} {
		b := first(memstore.Fault{})
		_, err := b.Put(t.Context(), "k", []byte("other"))
		qt.Assert(t, qt.IsNil(err))
		there, err := b.Write(t.Context(), "k", []byte("mine"), objstore.Condition{IfAbsent: true})
		qt.Check(t, qt.ErrorIs(err, bucket.ErrLost), qt.Commentf("%+v", f))
		qt.Check(t, qt.Equals(there.Text, "other"))
		_, err = b.Write(t.Context(), "absent", []byte("mine"), objstore.Condition{IfMatch: there.ETag})
		qt.Check(t, qt.ErrorIs(err, bucket.ErrLost))
	}
}

func TestList_HasKeysWithoutThePrefix(t *testing.T) {
	t.Parallel()
	b := bucket.New(memstore.New(&memstore.Options{PageSize: 2}), "p/", time.Hour)
	for _, key := range []string{"a/1", "a/2", "a/3", "b/1"} {
		_, err := b.Put(t.Context(), key, nil)
		qt.Assert(t, qt.IsNil(err))
	}
	var keys []string
	err := b.Each(t.Context(), "a/", func(o objstore.Info) error {
		keys = append(keys, o.Key)
		return nil
	})
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(keys, []string{"a/1", "a/2", "a/3"}))
	page, err := b.List(t.Context(), objstore.ListOptions{Prefix: "a/", StartAfter: "a/1"})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(page.Objects[0].Key, "a/2"))
	qt.Check(t, qt.IsNil(b.Remove(t.Context(), "a/1")))
	read, err := b.Read(t.Context(), "a/2", 10)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(b.RemoveIf(t.Context(), "a/2", read)))
	qt.Check(t, qt.IsNil(b.RemoveIf(t.Context(), "a/2", read)))
}
