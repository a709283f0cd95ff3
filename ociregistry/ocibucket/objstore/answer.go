package objstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

var (
	errNoDate = errors.New("no date")
	errNoETag = errors.New("no ETag, or one of many bytes")
)

func bad(op, key string, date time.Time, err error) error {
	return &Error{Op: op, Key: key, Kind: ErrBadAnswer, Date: date, Err: err}
}

// badWrite returns an error if the answer of a successful write lacks something.
func badWrite(op string, info Info) error {
	switch {
	case info.Date.IsZero():
		return bad(op, info.Key, info.Date, errNoDate)
	case info.ETag == "" || len(info.ETag) > maxName:
		return bad(op, info.Key, info.Date, errNoETag)
	}
	return nil
}

func goodObject(o *Object, key string, r Range) error {
	o.Key = key
	want := o.Size - r.Offset
	if r.Length > 0 {
		want = min(want, r.Length)
	}
	switch {
	case o.Date.IsZero() || o.LastModified.IsZero():
		return errNoDate
	case o.ETag == "" || len(o.ETag) > maxName:
		return errNoETag
	case o.Size < 0:
		return fmt.Errorf("a size of %d", o.Size)
	case o.Offset != r.Offset || o.Length != want || want < 0:
		return fmt.Errorf("asked for %d bytes at %d, got %d at %d of %d", r.Length, r.Offset, o.Length, o.Offset, o.Size)
	}
	return nil
}

func goodPage(p *Page, opts ListOptions) error {
	limit := MaxList
	if opts.Limit > 0 {
		limit = min(limit, opts.Limit)
	}
	if n := len(p.Objects) + len(p.Prefixes); n > limit {
		return fmt.Errorf("%d keys, not %d", n, limit)
	}
	before := ""
	for _, o := range p.Objects {
		if o.Size < 0 || o.ETag == "" || len(o.ETag) > maxName || o.LastModified.IsZero() {
			return fmt.Errorf("%.100q has no ETag, no date, or a size of %d", o.Key, o.Size)
		}
		if rest, ok := strings.CutPrefix(o.Key, opts.Prefix); !ok || opts.Delimiter != "" && strings.Contains(rest, opts.Delimiter) {
			return fmt.Errorf("%.100q was not asked for", o.Key)
		}
		if o.Key <= before || o.Key <= opts.StartAfter {
			return fmt.Errorf("%.100q is not in order", o.Key)
		}
		before = o.Key
	}
	return goodPrefixes(p, opts)
}

func goodPrefixes(p *Page, opts ListOptions) error {
	before := ""
	for _, prefix := range p.Prefixes {
		rest, ok := strings.CutPrefix(prefix, opts.Prefix)
		if !ok || opts.Delimiter == "" || strings.Index(rest, opts.Delimiter) != len(rest)-1 {
			return fmt.Errorf("prefix %.100q was not asked for", prefix)
		}
		if prefix <= before || prefix <= opts.StartAfter {
			return fmt.Errorf("prefix %.100q is not in order", prefix)
		}
		before = prefix
	}
	return goodNext(p.Next, opts.Next, p.Date)
}

func goodNext(next, before string, date time.Time) error {
	switch {
	case date.IsZero():
		return errNoDate
	case len(next) > maxName:
		return fmt.Errorf("a token of %d bytes", len(next))
	case next != "" && next == before:
		return errors.New("the next page is this one again")
	}
	return nil
}

func goodParts(p *PartPage, after int, caps Capabilities) error {
	if p.Date.IsZero() {
		return errNoDate
	}
	if p.More && len(p.Parts) == 0 {
		return errors.New("more parts, but none")
	}
	before := after
	for i, part := range p.Parts {
		again := i > 0 && !caps.PartsReplace && part.Number == before
		if part.Number <= before && !again || part.Number > caps.MaxParts {
			return fmt.Errorf("part %d comes after part %d", part.Number, before)
		}
		if part.ETag == "" || len(part.ETag) > maxName || part.Size < 0 {
			return fmt.Errorf("part %d has no ETag, or a size of %d", part.Number, part.Size)
		}
		before = part.Number
	}
	return nil
}

func goodUploads(p *MultipartPage, opts MultipartOptions) error {
	limit := MaxList
	if opts.Limit > 0 {
		limit = min(limit, opts.Limit)
	}
	if len(p.Uploads) > limit {
		return fmt.Errorf("%d uploads, not %d", len(p.Uploads), limit)
	}
	before := ""
	for _, up := range p.Uploads {
		if !strings.HasPrefix(up.Key, opts.Prefix) || up.Key < before {
			return fmt.Errorf("%.100q was not asked for, or is not in order", up.Key)
		}
		if up.ID == "" || len(up.ID) > maxName || up.Created.IsZero() {
			return fmt.Errorf("an upload of %.100q has no ID or no date", up.Key)
		}
		before = up.Key
	}
	return goodNext(p.Next, opts.Next, p.Date)
}

// exactBody reads left bytes from rc, neither less nor more. It ends with its context at once, when an HTTP client may
// not have noticed that yet.
type exactBody struct {
	ctx  context.Context // of the Get, which bounds the body's life
	rc   io.ReadCloser
	key  string
	left int64
	err  error
}

func (b *exactBody) Read(p []byte) (int, error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	if b.left == 0 {
		b.err = b.end()
		return 0, b.err
	}
	n, err := 0, b.ctx.Err()
	if err == nil {
		n, err = b.rc.Read(p[:min(int64(len(p)), b.left)])
	}
	b.left -= int64(n)
	switch {
	case err == nil:
	case b.left == 0 && err == io.EOF:
		b.err = io.EOF
	case err == io.EOF:
		b.err = &Error{Op: "Get", Key: b.key, Kind: ErrTemporary, Err: io.ErrUnexpectedEOF}
	default:
		b.err = &Error{Op: "Get", Key: b.key, Kind: ErrTemporary, Err: err}
	}
	return n, b.err
}

// end makes sure that there are no more bytes.
func (b *exactBody) end() error {
	n, err := b.rc.Read(make([]byte, 1))
	if n > 0 {
		return bad("Get", b.key, time.Time{}, errors.New("more bytes than announced"))
	}
	if err != nil && err != io.EOF {
		return &Error{Op: "Get", Key: b.key, Kind: ErrTemporary, Err: err}
	}
	return io.EOF
}

func (b *exactBody) Close() error { return b.rc.Close() }
