package storetest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

func testDates(f *fixture) {
	key := f.key("a")
	first := f.put(f.key("first"), "x")
	put := f.put(key, "x")
	o, _ := f.read(key, objstore.Range{})
	_, absent := f.s.Get(f.ctx, f.key("absent"), objstore.Range{})
	_, refused := f.s.Put(f.ctx, key, []byte("y"), objstore.Condition{IfAbsent: true})
	page, err := f.s.List(f.ctx, objstore.ListOptions{Prefix: f.prefix})
	qt.Assert(f, qt.IsNil(err))
	deleted, err := f.s.Delete(f.ctx, key, objstore.Condition{})
	qt.Assert(f, qt.IsNil(err))
	// Later answers have later dates, but for a second.
	before := put.Date
	for what, date := range map[string]time.Time{
		"Get": o.Date, "absent": objstore.Date(absent), "refused": objstore.Date(refused), "List": page.Date, "Delete": deleted,
	} {
		qt.Check(f, qt.IsTrue(!date.Before(before.Add(-time.Second)) && date.Sub(before) < time.Minute), qt.Commentf("%s: %v, after %v", what, date, before))
	}
	// It was written after an answer before that, and before an answer after that, but for a second.
	for what, at := range map[string]time.Time{"Get": o.LastModified, "List": page.Objects[0].LastModified} {
		qt.Check(f, qt.IsTrue(!at.Before(first.Date.Add(-time.Second)) && !at.After(deleted.Add(time.Second))), qt.Commentf("%s: %v, not from %v to %v", what, at, first.Date, deleted))
	}
}

func testContext(f *fixture) {
	f.put(f.key("a"), "x")
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	_, err := f.s.Get(ctx, f.key("a"), objstore.Range{})
	qt.Check(f, qt.ErrorIs(err, context.Canceled))
	_, err = f.s.List(ctx, objstore.ListOptions{Prefix: f.prefix})
	qt.Check(f, qt.ErrorIs(err, context.Canceled))
	_, err = f.s.Put(ctx, f.key("a"), []byte("y"), objstore.Condition{})
	qt.Check(f, qt.ErrorIs(err, context.Canceled))
	qt.Check(f, qt.IsTrue(objstore.Unclear(err)))
	_, err = f.s.Delete(ctx, f.key("a"), objstore.Condition{})
	qt.Check(f, qt.ErrorIs(err, context.Canceled))
	qt.Check(f, qt.IsTrue(objstore.Unclear(err)))
	_, err = f.s.CreateMultipart(ctx, f.key("b"))
	qt.Check(f, qt.ErrorIs(err, context.Canceled))

	// A body ends with its context too.
	f.put(f.key("large"), strings.Repeat("x", 8<<20))
	ctx, cancel = context.WithCancel(f.ctx)
	o, err := f.s.Get(ctx, f.key("large"), objstore.Range{})
	qt.Assert(f, qt.IsNil(err))
	defer o.Body.Close()
	cancel()
	_, err = io.Copy(io.Discard, o.Body)
	qt.Check(f, qt.IsNotNil(err))
}

func testArguments(f *fixture) {
	keys := []string{"", "/", "/a", "a/", "a//b", "a/./b", "a/../b", "..", "a\x00", "a\nb", "a\xff", `a\b`, strings.Repeat("k", objstore.MaxKey+1)}
	for _, key := range keys {
		_, err := f.s.Get(f.ctx, key, objstore.Range{})
		qt.Check(f, qt.ErrorIs(err, objstore.ErrInvalid), qt.Commentf("%q", key))
		_, err = f.s.Put(f.ctx, key, nil, objstore.Condition{})
		qt.Check(f, qt.ErrorIs(err, objstore.ErrInvalid), qt.Commentf("%q", key))
		_, err = f.s.Delete(f.ctx, key, objstore.Condition{})
		qt.Check(f, qt.ErrorIs(err, objstore.ErrInvalid), qt.Commentf("%q", key))
		_, err = f.s.CreateMultipart(f.ctx, key)
		qt.Check(f, qt.ErrorIs(err, objstore.ErrInvalid), qt.Commentf("%q", key))
	}
	_, err := f.s.Get(f.ctx, f.key("a"), objstore.Range{Offset: -1})
	qt.Check(f, qt.ErrorIs(err, objstore.ErrInvalid))
	_, err = f.s.Put(f.ctx, f.key("a"), nil, objstore.Condition{IfAbsent: true, IfMatch: "x"})
	qt.Check(f, qt.ErrorIs(err, objstore.ErrInvalid))
	_, err = f.s.Put(f.ctx, f.key("a"), nil, objstore.Condition{IfMatch: "x\r\nx-evil: 1"})
	qt.Check(f, qt.ErrorIs(err, objstore.ErrInvalid))
	_, err = f.s.Delete(f.ctx, f.key("a"), objstore.Condition{IfAbsent: true})
	qt.Check(f, qt.ErrorIs(err, objstore.ErrInvalid))
	_, err = f.s.List(f.ctx, objstore.ListOptions{Delimiter: "l"})
	qt.Check(f, qt.ErrorIs(err, objstore.ErrInvalid))
	_, err = f.s.List(f.ctx, objstore.ListOptions{Limit: -1})
	qt.Check(f, qt.ErrorIs(err, objstore.ErrInvalid))

	up := objstore.Multipart{Key: f.key("a"), ID: "x"}
	for _, number := range []int{-1, 0, f.s.Capabilities().MaxParts + 1} {
		_, err = f.s.PutPart(f.ctx, up, number, []byte("x"))
		qt.Check(f, qt.ErrorIs(err, objstore.ErrInvalid))
	}
	_, err = f.s.CompleteMultipart(f.ctx, up, nil, objstore.Condition{})
	qt.Check(f, qt.ErrorIs(err, objstore.ErrInvalid))
	twice := []objstore.Part{{Number: 1, ETag: "x", Size: 1}, {Number: 1, ETag: "y", Size: 1}}
	_, err = f.s.CompleteMultipart(f.ctx, up, twice, objstore.Condition{})
	qt.Check(f, qt.ErrorIs(err, objstore.ErrInvalid))
	f.absent(f.key("a"))
}

func testPresign(f *fixture) {
	key := f.key("r/a!/d")
	f.put(key, "content")
	url, err := f.s.Presign(f.ctx, key, objstore.PresignOptions{Expires: time.Hour, ContentType: "application/x-test"})
	if !f.s.Capabilities().Presign {
		qt.Assert(f, qt.ErrorIs(err, objstore.ErrUnsupported))
		return
	}
	qt.Assert(f, qt.IsNil(err))
	resp, body := f.fetch(url, "bytes=2-4")
	qt.Check(f, qt.Equals(resp.StatusCode, http.StatusPartialContent))
	qt.Check(f, qt.Equals(body, "nte"))
	resp, body = f.fetch(url, "")
	qt.Check(f, qt.Equals(resp.StatusCode, http.StatusOK))
	qt.Check(f, qt.Equals(resp.Header.Get("Content-Type"), "application/x-test"))
	qt.Check(f, qt.Equals(body, "content"))
	bare, _, _ := strings.Cut(url, "?")
	resp, body = f.fetch(bare, "")
	qt.Check(f, qt.IsTrue(resp.StatusCode >= 400))
	qt.Check(f, qt.Not(qt.Equals(body, "content")))
	for _, expires := range []time.Duration{0, -time.Second, objstore.MaxPresign + 1} {
		_, err = f.s.Presign(f.ctx, key, objstore.PresignOptions{Expires: expires})
		qt.Check(f, qt.ErrorIs(err, objstore.ErrInvalid))
	}
}

// fetch gets a URL as a program without credentials does.
func (f *fixture) fetch(url, byteRange string) (*http.Response, string) {
	f.Helper()
	req, err := http.NewRequestWithContext(f.ctx, http.MethodGet, url, nil)
	qt.Assert(f, qt.IsNil(err))
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	resp, err := http.DefaultClient.Do(req)
	qt.Assert(f, qt.IsNil(err))
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	qt.Assert(f, qt.IsNil(err))
	return resp, string(body)
}

func testProbe(f *fixture) {
	err := objstore.Probe(f.ctx, f.s, f.key("probe/"))
	qt.Assert(f, qt.IsNil(err))
	for o, err := range objstore.All(f.ctx, f.s, objstore.ListOptions{Prefix: f.key("probe/")}) {
		f.Errorf("the probe left %v, %v", o.Key, err)
	}
	qt.Check(f, qt.IsFalse(errors.Is(err, objstore.ErrConditions)))
}
