package azurestore

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/internal/contentrange"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/internal/loan"
)

func (s *store) Get(ctx context.Context, key string, r objstore.Range) (*objstore.Object, error) {
	out, err := s.client.NewBlobClient(key).DownloadStream(ctx, &blob.DownloadStreamOptions{
		Range: blob.HTTPRange{Offset: r.Offset, Count: r.Length},
	})
	if err != nil {
		return nil, failure("Get", key, false, err)
	}
	o := &objstore.Object{Body: out.Body}
	o.ETag, o.Date, o.LastModified = etag(out.ETag), value(out.Date), value(out.LastModified)
	o.Offset, o.Length, o.Size = contentrange.Parse(out.ContentLength, out.ContentRange)
	return o, nil
}

func (s *store) Put(ctx context.Context, key string, body []byte, cond objstore.Condition) (objstore.Info, error) {
	lent := loan.New(body)
	defer lent.Return()
	out, err := s.client.NewBlockBlobClient(key).Upload(ctx, lent, &blockblob.UploadOptions{AccessConditions: conditions(cond)})
	if err != nil {
		return objstore.Info{}, failure("Put", key, true, err)
	}
	return objstore.Info{ETag: etag(out.ETag), LastModified: value(out.LastModified), Date: value(out.Date)}, nil
}

func (s *store) Delete(ctx context.Context, key string, cond objstore.Condition) (time.Time, error) {
	out, err := s.client.NewBlobClient(key).Delete(ctx, &blob.DeleteOptions{AccessConditions: conditions(cond)})
	if err == nil {
		return value(out.Date), nil
	}
	err = failure("Delete", key, true, err)
	if date := objstore.Date(err); errors.Is(err, objstore.ErrNotFound) && cond == (objstore.Condition{}) {
		return date, nil
	}
	return time.Time{}, err
}

// List leaves out what is not after opts.StartAfter: the service could begin there, but the versions
// of its protocol differ in how.
func (s *store) List(ctx context.Context, opts objstore.ListOptions) (*objstore.Page, error) {
	page, err := s.listPage(ctx, opts)
	if err != nil {
		return nil, failure("List", opts.Prefix, false, err)
	}
	for len(page.Objects) > 0 && page.Objects[0].Key <= opts.StartAfter {
		page.Objects = page.Objects[1:]
	}
	for len(page.Prefixes) > 0 && page.Prefixes[0] <= opts.StartAfter {
		page.Prefixes = page.Prefixes[1:]
	}
	for i := range page.Objects {
		page.Objects[i].Date = page.Date
	}
	return page, nil
}

func (s *store) listPage(ctx context.Context, opts objstore.ListOptions) (*objstore.Page, error) {
	prefix, marker, limit := optional(opts.Prefix), optional(opts.Next), limit(opts.Limit)
	if opts.Delimiter == "" {
		out, err := s.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{
			Prefix: prefix, Marker: marker, MaxResults: limit,
		}).NextPage(ctx)
		if err != nil {
			return nil, err
		}
		return &objstore.Page{Objects: infos(out.Segment.BlobItems), Next: value(out.NextMarker), Date: value(out.Date)}, nil
	}
	out, err := s.client.NewListBlobsHierarchyPager(opts.Delimiter, &container.ListBlobsHierarchyOptions{
		Prefix: prefix, Marker: marker, MaxResults: limit,
	}).NextPage(ctx)
	if err != nil {
		return nil, err
	}
	page := &objstore.Page{Objects: infos(out.Segment.BlobItems), Next: value(out.NextMarker), Date: value(out.Date)}
	for _, p := range out.Segment.BlobPrefixes {
		page.Prefixes = append(page.Prefixes, value(p.Name))
	}
	return page, nil
}

func infos(items []*container.BlobItem) (list []objstore.Info) {
	for _, item := range items {
		if item == nil || item.Properties == nil {
			list = append(list, objstore.Info{}) // which objstore.Check refuses
			continue
		}
		p := item.Properties
		list = append(list, objstore.Info{Key: value(item.Name), Size: value(p.ContentLength), ETag: etag(p.ETag), LastModified: value(p.LastModified)})
	}
	return list
}

// value returns what p points at, or the zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// etag returns an ETag without its quotes, or none if it is a weak one.
func etag(e *azcore.ETag) objstore.ETag {
	if e == nil || strings.HasPrefix(string(*e), "W/") {
		return ""
	}
	return objstore.ETag(strings.Trim(string(*e), `"`))
}

func conditions(cond objstore.Condition) *blob.AccessConditions {
	m := &blob.ModifiedAccessConditions{}
	if cond.IfAbsent {
		m.IfNoneMatch = to.Ptr(azcore.ETagAny)
	}
	if cond.IfMatch != "" {
		m.IfMatch = to.Ptr(azcore.ETag(`"` + string(cond.IfMatch) + `"`))
	}
	return &blob.AccessConditions{ModifiedAccessConditions: m}
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
	return to.Ptr(int32(n))
}
