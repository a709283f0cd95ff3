package ociclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

const mediaTypeOctetStream = "application/octet-stream"

// manifestTypes is the Accept header for manifests. Some registries convert, or
// hide, what is not named.
var manifestTypes = strings.Join([]string{
	ocispec.MediaTypeImageManifest,
	ocispec.MediaTypeImageIndex,
	manifest.MediaTypeDockerManifest,
	manifest.MediaTypeDockerManifestList,
	manifest.MediaTypeORASArtifact,
	manifest.MediaTypeOCIArtifact,
	"*/*",
}, ", ")

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
func (b blob) newReader(ctx context.Context, about subject) (ociregistry.BlobReader, error) {
	if b.c.opts.Parallel.Parts > 1 {
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

// read makes r the reader of a stream of its life.
func (r *seekReader) read(s *stream, about subject) ociregistry.BlobReader {
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

// readRange makes r the reader of a range.
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
	if s.page { // which nothing else would find out
		s.Close()
		return errPage
	}
	r.desc, r.src = b.descriptor(s.size), s
	return nil
}

// refusesRange reports whether err is that a blob does not have the bytes asked for.
func refusesRange(err error) bool {
	return statusOf(err) == http.StatusRequestedRangeNotSatisfiable || foreignStatus(err) == http.StatusRequestedRangeNotSatisfiable
}

// readRangeToEnd makes r the reader of a range that goes to the blob's end, or
// beyond, when the registry has refused it with err. It may begin at the end, and
// some registries know no ranges but those of which they have every byte.
func (b blob) readRangeToEnd(r *blobReader, offset0, offset1 int64, err error) error {
	size := int64(-1)
	if resp := responseOf(err); resp != nil {
		if cr, ok := wire.ParseContentRange(headerOf(resp, "Content-Range")); ok {
			size = cr.Size
		}
	}
	if size >= 0 {
		// The registry has told it.
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

// readNothing makes r a reader of nothing, if the blob has that offset.
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
		err = errors.New("the registry does not tell the size of the blob")
	}
	if err != nil {
		return ociregistry.Descriptor{}, about.wrap(err)
	}
	return desc, nil
}

// resolve asks by HEAD, or, where that does not tell the size or is not there, by
// a GET of one byte. If that does not tell the size either, it is -1.
func (b blob) resolve(ctx context.Context) (ociregistry.Descriptor, error) {
	cl := b.c.newCall(wire.Request{Kind: wire.BlobHead, Repo: b.repo, Digest: b.digest, ListN: -1})
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

// contentLength returns how long the content is by the header of an answer, or -1
// if that does not tell, or cannot be. The digest may be empty.
func contentLength(resp *http.Response, d ociregistry.Digest) int64 {
	if resp.ContentLength == 0 && d != "" && !isOfNothing(d) || isEncoded(resp) {
		return -1
	}
	return resp.ContentLength
}

// isOfNothing reports whether a digest is that of no bytes.
func isOfNothing(d ociregistry.Digest) bool { return d == d.Algorithm().FromString("") }

// isEncoded reports whether the bytes of an answer are not the content's
// (RFC 9110, section 8.4).
func isEncoded(resp *http.Response) bool {
	encoding := headerOf(resp, "Content-Encoding")
	return encoding != "" && !strings.EqualFold(encoding, "identity")
}

// isPage reports whether an answer seems to be a page for people, such as one to
// log in, in place of what was asked for. What has the digest of that is none.
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
	return b.descriptor(s.told), nil
}

// noHead reports whether err may be that HEAD is not known: by the registry, or
// where that has redirected to, whose URL can be signed for GET alone.
func noHead(err error) bool {
	status := statusOf(err)
	return foreignStatus(err) != 0 || status == http.StatusMethodNotAllowed || status == http.StatusBadRequest
}

func (c *client) hasBlob(ctx context.Context, repo string, digest ociregistry.Digest) bool {
	_, err := blob{c, repo, digest}.resolve(ctx)
	return err == nil
}

func (c *client) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	return c.getManifest(ctx, "GetManifest", wire.Request{Kind: wire.ManifestGet, Repo: repo, Digest: digest, ListN: -1})
}

func (c *client) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	if err := checkTag(repo, tagName); err != nil {
		return nil, c.about("GetTag", repo, tagName).wrap(err)
	}
	return c.getManifest(ctx, "GetTag", wire.Request{Kind: wire.ManifestGet, Repo: repo, Tag: tagName, ListN: -1})
}

// checkTag checks a tag that is to be read or deleted.
func checkTag(repo, tag string) error {
	if err := ociregistry.CheckRepository(repo); err != nil {
		return err
	}
	if !ociref.IsValidTag(tag) {
		return ociregistry.ErrManifestUnknown
	}
	return nil
}

func (c *client) getManifest(ctx context.Context, op string, r wire.Request) (ociregistry.BlobReader, error) {
	about := c.about(op, r.Repo, r.Ref())
	if err := r.Check(); err != nil {
		return nil, about.wrap(err)
	}
	m, err := c.fetchManifest(ctx, r)
	if err != nil {
		return nil, about.wrap(err)
	}
	return m, nil
}

// manifestReader is a manifest that was read and verified.
type manifestReader struct {
	bytes.Reader
	desc ociregistry.Descriptor
	data []byte
	etag string
}

func (m *manifestReader) Descriptor() ociregistry.Descriptor { return m.desc }
func (m *manifestReader) Close() error                       { return nil }

func (c *client) fetchManifest(ctx context.Context, r wire.Request) (*manifestReader, error) {
	r.Kind = wire.ManifestGet
	cl := c.newCall(r)
	cl.set("Accept", manifestTypes)
	cl.set("Accept-Encoding", "identity")
	resp, data, err := c.read(ctx, cl)
	if err != nil {
		return nil, err
	}
	want, err := wantedDigest(resp, r.Digest)
	if err != nil {
		return nil, err
	}
	mediaType := mediaTypeOf(resp)
	switch {
	case want != "" && !verified.IsOf(want, data):
		return nil, mismatch()
	case len(data) == 0, want == "" && manifest.CheckUnnamed(mediaType, data) != nil:
		return nil, errors.New("the answer is no manifest")
	case want == "":
		want = digest.FromBytes(data)
	}
	m := &manifestReader{
		desc: ociregistry.Descriptor{MediaType: manifest.ServedType(mediaType, data), Digest: want, Size: int64(len(data))},
		data: data,
		etag: resp.Header.Get("ETag"),
	}
	m.Reset(data)
	return m, nil
}

// wantedDigest returns the digest that the content of a manifest must have: the
// one asked for, or the one in the header, or none.
func wantedDigest(resp *http.Response, asked ociregistry.Digest) (ociregistry.Digest, error) {
	if asked != "" {
		return asked, checkDigestHeader(resp, asked)
	}
	header := ociregistry.Digest(headerOf(resp, "Docker-Content-Digest"))
	if header != "" && !ociref.IsValidDigest(string(header)) {
		return "", errors.New("the answer has a Docker-Content-Digest header that is no digest")
	}
	return header, nil
}

// checkDigestHeader checks that the answer is about the content asked for. It may
// leave that open, as an answer does from a registry that knows all content by
// digests of one algorithm.
func checkDigestHeader(resp *http.Response, want ociregistry.Digest) error {
	got := ociregistry.Digest(headerOf(resp, "Docker-Content-Digest"))
	if got == "" || got == want || ociref.IsValidDigest(string(got)) && got.Algorithm() != want.Algorithm() {
		return nil
	}
	return ociregistry.NewError("the answer has the digest of other content in its header", ociregistry.ErrDigestInvalid.Code(), nil)
}

// mediaTypeOf returns the media type that a response says its content has, without
// parameters.
func mediaTypeOf(resp *http.Response) string {
	mediaType, _, _ := strings.Cut(headerOf(resp, "Content-Type"), ";")
	mediaType = strings.TrimSpace(mediaType)
	if own, ok := manifest.Known(mediaType); ok {
		return own
	}
	if mediaType == "" {
		return mediaTypeOctetStream
	}
	return mediaType
}

func (c *client) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	return c.resolveManifest(ctx, "ResolveManifest", wire.Request{Kind: wire.ManifestHead, Repo: repo, Digest: digest, ListN: -1})
}

func (c *client) ResolveTag(ctx context.Context, repo string, tagName string) (ociregistry.Descriptor, error) {
	if err := checkTag(repo, tagName); err != nil {
		return ociregistry.Descriptor{}, c.about("ResolveTag", repo, tagName).wrap(err)
	}
	return c.resolveManifest(ctx, "ResolveTag", wire.Request{Kind: wire.ManifestHead, Repo: repo, Tag: tagName, ListN: -1})
}

func (c *client) resolveManifest(ctx context.Context, op string, r wire.Request) (ociregistry.Descriptor, error) {
	about := c.about(op, r.Repo, r.Ref())
	if err := r.Check(); err != nil {
		return ociregistry.Descriptor{}, about.wrap(err)
	}
	desc, err := c.findManifest(ctx, r)
	return desc, about.wrap(err)
}

// findManifest returns the descriptor of a manifest, asked for by HEAD, or by GET if
// that does not tell it.
func (c *client) findManifest(ctx context.Context, r wire.Request) (ociregistry.Descriptor, error) {
	desc, ok, err := c.headManifest(ctx, r)
	if err == nil && !ok {
		var m *manifestReader
		if m, err = c.fetchManifest(ctx, r); err == nil {
			desc = m.desc
		}
	}
	return desc, err
}

// headManifest returns the descriptor of a manifest if a HEAD request tells it.
func (c *client) headManifest(ctx context.Context, r wire.Request) (desc ociregistry.Descriptor, ok bool, err error) {
	cl := c.newCall(r)
	cl.set("Accept", manifestTypes)
	cl.set("Accept-Encoding", "identity")
	resp, err := c.run(ctx, cl)
	if err != nil {
		if noHead(err) {
			err = nil
		}
		return desc, false, err
	}
	want, err := wantedDigest(resp, r.Digest)
	desc = ociregistry.Descriptor{MediaType: mediaTypeOf(resp), Digest: want, Size: contentLength(resp, want)}
	return desc, err == nil && want != "" && desc.Size >= 0 && !manifest.IsVague(desc.MediaType), err
}
