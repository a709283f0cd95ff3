package storetest

import (
	"errors"
	"slices"
	"strings"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// create begins an upload, which must succeed.
func (f *fixture) create(key string) objstore.Multipart {
	f.Helper()
	up, err := f.s.CreateMultipart(f.ctx, key)
	qt.Assert(f, qt.IsNil(err))
	qt.Check(f, qt.Equals(up.Key, key))
	return up
}

// part puts a part, which must succeed.
func (f *fixture) part(up objstore.Multipart, number int, body string) objstore.Part {
	f.Helper()
	p, err := f.s.PutPart(f.ctx, up, number, []byte(body))
	qt.Assert(f, qt.IsNil(err))
	qt.Check(f, qt.Equals(p.Number, number))
	qt.Check(f, qt.Equals(p.Size, int64(len(body))))
	return p
}

// whole returns the bytes of a part that need not be the last.
func (f *fixture) whole(letter string) string {
	return strings.Repeat(letter, int(max(f.s.Capabilities().MinPartSize, 1000)))
}

// listed returns all parts of an upload.
func (f *fixture) listed(up objstore.Multipart) (parts []objstore.Part) {
	f.Helper()
	after := 0
	for {
		page, err := f.s.ListParts(f.ctx, up, after)
		qt.Assert(f, qt.IsNil(err))
		parts = append(parts, page.Parts...)
		if !page.More {
			return parts
		}
		after = parts[len(parts)-1].Number
	}
}

func testMultipart(f *fixture) {
	key := f.key("d/a")
	up := f.create(key)
	a, b := f.whole("a"), f.whole("b")
	// In any order, and with numbers left out.
	p5 := f.part(up, 5, "end")
	p1 := f.part(up, 1, a)
	p3 := f.part(up, 3, b)
	f.absent(key)
	parts := f.listed(up)
	for i := range parts {
		parts[i].Date = p1.Date
	}
	p3.Date, p5.Date = p1.Date, p1.Date
	qt.Assert(f, qt.DeepEquals(parts, []objstore.Part{p1, p3, p5}))
	after, err := f.s.ListParts(f.ctx, up, 3)
	qt.Assert(f, qt.IsNil(err))
	qt.Assert(f, qt.HasLen(after.Parts, 1))
	info, err := f.s.CompleteMultipart(f.ctx, up, parts, objstore.Condition{})
	qt.Assert(f, qt.IsNil(err))
	f.has(key, a+b+"end")
	o, _ := f.read(key, objstore.Range{Offset: int64(len(a)) - 1, Length: 2})
	qt.Check(f, qt.Equals(o.ETag, info.ETag))
	qt.Check(f, qt.Equals(o.Size, info.Size))
	_, err = f.s.CompleteMultipart(f.ctx, up, parts, objstore.Condition{})
	// Some services answer the same request with the same success for a while.
	if err != nil {
		qt.Check(f, qt.ErrorIs(err, objstore.ErrNotFound))
	}
	f.has(key, a+b+"end")
}

func testMultipartConditions(f *fixture) {
	key := f.key("d/a")
	up := f.create(key)
	p := f.part(up, 1, "parts")
	info, err := f.s.CompleteMultipart(f.ctx, up, []objstore.Part{p}, objstore.Condition{IfAbsent: true})
	qt.Assert(f, qt.IsNil(err))

	up = f.create(key)
	p = f.part(up, 1, "others")
	_, err = f.s.CompleteMultipart(f.ctx, up, []objstore.Part{p}, objstore.Condition{IfAbsent: true})
	qt.Assert(f, qt.ErrorIs(err, objstore.ErrPrecondition))
	f.has(key, "parts")

	up = f.create(key)
	p = f.part(up, 1, "others")
	_, err = f.s.CompleteMultipart(f.ctx, up, []objstore.Part{p}, objstore.Condition{IfMatch: info.ETag})
	qt.Assert(f, qt.IsNil(err))
	f.has(key, "others")
}

func testMultipartParts(f *fixture) {
	key := f.key("d/a")
	up := f.create(key)
	first := f.part(up, 1, "first")
	second := f.part(up, 1, "other")
	qt.Assert(f, qt.Not(qt.Equals(first.ETag, second.ETag)))
	var etags []objstore.ETag
	for _, p := range f.listed(up) {
		qt.Check(f, qt.Equals(p.Number, 1))
		etags = append(etags, p.ETag)
	}
	if f.s.Capabilities().PartsReplace {
		qt.Assert(f, qt.DeepEquals(etags, []objstore.ETag{second.ETag}))
		_, err := f.s.CompleteMultipart(f.ctx, up, []objstore.Part{first}, objstore.Condition{})
		qt.Assert(f, qt.ErrorIs(err, objstore.ErrInvalidPart))
		_, err = f.s.CompleteMultipart(f.ctx, up, []objstore.Part{second}, objstore.Condition{})
		qt.Assert(f, qt.IsNil(err))
		f.has(key, "other")
		return
	}
	qt.Assert(f, qt.IsTrue(slices.Contains(etags, first.ETag) && slices.Contains(etags, second.ETag)))
	_, err := f.s.CompleteMultipart(f.ctx, up, []objstore.Part{first}, objstore.Condition{})
	qt.Assert(f, qt.IsNil(err))
	f.has(key, "first")
}

func testMultipartBadParts(f *fixture) {
	up := f.create(f.key("d/a"))
	good := f.part(up, 1, f.whole("a"))
	unknown := objstore.Part{Number: 2, ETag: good.ETag, Size: 1}
	_, err := f.s.CompleteMultipart(f.ctx, up, []objstore.Part{good, unknown}, objstore.Condition{})
	qt.Check(f, qt.ErrorIs(err, objstore.ErrInvalidPart))
	if f.s.Capabilities().MinPartSize > 1 {
		small := f.part(up, 2, "small")
		last := f.part(up, 3, "last")
		_, err = f.s.CompleteMultipart(f.ctx, up, []objstore.Part{good, small, last}, objstore.Condition{})
		qt.Check(f, qt.ErrorIs(err, objstore.ErrInvalidPart))
	}
	f.absent(f.key("d/a"))
}

func testMultipartAbort(f *fixture) {
	key := f.key("d/a")
	up := f.create(key)
	p := f.part(up, 1, "x")
	_, err := f.s.AbortMultipart(f.ctx, up)
	qt.Assert(f, qt.IsNil(err))
	_, err = f.s.CompleteMultipart(f.ctx, up, []objstore.Part{p}, objstore.Condition{})
	qt.Check(f, qt.IsTrue(errors.Is(err, objstore.ErrNotFound) || errors.Is(err, objstore.ErrInvalidPart)), qt.Commentf("%v", err))
	_, err = f.s.ListParts(f.ctx, up, 0)
	qt.Check(f, qt.ErrorIs(err, objstore.ErrNotFound))
	f.absent(key)
	if _, err = f.s.AbortMultipart(f.ctx, up); err != nil {
		qt.Check(f, qt.ErrorIs(err, objstore.ErrNotFound))
	}
}

func testMultipartList(f *fixture) {
	uploads := func(prefix string) (keys []string) {
		f.Helper()
		opts := objstore.MultipartOptions{Prefix: f.key(prefix), Limit: 2}
		for {
			page, err := f.s.ListMultiparts(f.ctx, opts)
			qt.Assert(f, qt.IsNil(err))
			for _, up := range page.Uploads {
				keys = append(keys, up.Key[len(f.prefix):])
			}
			if opts.Next = page.Next; opts.Next == "" {
				return keys
			}
		}
	}
	var ups []objstore.Multipart
	for _, name := range []string{"d/c", "d/a", "d/b", "e"} {
		up := f.create(f.key(name))
		f.part(up, 1, "x")
		ups = append(ups, up)
	}
	f.put(f.key("d/object"), "x")
	qt.Check(f, qt.DeepEquals(uploads("d/"), []string{"d/a", "d/b", "d/c"}))

	// What is listed is enough to go on with.
	page, err := f.s.ListMultiparts(f.ctx, objstore.MultipartOptions{Prefix: f.key("d/a")})
	qt.Assert(f, qt.IsNil(err))
	qt.Assert(f, qt.HasLen(page.Uploads, 1))
	qt.Check(f, qt.Equals(page.Uploads[0].ID, ups[1].ID))
	age := page.Uploads[0].Created.Sub(ups[1].Created).Abs()
	qt.Check(f, qt.IsTrue(age.Seconds() < 60), qt.Commentf("%v", age))
	_, err = f.s.CompleteMultipart(f.ctx, page.Uploads[0], f.listed(page.Uploads[0]), objstore.Condition{IfAbsent: true})
	qt.Assert(f, qt.IsNil(err))
	_, err = f.s.AbortMultipart(f.ctx, ups[2])
	qt.Assert(f, qt.IsNil(err))
	qt.Check(f, qt.DeepEquals(uploads("d/"), []string{"d/c"}))
}
