package objstore_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
)

// liar answers what it is told to.
type liar struct {
	objstore.Store
	object  objstore.Object
	body    string
	info    objstore.Info
	date    time.Time
	page    objstore.Page
	up      objstore.Multipart
	part    objstore.Part
	parts   objstore.PartPage
	uploads objstore.MultipartPage
}

func (l *liar) Capabilities() objstore.Capabilities {
	return objstore.Capabilities{DeleteIfMatch: true, PartsReplace: true, MaxPartSize: 1 << 20, MaxParts: 100}
}
func (l *liar) Get(context.Context, string, objstore.Range) (*objstore.Object, error) {
	o := l.object
	o.Body = io.NopCloser(strings.NewReader(l.body))
	return &o, nil
}
func (l *liar) Put(context.Context, string, []byte, objstore.Condition) (objstore.Info, error) {
	return l.info, nil
}
func (l *liar) Delete(context.Context, string, objstore.Condition) (time.Time, error) {
	return l.date, nil
}
func (l *liar) List(context.Context, objstore.ListOptions) (*objstore.Page, error) {
	return &l.page, nil
}
func (l *liar) CreateMultipart(context.Context, string) (objstore.Multipart, error) { return l.up, nil }
func (l *liar) PutPart(context.Context, objstore.Multipart, int, []byte) (objstore.Part, error) {
	return l.part, nil
}
func (l *liar) ListParts(context.Context, objstore.Multipart, int) (*objstore.PartPage, error) {
	return &l.parts, nil
}
func (l *liar) CompleteMultipart(context.Context, objstore.Multipart, []objstore.Part, objstore.Condition) (objstore.Info, error) {
	return l.info, nil
}
func (l *liar) AbortMultipart(context.Context, objstore.Multipart) (time.Time, error) {
	return l.date, nil
}
func (l *liar) ListMultiparts(context.Context, objstore.MultipartOptions) (*objstore.MultipartPage, error) {
	return &l.uploads, nil
}

var now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func TestCheck_RefusesObjectsThatCannotBe(t *testing.T) {
	t.Parallel()
	good := objstore.Object{Info: objstore.Info{Size: 10, ETag: "e", LastModified: now, Date: now}, Offset: 2, Length: 5}
	tests := map[string]func(*objstore.Object){
		"no date":          func(o *objstore.Object) { o.Date = time.Time{} },
		"no last modified": func(o *objstore.Object) { o.LastModified = time.Time{} },
		"no ETag":          func(o *objstore.Object) { o.ETag = "" },
		"long ETag":        func(o *objstore.Object) { o.ETag = objstore.ETag(strings.Repeat("e", 1<<20)) },
		"other offset":     func(o *objstore.Object) { o.Offset = 0 },
		"other length":     func(o *objstore.Object) { o.Length = 10 },
		"smaller":          func(o *objstore.Object) { o.Size = 4 },
		"no size":          func(o *objstore.Object) { o.Size = -1 },
	}
	get := func(o objstore.Object, body string) (string, error) {
		obj, err := objstore.Check(&liar{object: o, body: body}).Get(t.Context(), "a", objstore.Range{Offset: 2, Length: 5})
		if err != nil {
			return "", err
		}
		got, err := io.ReadAll(obj.Body)
		return string(got), err
	}
	got, err := get(good, "23456")
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got, "23456"))
	_, err = get(good, "2345")
	qt.Check(t, qt.ErrorIs(err, objstore.ErrTemporary))
	got, err = get(good, "234567")
	qt.Check(t, qt.ErrorIs(err, objstore.ErrBadAnswer))
	qt.Check(t, qt.Equals(got, "23456"))
	for name, change := range tests {
		o := good
		change(&o)
		_, err := get(o, "23456")
		qt.Check(t, qt.ErrorIs(err, objstore.ErrBadAnswer), qt.Commentf(name))
	}
}

func TestCheck_EndsABodyWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	l := &liar{object: objstore.Object{Info: objstore.Info{Size: 5, ETag: "e", LastModified: now, Date: now}, Length: 5}, body: "01234"}
	o, err := objstore.Check(l).Get(ctx, "a", objstore.Range{})
	qt.Assert(t, qt.IsNil(err))
	n, err := o.Body.Read(make([]byte, 2))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(n, 2))
	cancel()
	got, err := io.ReadAll(o.Body)
	qt.Check(t, qt.ErrorIs(err, context.Canceled))
	qt.Check(t, qt.HasLen(got, 0))
}

func TestCheck_RefusesListsThatCannotBe(t *testing.T) {
	t.Parallel()
	entry := func(key string) objstore.Info { return objstore.Info{Key: key, ETag: "e", LastModified: now} }
	opts := objstore.ListOptions{Prefix: "p/", StartAfter: "p/b", Delimiter: "/", Limit: 3, Next: "token"}
	good := objstore.Page{Objects: []objstore.Info{entry("p/c"), entry("p/d")}, Prefixes: []string{"p/e/"}, Next: "t2", Date: now}
	_, err := objstore.Check(&liar{page: good}).List(t.Context(), opts)
	qt.Assert(t, qt.IsNil(err))
	tests := map[string]func(*objstore.Page){
		"no date":            func(p *objstore.Page) { p.Date = time.Time{} },
		"too many":           func(p *objstore.Page) { p.Prefixes = append(p.Prefixes, "p/f/") },
		"not in order":       func(p *objstore.Page) { p.Objects[0].Key = "p/x" },
		"twice":              func(p *objstore.Page) { p.Objects[0].Key = "p/d" },
		"before the start":   func(p *objstore.Page) { p.Objects[0].Key = "p/b" },
		"of another prefix":  func(p *objstore.Page) { p.Objects[1].Key = "q/d" },
		"below a delimiter":  func(p *objstore.Page) { p.Objects[1].Key = "p/d/e" },
		"no ETag":            func(p *objstore.Page) { p.Objects[1].ETag = "" },
		"negative size":      func(p *objstore.Page) { p.Objects[1].Size = -1 },
		"no time":            func(p *objstore.Page) { p.Objects[1].LastModified = time.Time{} },
		"no prefix":          func(p *objstore.Page) { p.Prefixes[0] = "p/e" },
		"deep prefix":        func(p *objstore.Page) { p.Prefixes[0] = "p/e/f/" },
		"prefix before":      func(p *objstore.Page) { p.Prefixes[0] = "p/a/" },
		"the same page":      func(p *objstore.Page) { p.Next = "token" },
		"an enormous token":  func(p *objstore.Page) { p.Next = strings.Repeat("t", 1<<20) },
		"prefix from nobody": func(p *objstore.Page) { p.Prefixes[0] = "q/e/" },
	}
	for name, change := range tests {
		p := good
		p.Objects, p.Prefixes = append([]objstore.Info{}, good.Objects...), append([]string{}, good.Prefixes...)
		change(&p)
		_, err := objstore.Check(&liar{page: p}).List(t.Context(), opts)
		qt.Check(t, qt.ErrorIs(err, objstore.ErrBadAnswer), qt.Commentf(name))
	}
}

func TestCheck_RefusesAnswersOfWritesThatCannotBe(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	up := objstore.Multipart{Key: "a", ID: "x"}
	parts := []objstore.Part{{Number: 1, ETag: "e", Size: 1}}
	s := objstore.Check(&liar{})
	var errs [6]error
	_, errs[0] = s.Put(ctx, "a", nil, objstore.Condition{})
	_, errs[1] = s.Delete(ctx, "a", objstore.Condition{})
	_, errs[2] = s.CreateMultipart(ctx, "a")
	_, errs[3] = s.PutPart(ctx, up, 1, []byte("x"))
	_, errs[4] = s.CompleteMultipart(ctx, up, parts, objstore.Condition{})
	_, errs[5] = s.AbortMultipart(ctx, up)
	for i, err := range errs {
		qt.Check(t, qt.ErrorIs(err, objstore.ErrBadAnswer), qt.Commentf("%d", i))
		qt.Check(t, qt.IsTrue(objstore.Unclear(err)))
	}
}

func TestCheck_RefusesListsOfPartsAndUploadsThatCannotBe(t *testing.T) {
	t.Parallel()
	up := objstore.Multipart{Key: "p/a", ID: "x", Created: now}
	part := func(n int) objstore.Part { return objstore.Part{Number: n, ETag: "e", Size: 1} }
	for i, p := range []objstore.PartPage{
		{}, {Date: now, More: true},
		{Date: now, Parts: []objstore.Part{part(1)}}, // which is not after 1
		{Date: now, Parts: []objstore.Part{part(3), part(3)}},
		{Date: now, Parts: []objstore.Part{part(101)}},
		{Date: now, Parts: []objstore.Part{{Number: 2, Size: 1}}},
		{Date: now, Parts: []objstore.Part{{Number: 2, ETag: "e", Size: -1}}},
	} {
		_, err := objstore.Check(&liar{parts: p}).ListParts(t.Context(), up, 1)
		qt.Check(t, qt.ErrorIs(err, objstore.ErrBadAnswer), qt.Commentf("%d", i))
	}
	other := up
	other.Key = "q/a"
	for i, p := range []objstore.MultipartPage{
		{}, {Date: now, Uploads: []objstore.Multipart{other}}, {Date: now, Uploads: []objstore.Multipart{up, up}},
		{Date: now, Uploads: []objstore.Multipart{{Key: "p/a", ID: "x"}}}, {Date: now, Next: "n"},
	} {
		_, err := objstore.Check(&liar{uploads: p}).ListMultiparts(t.Context(), objstore.MultipartOptions{Prefix: "p/", Limit: 1, Next: "n"})
		qt.Check(t, qt.ErrorIs(err, objstore.ErrBadAnswer), qt.Commentf("%d", i))
	}
}

func TestReadAll_RefusesWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	s := memstore.New(nil)
	_, err := s.Put(t.Context(), "a", bytes.Repeat([]byte("x"), 100), objstore.Condition{})
	qt.Assert(t, qt.IsNil(err))
	_, _, err = objstore.ReadAll(t.Context(), s, "a", 99)
	qt.Check(t, qt.ErrorIs(err, objstore.ErrTooLarge))
	body, info, err := objstore.ReadAll(t.Context(), s, "a", 100)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(body, 100))
	qt.Check(t, qt.Equals(info.Size, 100))
}

func TestUnclear_IsWhatIsNotKnownToBeUndone(t *testing.T) {
	t.Parallel()
	for _, err := range []error{objstore.ErrNotFound, objstore.ErrPrecondition, objstore.ErrConflict, objstore.ErrThrottled, objstore.ErrDenied, objstore.ErrInvalid, objstore.ErrInvalidPart, objstore.ErrUnsupported, nil} {
		qt.Check(t, qt.IsFalse(objstore.Unclear(err)), qt.Commentf("%v", err))
	}
	for _, err := range []error{objstore.ErrUnclear, objstore.ErrBadAnswer, context.Canceled, io.EOF, fmt.Errorf("%w: %w", objstore.ErrUnclear, objstore.ErrPrecondition)} {
		qt.Check(t, qt.IsTrue(objstore.Unclear(err)), qt.Commentf("%v", err))
	}
}
