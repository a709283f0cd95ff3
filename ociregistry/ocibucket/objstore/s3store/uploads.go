package s3store

import (
	"context"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/internal/loan"
)

func (s *store) CreateMultipart(ctx context.Context, key string) (objstore.Multipart, error) {
	out, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: s.bucket, Key: &key})
	if err != nil {
		return objstore.Multipart{}, failure("CreateMultipart", key, true, err)
	}
	return objstore.Multipart{Key: key, ID: aws.ToString(out.UploadId), Created: dateOf(out.ResultMetadata)}, nil
}

func (s *store) PutPart(ctx context.Context, up objstore.Multipart, number int, body []byte) (objstore.Part, error) {
	lent := loan.New(body)
	defer lent.Return()
	out, err := s.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: s.bucket, Key: &up.Key, UploadId: &up.ID, PartNumber: aws.Int32(int32(number)),
		Body: lent, ContentLength: aws.Int64(int64(len(body))),
	})
	if err != nil {
		return objstore.Part{}, failure("PutPart", up.Key, true, err)
	}
	return objstore.Part{ETag: etag(out.ETag), Date: dateOf(out.ResultMetadata)}, nil
}

func (s *store) ListParts(ctx context.Context, up objstore.Multipart, after int) (*objstore.PartPage, error) {
	in := &s3.ListPartsInput{Bucket: s.bucket, Key: &up.Key, UploadId: &up.ID}
	if after > 0 {
		in.PartNumberMarker = aws.String(strconv.Itoa(after))
	}
	out, err := s.client.ListParts(ctx, in)
	if err != nil {
		return nil, failure("ListParts", up.Key, false, err)
	}
	page := &objstore.PartPage{More: aws.ToBool(out.IsTruncated), Date: dateOf(out.ResultMetadata)}
	for _, p := range out.Parts {
		page.Parts = append(page.Parts, objstore.Part{Number: int(aws.ToInt32(p.PartNumber)), ETag: etag(p.ETag), Size: aws.ToInt64(p.Size)})
	}
	return page, nil
}

func (s *store) CompleteMultipart(ctx context.Context, up objstore.Multipart, parts []objstore.Part, cond objstore.Condition) (objstore.Info, error) {
	in := &s3.CompleteMultipartUploadInput{
		Bucket: s.bucket, Key: &up.Key, UploadId: &up.ID, MultipartUpload: &types.CompletedMultipartUpload{},
		IfNoneMatch: ifAbsent(cond), IfMatch: ifMatch(cond),
	}
	for _, p := range parts {
		in.MultipartUpload.Parts = append(in.MultipartUpload.Parts, types.CompletedPart{
			PartNumber: aws.Int32(int32(p.Number)), ETag: aws.String(`"` + string(p.ETag) + `"`),
		})
	}
	out, err := s.client.CompleteMultipartUpload(ctx, in)
	if err != nil {
		return objstore.Info{}, failure("CompleteMultipart", up.Key, true, err)
	}
	return objstore.Info{ETag: etag(out.ETag), Date: dateOf(out.ResultMetadata)}, nil
}

func (s *store) AbortMultipart(ctx context.Context, up objstore.Multipart) (time.Time, error) {
	out, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: s.bucket, Key: &up.Key, UploadId: &up.ID})
	if err != nil {
		return time.Time{}, failure("AbortMultipart", up.Key, true, err)
	}
	return dateOf(out.ResultMetadata), nil
}

// The token of the next page is the last key, without the upload's ID that belongs to it: not every
// service takes the two. So of the uploads of a key that is a page's last, some are left out.
func (s *store) ListMultiparts(ctx context.Context, opts objstore.MultipartOptions) (*objstore.MultipartPage, error) {
	out, err := s.client.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{
		Bucket: s.bucket, Prefix: optional(opts.Prefix), MaxUploads: limit(opts.Limit),
		KeyMarker: optional(opts.Next),
	})
	if err != nil {
		return nil, failure("ListMultiparts", opts.Prefix, false, err)
	}
	page := &objstore.MultipartPage{Date: dateOf(out.ResultMetadata)}
	if aws.ToBool(out.IsTruncated) {
		page.Next = aws.ToString(out.NextKeyMarker)
		if page.Next == "" {
			return nil, noToken("ListMultiparts", opts.Prefix, page.Date)
		}
	}
	for _, up := range out.Uploads {
		page.Uploads = append(page.Uploads, objstore.Multipart{Key: aws.ToString(up.Key), ID: aws.ToString(up.UploadId), Created: aws.ToTime(up.Initiated)})
	}
	return page, nil
}
