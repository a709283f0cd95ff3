package storetest

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

func testGet(f *fixture) {
	f.absent(f.key("a"))
	put := f.put(f.key("a"), "first")
	o, body := f.read(f.key("a"), objstore.Range{})
	qt.Check(f, qt.Equals(body, "first"))
	qt.Check(f, qt.Equals(o.Key, f.key("a")))
	qt.Check(f, qt.Equals(o.ETag, put.ETag))
	qt.Check(f, qt.Equals(o.Size, 5))
	qt.Check(f, qt.Equals(put.Size, 5))
	again := f.put(f.key("a"), "second")
	qt.Check(f, qt.Not(qt.Equals(again.ETag, put.ETag)))
	f.has(f.key("a"), "second")
}

func testRanges(f *fixture) {
	body := strings.Repeat("0123456789", 1000)
	f.put(f.key("a"), body)
	for _, r := range []objstore.Range{
		{}, {Offset: 1}, {Length: 1}, {Offset: 9999}, {Offset: 10, Length: 20}, {Offset: 9990, Length: 100}, {Length: 1 << 40},
	} {
		o, got := f.read(f.key("a"), r)
		want := body[r.Offset:]
		if r.Length > 0 {
			want = want[:min(r.Length, int64(len(want)))]
		}
		qt.Check(f, qt.IsTrue(got == want), qt.Commentf("%+v", r))
		qt.Check(f, qt.Equals(o.Size, int64(len(body))))
		qt.Check(f, qt.Equals(o.Offset, r.Offset))
		qt.Check(f, qt.Equals(o.Length, int64(len(want))))
	}
	for _, r := range []objstore.Range{{Offset: 10000}, {Offset: 10001, Length: 1}} {
		_, err := f.s.Get(f.ctx, f.key("a"), r)
		qt.Check(f, qt.ErrorIs(err, objstore.ErrInvalidRange))
	}
}

func testEmpty(f *fixture) {
	f.put(f.key("a"), "")
	o, body := f.read(f.key("a"), objstore.Range{})
	qt.Check(f, qt.Equals(body, ""))
	qt.Check(f, qt.Equals(o.Size, 0))
}

// testSnapshot checks that a body is of one write, also when another comes while it is read.
func testSnapshot(f *fixture) {
	old, next := strings.Repeat("o", 1<<20), strings.Repeat("n", 1<<20)
	f.put(f.key("a"), old)
	o, err := f.s.Get(f.ctx, f.key("a"), objstore.Range{})
	qt.Assert(f, qt.IsNil(err))
	defer o.Body.Close()
	f.put(f.key("a"), next)
	body, err := io.ReadAll(o.Body)
	if err != nil { // it may break off
		qt.Assert(f, qt.ErrorIs(err, objstore.ErrTemporary))
	}
	qt.Check(f, qt.IsTrue(strings.HasPrefix(old, string(body))))
	f.has(f.key("a"), next)
}

func testIfAbsent(f *fixture) {
	absent := objstore.Condition{IfAbsent: true}
	info, err := f.s.Put(f.ctx, f.key("a"), []byte("first"), absent)
	qt.Assert(f, qt.IsNil(err))
	_, err = f.s.Put(f.ctx, f.key("a"), []byte("second"), absent)
	qt.Assert(f, qt.ErrorIs(err, objstore.ErrPrecondition))
	qt.Check(f, qt.IsFalse(objstore.Unclear(err)))
	o, body := f.read(f.key("a"), objstore.Range{})
	qt.Check(f, qt.Equals(body, "first"))
	qt.Check(f, qt.Equals(o.ETag, info.ETag))
	_, err = f.s.Delete(f.ctx, f.key("a"), objstore.Condition{})
	qt.Assert(f, qt.IsNil(err))
	_, err = f.s.Put(f.ctx, f.key("a"), []byte("third"), absent)
	qt.Check(f, qt.IsNil(err))
}

func testIfMatch(f *fixture) {
	_, err := f.s.Put(f.ctx, f.key("a"), []byte("x"), objstore.Condition{IfMatch: "0123456789abcdef0123456789abcdef"})
	qt.Assert(f, qt.IsNotNil(err))
	qt.Check(f, qt.IsTrue(errors.Is(err, objstore.ErrPrecondition) || errors.Is(err, objstore.ErrNotFound)))
	f.absent(f.key("a"))
	first := f.put(f.key("a"), "first")
	second, err := f.s.Put(f.ctx, f.key("a"), []byte("second"), objstore.Condition{IfMatch: first.ETag})
	qt.Assert(f, qt.IsNil(err))
	_, err = f.s.Put(f.ctx, f.key("a"), []byte("third"), objstore.Condition{IfMatch: first.ETag})
	qt.Assert(f, qt.ErrorIs(err, objstore.ErrPrecondition))
	o, body := f.read(f.key("a"), objstore.Range{})
	qt.Check(f, qt.Equals(body, "second"))
	qt.Check(f, qt.Equals(o.ETag, second.ETag))
}

func testRaces(f *fixture) {
	const racers = 8
	for round := range 5 {
		key := f.key(fmt.Sprint("race", round))
		cond := objstore.Condition{IfAbsent: true}
		for range 2 { // if absent, then if matching
			winner := f.race(key, cond, racers)
			o, body := f.read(key, objstore.Range{})
			qt.Assert(f, qt.Equals(body, winner))
			cond = objstore.Condition{IfMatch: o.ETag}
		}
	}
}

// race returns what the one winner wrote.
func (f *fixture) race(key string, cond objstore.Condition, racers int) string {
	s := objstore.Retry(f.s, nil) // for conflicts
	var wg sync.WaitGroup
	errs := make([]error, racers)
	for i := range racers {
		wg.Go(func() {
			_, errs[i] = s.Put(f.ctx, key, fmt.Appendf(nil, "%+v racer %d", cond, i), cond)
		})
	}
	wg.Wait()
	var winners []string
	for i, err := range errs {
		if err == nil {
			winners = append(winners, fmt.Sprintf("%+v racer %d", cond, i))
		} else {
			qt.Check(f, qt.IsTrue(errors.Is(err, objstore.ErrPrecondition) || errors.Is(err, objstore.ErrConflict)), qt.Commentf("%v", err))
		}
	}
	qt.Assert(f, qt.HasLen(winners, 1))
	return winners[0]
}

func testDelete(f *fixture) {
	f.put(f.key("a"), "x")
	f.put(f.key("ab"), "x")
	for range 2 {
		_, err := f.s.Delete(f.ctx, f.key("a"), objstore.Condition{})
		qt.Assert(f, qt.IsNil(err))
		f.absent(f.key("a"))
	}
	f.has(f.key("ab"), "x")
}

func testDeleteIfMatch(f *fixture) {
	first := f.put(f.key("a"), "first")
	if !f.s.Capabilities().DeleteIfMatch {
		_, err := f.s.Delete(f.ctx, f.key("a"), objstore.Condition{IfMatch: first.ETag})
		qt.Assert(f, qt.ErrorIs(err, objstore.ErrUnsupported))
		f.has(f.key("a"), "first")
		return
	}
	second := f.put(f.key("a"), "second")
	_, err := f.s.Delete(f.ctx, f.key("a"), objstore.Condition{IfMatch: first.ETag})
	qt.Assert(f, qt.ErrorIs(err, objstore.ErrPrecondition))
	f.has(f.key("a"), "second")
	_, err = f.s.Delete(f.ctx, f.key("a"), objstore.Condition{IfMatch: second.ETag})
	qt.Assert(f, qt.IsNil(err))
	f.absent(f.key("a"))
	_, err = f.s.Delete(f.ctx, f.key("a"), objstore.Condition{IfMatch: second.ETag})
	if err != nil {
		qt.Check(f, qt.IsTrue(errors.Is(err, objstore.ErrPrecondition) || errors.Is(err, objstore.ErrNotFound)), qt.Commentf("%v", err))
	}
}
