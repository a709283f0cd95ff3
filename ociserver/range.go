package ociserver

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

// wantedRanges returns the value of the Range header, or "" if there is none or it must
// be ignored (RFC 9110, sections 13.1.5 and 14.2).
func (x *exchange) wantedRanges() string {
	ranges := x.req.Header["Range"]
	if len(ranges) != 1 {
		return ""
	}
	if ifRange := x.req.Header.Get("If-Range"); ifRange != "" && ifRange != etag(x.Digest) {
		return ""
	}
	return ranges[0]
}

// getBlobRange answers with a range of a blob. It answers with the whole blob if the
// backend does not support ranges, or if the size of the blob is unknown.
func (x *exchange) getBlobRange(rng wire.Range) error {
	if rng.Suffix {
		desc, err := x.backend.ResolveBlob(x.ctx(), x.Repository, x.Digest)
		if err != nil {
			return err
		}
		if desc.Size < 0 {
			return x.getWholeBlob()
		}
		rng.Start = max(desc.Size-rng.Start, 0)
	}
	r, err := x.backend.GetBlobRange(x.ctx(), x.Repository, x.Digest, rng.Start, rng.End)
	if errors.Is(err, ociregistry.ErrUnsupported) {
		return x.getWholeBlob()
	}
	if errors.Is(err, ociregistry.ErrRangeInvalid) {
		if desc, err := x.backend.ResolveBlob(x.ctx(), x.Repository, x.Digest); err == nil && desc.Size >= 0 {
			x.header().Set("Content-Range", wire.ContentRange{Size: desc.Size}.String())
		}
		return err
	}
	if err != nil {
		return err
	}
	size := r.Descriptor().Size
	if size < 0 {
		r.Close()
		return x.getWholeBlob()
	}
	defer r.Close()
	end := rng.End
	if end < 0 || end > size {
		end = size
	}
	if rng.Start >= end {
		x.header().Set("Content-Range", wire.ContentRange{Size: size}.String())
		return ociregistry.ErrRangeInvalid
	}
	x.setBlobHeaders(r.Descriptor())
	x.header().Set("Content-Range", wire.ContentRange{Start: rng.Start, End: end, Size: size}.String())
	x.header().Set("Content-Length", strconv.FormatInt(end-rng.Start, 10))
	x.sendContent(http.StatusPartialContent, r, end-rng.Start, r.Descriptor())
	return nil
}
