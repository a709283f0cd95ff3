package s3store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/internal/contentrange"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/internal/loan"
)

func (s *store) Get(ctx context.Context, key string, r objstore.Range) (*objstore.Object, error) {
	in := &s3.GetObjectInput{Bucket: s.bucket, Key: &key}
	switch {
	case r.Length > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", r.Offset, r.Offset+r.Length-1))
	case r.Offset > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", r.Offset))
	}
	out, err := s.client.GetObject(ctx, in)
	if err != nil {
		return nil, failure("Get", key, false, err)
	}
	o := &objstore.Object{Body: out.Body}
	o.ETag, o.Date, o.LastModified = etag(out.ETag), dateOf(out.ResultMetadata), aws.ToTime(out.LastModified)
	o.Offset, o.Length, o.Size = contentrange.Parse(out.ContentLength, out.ContentRange)
	return o, nil
}

func (s *store) Put(ctx context.Context, key string, body []byte, cond objstore.Condition) (objstore.Info, error) {
	lent := loan.New(body)
	defer lent.Return()
	out, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: s.bucket, Key: &key, Body: lent, ContentLength: aws.Int64(int64(len(body))),
		IfNoneMatch: ifAbsent(cond), IfMatch: ifMatch(cond),
	})
	if err != nil {
		return objstore.Info{}, failure("Put", key, true, err)
	}
	return objstore.Info{ETag: etag(out.ETag), Date: dateOf(out.ResultMetadata)}, nil
}

func (s *store) Delete(ctx context.Context, key string, cond objstore.Condition) (time.Time, error) {
	out, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: s.bucket, Key: &key, IfMatch: ifMatch(cond)})
	if err != nil {
		return time.Time{}, failure("Delete", key, true, err)
	}
	return dateOf(out.ResultMetadata), nil
}

func (s *store) List(ctx context.Context, opts objstore.ListOptions) (*objstore.Page, error) {
	in := &s3.ListObjectsV2Input{
		Bucket: s.bucket, Prefix: optional(opts.Prefix), Delimiter: optional(opts.Delimiter),
		StartAfter: optional(opts.StartAfter), ContinuationToken: optional(opts.Next), MaxKeys: limit(opts.Limit),
	}
	out, err := s.client.ListObjectsV2(ctx, in)
	if err != nil {
		return nil, failure("List", opts.Prefix, false, err)
	}
	page := &objstore.Page{Date: dateOf(out.ResultMetadata)}
	if aws.ToBool(out.IsTruncated) {
		page.Next = aws.ToString(out.NextContinuationToken)
		if page.Next == "" {
			return nil, noToken("List", opts.Prefix, page.Date)
		}
	}
	for _, o := range out.Contents {
		page.Objects = append(page.Objects, objstore.Info{
			Key: aws.ToString(o.Key), Size: aws.ToInt64(o.Size), ETag: etag(o.ETag),
			LastModified: aws.ToTime(o.LastModified), Date: page.Date,
		})
	}
	for _, p := range out.CommonPrefixes {
		page.Prefixes = append(page.Prefixes, aws.ToString(p.Prefix))
	}
	return page, nil
}

// etag returns an ETag without its quotes, or none if it is a weak one.
func etag(s *string) objstore.ETag {
	if s == nil || strings.HasPrefix(*s, "W/") {
		return ""
	}
	return objstore.ETag(strings.Trim(*s, `"`))
}

func ifAbsent(cond objstore.Condition) *string {
	if cond.IfAbsent {
		return aws.String("*")
	}
	return nil
}

func ifMatch(cond objstore.Condition) *string {
	if cond.IfMatch == "" {
		return nil
	}
	return aws.String(`"` + string(cond.IfMatch) + `"`)
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func limit(n int) *int32 {
	if n == 0 || n > objstore.MaxList {
		n = objstore.MaxList
	}
	return aws.Int32(int32(n))
}
