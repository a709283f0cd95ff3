package objstore

import (
	"context"
	"fmt"
	"time"
)

func (c *checked) CreateMultipart(ctx context.Context, key string) (Multipart, error) {
	if err := validKey(key); err != nil {
		return Multipart{}, invalid("CreateMultipart", key, err)
	}
	up, err := c.s.CreateMultipart(ctx, key)
	if err != nil {
		return Multipart{}, err
	}
	up.Key = key
	if up.ID == "" || len(up.ID) > maxName || up.Created.IsZero() {
		return Multipart{}, bad("CreateMultipart", key, up.Created, fmt.Errorf("no ID, a long one, or no date"))
	}
	return up, nil
}

func (c *checked) PutPart(ctx context.Context, up Multipart, number int, body []byte) (Part, error) {
	err := validUpload(up)
	if caps := c.Capabilities(); err == nil && (number < 1 || number > caps.MaxParts) {
		err = fmt.Errorf("part %d is not from 1 to %d", number, caps.MaxParts)
	} else if err == nil && (len(body) == 0 || int64(len(body)) > caps.MaxPartSize) {
		err = fmt.Errorf("a part of %d bytes: it may be from 1 to %d", len(body), caps.MaxPartSize)
	}
	if err != nil {
		return Part{}, invalid("PutPart", up.Key, err)
	}
	part, err := c.s.PutPart(ctx, up, number, body)
	if err != nil {
		return Part{}, err
	}
	part.Number, part.Size = number, int64(len(body))
	return part, badWrite("PutPart", Info{Key: up.Key, ETag: part.ETag, Date: part.Date})
}

func (c *checked) ListParts(ctx context.Context, up Multipart, after int) (*PartPage, error) {
	err := validUpload(up)
	if err == nil && after < 0 {
		err = fmt.Errorf("parts after %d", after)
	}
	if err != nil {
		return nil, invalid("ListParts", up.Key, err)
	}
	page, err := c.s.ListParts(ctx, up, after)
	if err != nil {
		return nil, err
	}
	if err := goodParts(page, after, c.Capabilities()); err != nil {
		return nil, bad("ListParts", up.Key, page.Date, err)
	}
	return page, nil
}

func (c *checked) CompleteMultipart(ctx context.Context, up Multipart, parts []Part, cond Condition) (Info, error) {
	err := validUpload(up)
	if err == nil {
		err = validCondition(cond)
	}
	var size int64
	if err == nil {
		size, err = validParts(parts, c.Capabilities())
	}
	if err != nil {
		return Info{}, invalid("CompleteMultipart", up.Key, err)
	}
	info, err := c.s.CompleteMultipart(ctx, up, parts, cond)
	if err != nil {
		return Info{}, err
	}
	info.Key, info.Size = up.Key, size
	return info, badWrite("CompleteMultipart", info)
}

func (c *checked) AbortMultipart(ctx context.Context, up Multipart) (time.Time, error) {
	if err := validUpload(up); err != nil {
		return time.Time{}, invalid("AbortMultipart", up.Key, err)
	}
	date, err := c.s.AbortMultipart(ctx, up)
	if err == nil && date.IsZero() {
		err = bad("AbortMultipart", up.Key, date, errNoDate)
	}
	return date, err
}

func (c *checked) ListMultiparts(ctx context.Context, opts MultipartOptions) (*MultipartPage, error) {
	if err := validPrefix(opts.Prefix, opts.Limit, opts.Next); err != nil {
		return nil, invalid("ListMultiparts", opts.Prefix, err)
	}
	page, err := c.s.ListMultiparts(ctx, opts)
	if err != nil {
		return nil, err
	}
	if err := goodUploads(page, opts); err != nil {
		return nil, bad("ListMultiparts", opts.Prefix, page.Date, err)
	}
	return page, nil
}

func validUpload(up Multipart) error {
	if up.ID == "" || len(up.ID) > maxName {
		return fmt.Errorf("not an upload: %.100q", up.ID)
	}
	return validKey(up.Key)
}

// validParts checks the parts of a Complete and returns the sum of their sizes.
func validParts(parts []Part, caps Capabilities) (size int64, err error) {
	if len(parts) == 0 {
		return 0, fmt.Errorf("no parts")
	}
	before := 0
	for _, p := range parts {
		if p.Number <= before || p.Number > caps.MaxParts {
			return 0, fmt.Errorf("part %d comes after part %d", p.Number, before)
		}
		if p.ETag == "" || len(p.ETag) > maxName || p.Size <= 0 || p.Size > caps.MaxPartSize {
			return 0, fmt.Errorf("part %d has no ETag, or a size of %d", p.Number, p.Size)
		}
		before = p.Number
		size += p.Size
	}
	return size, nil
}
