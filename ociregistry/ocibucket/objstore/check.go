package objstore

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// MaxKey is the maximum length of a key, in bytes.
	MaxKey = 1024
	// MaxList is the maximum number of keys of a page.
	MaxList = 1000
	// MaxPresign is the maximum of PresignOptions.Expires. No store has URLs for more than 7 days, and
	// in Azure the key that signs them must be valid for longer than they are.
	MaxPresign = 6 * 24 * time.Hour
	// maxName is the maximum length of an ETag, an upload's ID and a token, in bytes.
	maxName = 4096
)

// Check returns a store that checks what it passes to s, and what s answers: every
// implementation returns what Check made of it. Arguments that no store takes are [ErrInvalid],
// and do not reach s. Answers that cannot be right are [ErrBadAnswer]: no Date, no ETag, a size
// below zero, keys out of order or outside of what was asked for. Body of an Object has exactly
// the bytes that it should have, or ends with an error.
func Check(s Store) Store { return &checked{s} }

type checked struct{ s Store }

func (c *checked) Capabilities() Capabilities { return c.s.Capabilities() }

func (c *checked) Get(ctx context.Context, key string, r Range) (*Object, error) {
	if err := validKey(key); err != nil {
		return nil, invalid("Get", key, err)
	}
	if r.Offset < 0 || r.Length < 0 || r.Offset+r.Length < 0 {
		return nil, invalid("Get", key, fmt.Errorf("range of %d bytes at %d", r.Length, r.Offset))
	}
	o, err := c.s.Get(ctx, key, r)
	if err != nil {
		return nil, err
	}
	if r != (Range{}) && r.Offset >= o.Size && o.Size >= 0 {
		o.Body.Close() // some stores answer with nothing
		return nil, &Error{Op: "Get", Key: key, Kind: ErrInvalidRange, Date: o.Date}
	}
	if err := goodObject(o, key, r); err != nil {
		o.Body.Close()
		return nil, bad("Get", key, o.Date, err)
	}
	o.Body = &exactBody{ctx: ctx, rc: o.Body, key: key, left: o.Length}
	return o, nil
}

func (c *checked) Put(ctx context.Context, key string, body []byte, cond Condition) (Info, error) {
	err := validKey(key)
	if err == nil {
		err = validCondition(cond)
	}
	if max := c.Capabilities().MaxPartSize; err == nil && int64(len(body)) > max {
		err = fmt.Errorf("%d bytes are more than %d", len(body), max)
	}
	if err != nil {
		return Info{}, invalid("Put", key, err)
	}
	info, err := c.s.Put(ctx, key, body, cond)
	if err != nil {
		return Info{}, err
	}
	info.Key, info.Size = key, int64(len(body))
	return info, badWrite("Put", info)
}

func (c *checked) Delete(ctx context.Context, key string, cond Condition) (time.Time, error) {
	err := validKey(key)
	if err == nil {
		err = validCondition(cond)
	}
	if err == nil && cond.IfAbsent {
		err = fmt.Errorf("nothing can be deleted if it is absent")
	}
	if err != nil {
		return time.Time{}, invalid("Delete", key, err)
	}
	if cond.IfMatch != "" && !c.Capabilities().DeleteIfMatch {
		return time.Time{}, &Error{Op: "Delete", Key: key, Kind: ErrUnsupported}
	}
	date, err := c.s.Delete(ctx, key, cond)
	if err == nil && date.IsZero() {
		err = bad("Delete", key, date, errNoDate)
	}
	return date, err
}

func (c *checked) List(ctx context.Context, opts ListOptions) (*Page, error) {
	err := validPrefix(opts.Prefix, opts.Limit, opts.Next)
	if err == nil && !validText(opts.StartAfter) {
		err = fmt.Errorf("start after %.100q", opts.StartAfter)
	}
	if err == nil && opts.Delimiter != "" && opts.Delimiter != "/" {
		err = fmt.Errorf("delimiter %.100q", opts.Delimiter)
	}
	if err != nil {
		return nil, invalid("List", opts.Prefix, err)
	}
	page, err := c.s.List(ctx, opts)
	if err != nil {
		return nil, err
	}
	if err := goodPage(page, opts); err != nil {
		return nil, bad("List", opts.Prefix, page.Date, err)
	}
	return page, nil
}

func (c *checked) Presign(ctx context.Context, key string, opts PresignOptions) (string, error) {
	err := validKey(key)
	if err == nil && (opts.Expires < time.Second || opts.Expires > MaxPresign) {
		err = fmt.Errorf("valid for %v: it may be from %v to %v", opts.Expires, time.Second, MaxPresign)
	}
	if err != nil {
		return "", invalid("Presign", key, err)
	}
	if !c.Capabilities().Presign {
		return "", &Error{Op: "Presign", Key: key, Kind: ErrUnsupported}
	}
	return c.s.Presign(ctx, key, opts)
}

func invalid(op, key string, err error) error {
	return &Error{Op: op, Key: key, Kind: ErrInvalid, Err: err}
}

// ValidKey reports whether key may be that of an object in any store: 1 to [MaxKey] bytes of
// UTF-8 without control characters and backslashes, in elements between slashes that are not
// empty, "." or "..".
func ValidKey(key string) bool { return validKey(key) == nil }

func validKey(key string) error {
	if key == "" || !validText(key) || strings.Contains(key, `\`) {
		return fmt.Errorf("not a key: %.100q", key)
	}
	for element := range strings.SplitSeq(key, "/") {
		if element == "" || element == "." || element == ".." {
			return fmt.Errorf("not a key: %.100q", key)
		}
	}
	return nil
}

func validText(s string) bool {
	return len(s) <= MaxKey && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func validCondition(cond Condition) error {
	if cond.IfAbsent && cond.IfMatch != "" {
		return fmt.Errorf("two conditions at once")
	}
	if len(cond.IfMatch) > maxName || strings.ContainsAny(string(cond.IfMatch), "\"\r\n*") {
		return fmt.Errorf("not an ETag: %.100q", cond.IfMatch)
	}
	return nil
}

func validPrefix(prefix string, limit int, next string) error {
	if !validText(prefix) || strings.HasPrefix(prefix, "/") {
		return fmt.Errorf("prefix %.100q", prefix)
	}
	if limit < 0 {
		return fmt.Errorf("limit %d", limit)
	}
	if len(next) > maxName {
		return fmt.Errorf("a token of %d bytes", len(next))
	}
	return nil
}
