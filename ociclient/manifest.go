package ociclient

import (
	"bytes"
	"context"
	"errors"
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

// manifestTypes is the Accept header for manifests. Some registries convert or hide
// manifests of types that it does not name.
var manifestTypes = strings.Join([]string{
	ocispec.MediaTypeImageManifest,
	ocispec.MediaTypeImageIndex,
	manifest.MediaTypeDockerManifest,
	manifest.MediaTypeDockerManifestList,
	manifest.MediaTypeORASArtifact,
	manifest.MediaTypeOCIArtifact,
	"*/*",
}, ", ")

func (c *client) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	return c.getManifest(ctx, "GetManifest", wire.Request{Kind: wire.ManifestGet, Repository: repo, Digest: digest, ListN: -1})
}

func (c *client) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	if err := checkTag(repo, tagName); err != nil {
		return nil, c.about("GetTag", repo, tagName).wrap(err)
	}
	return c.getManifest(ctx, "GetTag", wire.Request{Kind: wire.ManifestGet, Repository: repo, Tag: tagName, ListN: -1})
}

// checkTag checks the tag of a read or a delete.
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
	about := c.about(op, r.Repository, r.Ref())
	if err := r.Check(); err != nil {
		return nil, about.wrap(err)
	}
	m, err := c.fetchManifest(ctx, r)
	if err != nil {
		return nil, about.wrap(err)
	}
	return m, nil
}

// manifestReader is the reader of a manifest that is in memory and was verified.
type manifestReader struct {
	bytes.Reader
	desc ociregistry.Descriptor
	data []byte
	etag string
}

func (m *manifestReader) Descriptor() ociregistry.Descriptor { return m.desc }

func (m *manifestReader) Close() error { return nil }

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
		return nil, errors.New("the answer is not a manifest")
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

// wantedDigest returns the digest that the content of a manifest must have: the one asked
// for, or else the one in the response's header, or "" if there is none.
func wantedDigest(resp *http.Response, asked ociregistry.Digest) (ociregistry.Digest, error) {
	if asked != "" {
		return asked, checkDigestHeader(resp, asked)
	}
	header := ociregistry.Digest(headerOf(resp, "Docker-Content-Digest"))
	if header != "" && !ociref.IsValidDigest(string(header)) {
		return "", errors.New("the answer has a Docker-Content-Digest header that is not a digest")
	}
	return header, nil
}

// checkDigestHeader checks that the response's header does not name other content than
// was asked for. A digest of another algorithm proves nothing: some registries name all
// content by digests of one algorithm.
func checkDigestHeader(resp *http.Response, want ociregistry.Digest) error {
	got := ociregistry.Digest(headerOf(resp, "Docker-Content-Digest"))
	if got == "" || got == want || ociref.IsValidDigest(string(got)) && got.Algorithm() != want.Algorithm() {
		return nil
	}
	return ociregistry.NewError("the answer has the digest of other content in its header", ociregistry.ErrDigestInvalid.Code(), nil)
}

// mediaTypeOf returns the media type in a response's Content-Type, without parameters.
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
	return c.resolveManifest(ctx, "ResolveManifest", wire.Request{Kind: wire.ManifestHead, Repository: repo, Digest: digest, ListN: -1})
}

func (c *client) ResolveTag(ctx context.Context, repo string, tagName string) (ociregistry.Descriptor, error) {
	if err := checkTag(repo, tagName); err != nil {
		return ociregistry.Descriptor{}, c.about("ResolveTag", repo, tagName).wrap(err)
	}
	return c.resolveManifest(ctx, "ResolveTag", wire.Request{Kind: wire.ManifestHead, Repository: repo, Tag: tagName, ListN: -1})
}

func (c *client) resolveManifest(ctx context.Context, op string, r wire.Request) (ociregistry.Descriptor, error) {
	about := c.about(op, r.Repository, r.Ref())
	if err := r.Check(); err != nil {
		return ociregistry.Descriptor{}, about.wrap(err)
	}
	desc, err := c.findManifest(ctx, r)
	return desc, about.wrap(err)
}

// findManifest returns the descriptor of a manifest. It asks by HEAD, and if that response
// does not suffice, by GET.
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

// headManifest returns the descriptor of a manifest if the response to a HEAD request has
// it.
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
