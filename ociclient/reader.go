package ociclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

const mediaTypeOctetStream = "application/octet-stream"

func (c *client) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	about := c.about("GetBlob", repo, string(digest))
	if err := ociregistry.CheckRepositoryAndDigest(repo, digest); err != nil {
		return nil, about.wrap(err)
	}
	r, err := blob{c, repo, digest}.newReader(ctx, about)
	if err != nil {
		return nil, about.wrap(err)
	}
	return r, nil
}

// newReader returns a reader of the whole blob.
func (b blob) newReader(ctx context.Context, about target) (ociregistry.BlobReader, error) {
	if b.c.opts.Parallel.Concurrency > 1 {
		return b.newParallelReader(ctx, about)
	}
	r := new(seekReader)
	r.life.ctx = ctx
	s, err := b.openIn(&r.life, &r.first, 0, -1)
	if err != nil {
		return nil, err
	}
	return r.read(s, about), nil
}

// read makes r the reader of a stream, which shares its life. The result implements
// [io.Seeker] if the registry supports ranges.
func (r *seekReader) read(s *stream, about target) ociregistry.BlobReader {
	r.about, r.desc, r.src, r.hash = about, s.descriptor(s.size), s, s.digest.Algorithm().Hash()
	if s.ranges && s.size >= 0 {
		return r
	}
	return &r.blobReader
}

func (b blob) descriptor(size int64) ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: mediaTypeOctetStream, Digest: b.digest, Size: size}
}

func (c *client) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	about := c.about("GetBlobRange", repo, string(digest))
	if err := ociregistry.CheckRepositoryAndDigest(repo, digest); err != nil {
		return nil, about.wrap(err)
	}
	if offset0 < 0 || offset1 >= 0 && offset1 < offset0 {
		return nil, about.wrap(ociregistry.ErrRangeInvalid)
	}
	r := &blobReader{about: about, life: life{ctx: ctx}}
	if err := (blob{c, repo, digest}).readRange(r, offset0, max(offset1, -1)); err != nil {
		return nil, about.wrap(err)
	}
	return r, nil
}

// readRange makes r the reader of a range of the blob.
func (b blob) readRange(r *blobReader, offset0, offset1 int64) error {
	if offset0 == offset1 { // HTTP has no such ranges
		return b.readNothing(r, offset0)
	}
	s, err := b.open(&r.life, offset0, offset1)
	if refusesRange(err) {
		return b.readRangeToEnd(r, offset0, offset1, err)
	}
	if err != nil {
		return err
	}
	if s.page { // nothing else verifies a range
		s.Close()
		return errPage
	}
	r.desc, r.src = b.descriptor(s.size), s
	return nil
}

// refusesRange reports whether err says that a blob does not have the range asked for.
func refusesRange(err error) bool {
	return statusOf(err) == http.StatusRequestedRangeNotSatisfiable || foreignStatus(err) == http.StatusRequestedRangeNotSatisfiable
}

// readRangeToEnd makes r the reader of a range that extends to the blob's end or beyond,
// after the registry has refused the range with err. The range may begin at the end of
// the blob, and some registries refuse a range unless they have every byte of it.
func (b blob) readRangeToEnd(r *blobReader, offset0, offset1 int64, err error) error {
	size := int64(-1)
	if resp := responseOf(err); resp != nil {
		if cr, ok := wire.ParseContentRange(headerOf(resp, "Content-Range")); ok {
			size = cr.Size
		}
	}
	if size >= 0 {
		// The response has it.
	} else if desc, err := b.resolve(r.life.ctx); err != nil {
		return err
	} else {
		size = desc.Size
	}
	switch {
	case size == offset0:
		r.desc, r.src = b.descriptor(size), http.NoBody
		return nil
	case size < offset0:
		return fmt.Errorf("%w: %w", ociregistry.ErrRangeInvalid, err)
	case offset1 >= 0 && offset1 <= size:
		return err
	}
	s, err := b.open(&r.life, offset0, size)
	if err != nil {
		return err
	}
	r.desc, r.src = b.descriptor(s.size), s
	return nil
}

// readNothing makes r the reader of an empty range, if the blob extends to offset.
func (b blob) readNothing(r *blobReader, offset int64) error {
	desc, err := b.resolve(r.life.ctx)
	if err == nil && desc.Size >= 0 && offset > desc.Size {
		err = ociregistry.ErrRangeInvalid
	}
	r.desc, r.src = desc, http.NoBody
	return err
}

func (c *client) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	about := c.about("ResolveBlob", repo, string(digest))
	if err := ociregistry.CheckRepositoryAndDigest(repo, digest); err != nil {
		return ociregistry.Descriptor{}, about.wrap(err)
	}
	desc, err := blob{c, repo, digest}.resolve(ctx)
	if err == nil && desc.Size < 0 {
		err = errors.New("the registry does not report the size of the blob")
	}
	if err != nil {
		return ociregistry.Descriptor{}, about.wrap(err)
	}
	return desc, nil
}

// resolve returns the descriptor of the blob. It asks by HEAD, or, if that is not
// supported or does not return the size, by a GET of one byte. The size is -1 if that
// does not return it either.
func (b blob) resolve(ctx context.Context) (ociregistry.Descriptor, error) {
	cl := b.c.newCall(wire.Request{Kind: wire.BlobHead, Repository: b.repo, Digest: b.digest, ListN: -1})
	cl.set("Accept-Encoding", "identity")
	resp, err := b.c.run(ctx, cl)
	if err == nil {
		err = checkDigestHeader(resp, b.digest)
	} else if noHead(err) {
		return b.resolveByGet(ctx)
	}
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	size := contentLength(resp, b.digest)
	if size < 0 || isPage(resp) {
		return b.resolveByGet(ctx)
	}
	return b.descriptor(size), nil
}

// contentLength returns the length of the content by a response's header, or -1 if that
// does not have it or cannot be right. The digest may be empty.
func contentLength(resp *http.Response, d ociregistry.Digest) int64 {
	if resp.ContentLength == 0 && d != "" && !isOfNothing(d) || isEncoded(resp) {
		return -1
	}
	return resp.ContentLength
}

// isOfNothing reports whether a digest is that of empty content.
func isOfNothing(d ociregistry.Digest) bool { return d == d.Algorithm().FromString("") }

// isEncoded reports whether a response's body is encoded content (RFC 9110,
// section 8.4).
func isEncoded(resp *http.Response) bool {
	encoding := headerOf(resp, "Content-Encoding")
	return encoding != "" && !strings.EqualFold(encoding, "identity")
}

// isPage reports whether a response seems to be a page for people, such as a login page,
// in place of what was asked for. A response with a digest in its header is not.
func isPage(resp *http.Response) bool {
	return headerOf(resp, "Docker-Content-Digest") == "" && manifest.IsPage(headerOf(resp, "Content-Type"))
}

var errPage = errors.New("the answer is a web page")

func (b blob) resolveByGet(ctx context.Context) (ociregistry.Descriptor, error) {
	s, err := b.open(&life{ctx: ctx}, 0, 1)
	if refusesRange(err) && isOfNothing(b.digest) {
		s, err = b.open(&life{ctx: ctx}, 0, -1)
	}
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	s.Close()
	if s.page {
		return ociregistry.Descriptor{}, errPage
	}
	return b.descriptor(s.headerSize), nil
}

// noHead reports whether err may mean that HEAD is not supported: by the registry, or at
// the target of a redirect, whose URL may be signed for GET only.
func noHead(err error) bool {
	status := statusOf(err)
	return foreignStatus(err) != 0 || status == http.StatusMethodNotAllowed || status == http.StatusBadRequest
}

func (c *client) hasBlob(ctx context.Context, repo string, digest ociregistry.Digest) bool {
	_, err := blob{c, repo, digest}.resolve(ctx)
	return err == nil
}
