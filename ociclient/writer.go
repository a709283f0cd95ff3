package ociclient

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

func (c *client) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	about := c.about("PushBlobChunked", repo, "")
	if err := ociregistry.CheckRepository(repo); err != nil {
		return nil, about.wrap(err)
	}
	u, err := c.startUpload(ctx, repo, ociregistry.DigestAlgorithmFrom(ctx))
	if err != nil {
		return nil, about.wrap(err)
	}
	about.op = "Upload"
	return c.newBlobWriter(ctx, about, u, chunkSize), nil
}

func (c *client) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	about := c.about("PushBlobChunkedResume", repo, "")
	if err := ociregistry.CheckRepository(repo); err != nil {
		return nil, about.wrap(err)
	}
	u, err := c.resumeUpload(ctx, repo, id, offset)
	if err != nil {
		return nil, about.wrap(err)
	}
	about.op = "Upload"
	return c.newBlobWriter(ctx, about, u, chunkSize), nil
}

func (c *client) resumeUpload(ctx context.Context, repo, id string, offset int64) (*upload, error) {
	u, err := c.uploadByID(repo, id)
	if err != nil {
		return nil, err
	}
	switch {
	case offset == -1 && u.unused && wire.IsWholeUpload(ctx):
		u.unsure = true // if it is not empty, the digest does not match
	case offset == -1:
		var e extent
		e, err = u.ask(ctx)
		u.at, u.unsure = e.least, e.least < e.most
	case offset < 0 || offset > math.MaxInt64/2: // no blob is as large
		err = errElsewhere
	default:
		u.at = offset // the first request checks it
	}
	return u, err
}

func (c *client) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, r io.Reader) (ociregistry.Descriptor, error) {
	about := c.about("PushBlob", repo, string(desc.Digest))
	err := ociregistry.CheckRepositoryAndDigest(repo, desc.Digest)
	if err == nil && desc.Size < 0 {
		err = sizeError("the size is negative")
	}
	if err == nil {
		err = c.pushBlob(ctx, repo, desc, r)
	}
	if err != nil {
		return ociregistry.Descriptor{}, about.wrap(err)
	}
	return desc, nil
}

func (c *client) pushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, r io.Reader) error {
	if c.opts.CheckBlobs && c.hasBlob(ctx, repo, desc.Digest) {
		return nil
	}
	u, mounted := c.tryMount(ctx, repo, desc.Digest)
	if mounted {
		return nil
	}
	p := &push{c: c, repo: repo, desc: desc, upload: u}
	if desc.Size <= min(maxSmall, int64(c.opts.ChunkSize)) {
		all, err := newSized(r, desc.Size).all(ctx)
		if err != nil {
			return err
		}
		return p.whole(ctx, all)
	}
	if s, ok := newSource(r, desc.Size); ok {
		return p.whole(ctx, s)
	}
	s := newSized(r, desc.Size)
	if desc.Size > int64(c.opts.ChunkSize) {
		return p.chunked(ctx, s)
	}
	var all chunk
	defer all.reset(0)
	if err := all.fill(ctx, s, math.MaxInt64); err != io.EOF {
		return err
	}
	return p.whole(ctx, &all)
}

// A push is the push of one blob.
type push struct {
	c      *client
	repo   string
	desc   ociregistry.Descriptor
	upload *upload // nil if there is none
}

// whole sends a blob that can be sent again. If the session is lost, it opens another.
func (p *push) whole(ctx context.Context, b content) error {
	r := p.c.newRetrier()
	for {
		if err := p.open(ctx); err != nil {
			return err
		}
		err := p.upload.send(ctx, b, p.desc.Digest)
		if err == nil {
			return nil
		}
		p.abandon(ctx, err)
		if !isGone(err) || ctx.Err() != nil || r.exhausted() {
			return err
		}
	}
}

// open opens a session, if there is none.
func (p *push) open(ctx context.Context) (err error) {
	if p.upload == nil {
		p.upload, err = p.c.startUpload(ctx, p.repo, p.desc.Digest.Algorithm())
	}
	return err
}

// abandon gives up the session because of err, and cancels it unless it is gone.
func (p *push) abandon(ctx context.Context, err error) {
	if !isGone(err) {
		p.upload.cancel(ctx)
	}
	p.upload = nil
}

// isGone reports whether err says that the session does not exist, or cannot continue.
func isGone(err error) bool { return errors.Is(err, ociregistry.ErrBlobUploadUnknown) }

// chunked sends a blob that cannot be sent again, in chunks. It can open another session
// only while it holds the first chunk.
func (p *push) chunked(ctx context.Context, s *sized) error {
	if err := p.open(ctx); err != nil {
		return err
	}
	size := p.c.chunkSize(0, p.upload.minChunk)
	var part chunk
	defer func() { part.reset(0) }()
	for {
		err := part.fill(ctx, s, size)
		if err != nil && err != io.EOF {
			p.abandon(ctx, err)
			return err
		}
		last := err == io.EOF
		if part.off == 0 && last {
			return p.whole(ctx, &part)
		}
		if err := p.sendChunk(ctx, &part, last); err != nil {
			return err
		}
		if last {
			return nil
		}
		part.reset(part.end())
	}
}

func (p *push) sendChunk(ctx context.Context, part *chunk, last bool) error {
	var commit ociregistry.Digest
	if last {
		commit = p.desc.Digest
	}
	r := p.c.newRetrier()
	for {
		if err := p.open(ctx); err != nil {
			return err
		}
		err := p.upload.send(ctx, part, commit)
		if err == nil {
			return nil
		}
		p.abandon(ctx, err)
		if !isGone(err) || part.off > 0 || ctx.Err() != nil || r.exhausted() {
			return err
		}
	}
}

func (c *client) MountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	about := c.about("MountBlob", toRepo, string(digest))
	r := wire.Request{Kind: wire.BlobMount, Repository: toRepo, FromRepository: fromRepo, Digest: digest, ListN: -1}
	err := r.Check()
	if err != nil {
		return ociregistry.Descriptor{}, about.wrap(err)
	}
	u, err := c.mount(ctx, c.newCall(r), r)
	switch {
	case u != nil:
		u.cancel(ctx)
		err = fmt.Errorf("%w: the registry wants the blob to be pushed", ociregistry.ErrUnsupported)
	case isRefusal(err):
		err = fmt.Errorf("%w: %w", ociregistry.ErrUnsupported, err)
	}
	if err != nil {
		return ociregistry.Descriptor{}, about.wrap(err)
	}
	return blob{c, toRepo, digest}.descriptor(0), nil
}

// mount mounts a blob, or returns the session that the registry opened instead.
func (c *client) mount(ctx context.Context, cl *call, r wire.Request) (*upload, error) {
	cl.ok = []int{http.StatusCreated, http.StatusAccepted}
	resp, err := c.run(ctx, cl)
	switch {
	case isUnproven(err) && c.hasBlob(ctx, r.Repository, r.Digest):
		return nil, nil
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusAccepted:
		return c.openedUpload(r.Repository, resp)
	}
	return nil, checkDigestHeader(resp, r.Digest)
}

// isRefusal reports whether err says that a registry does not mount, rather than that it
// cannot be asked.
func isRefusal(err error) bool {
	status := statusOf(err)
	return status >= 400 && status < 500 && status != http.StatusUnauthorized && !transientStatus(status)
}

// tryMount tries to mount a blob before a push, if the options say so. It reports whether
// the blob was mounted, or returns the session that was opened instead. Since the blob
// can be sent in any case, it tries once, and again only if the registry asks to wait.
func (c *client) tryMount(ctx context.Context, repo string, digest ociregistry.Digest) (u *upload, mounted bool) {
	i := slices.IndexFunc(c.opts.MountFrom, func(from string) bool { return from != repo })
	if i < 0 {
		return nil, false
	}
	req := wire.Request{Kind: wire.BlobMount, Repository: repo, FromRepository: c.opts.MountFrom[i], Digest: digest, ListN: -1}
	for r := c.newRetrier(); ; {
		cl := c.newCall(req)
		cl.once = true
		u, err := c.mount(ctx, cl, req)
		switch {
		case err == nil:
			return u, u == nil
		case statusOf(err) != http.StatusTooManyRequests || r.again(ctx, err) != nil:
			return nil, false
		}
	}
}

func (c *client) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	about := c.about("PushManifest", repo, ref)
	desc, err := c.pushManifest(ctx, repo, ref, contents, mediaType, tags)
	return desc, about.wrap(err)
}

func (c *client) pushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags []string) (ociregistry.Descriptor, error) {
	desc := ociregistry.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(contents), Size: int64(len(contents))}
	r := wire.Request{Kind: wire.ManifestPut, Repository: repo, Tags: tags, ListN: -1}
	r.SetRef(cmp.Or(ref, string(desc.Digest)))
	if err := r.Check(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	if err := ociregistry.CheckMediaType(mediaType); err != nil {
		return ociregistry.Descriptor{}, err
	}
	condition := ociregistry.PushConditionFrom(ctx)
	if ref == "" && len(tags) > 0 && condition.IfMatch == nil && condition.IfNoneMatch == nil {
		r.Digest, r.Tag, r.Tags = "", tags[0], tags[1:] // one request, even if the registry does not know ?tag=
	}
	if r.Digest != "" {
		if r.Digest.Algorithm().FromBytes(contents) != r.Digest {
			return ociregistry.Descriptor{}, ociregistry.ErrDigestInvalid
		}
		desc.Digest = r.Digest
	}
	if mediaType == "" {
		return ociregistry.Descriptor{}, fmt.Errorf("%w: no media type", ociregistry.ErrManifestInvalid)
	}
	cl := c.newManifestPut(r, desc, contents)
	setCondition(cl, "If-Match", condition.IfMatch)
	setCondition(cl, "If-None-Match", condition.IfNoneMatch)
	resp, err := c.putManifest(ctx, cl, r, desc)
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	if err := c.pushTags(ctx, r, resp, desc, contents); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return desc, c.noteSubject(ctx, repo, desc, contents, resp)
}

func (c *client) newManifestPut(r wire.Request, desc ociregistry.Descriptor, contents []byte) *call {
	cl := c.newCall(r)
	cl.ok = statusCreated
	cl.set("Content-Type", desc.MediaType)
	cl.set("Accept-Encoding", "identity")  // otherwise, package net/http adds another
	cl.body = small(bytes.Clone(contents)) // a transport may still read from it later
	return cl
}

// putManifest pushes a manifest in one request.
func (c *client) putManifest(ctx context.Context, cl *call, r wire.Request, desc ociregistry.Descriptor) (*http.Response, error) {
	resp, err := c.run(ctx, cl)
	if isUnproven(err) && c.hasManifest(ctx, r, desc.Digest) {
		return new(http.Response), nil // without headers about tags and subjects
	}
	if err != nil {
		return nil, err
	}
	got := resp.Header.Get("Docker-Content-Digest")
	if r.Tag != "" && !strings.HasPrefix(got, string(desc.Digest.Algorithm())+":") {
		return resp, nil // the registry chooses the algorithm for a push by tag
	}
	return resp, checkDigestHeader(resp, desc.Digest)
}

// setCondition sets a header with entity tags (RFC 9110, section 13.1). Nothing matches an
// empty list.
func setCondition(cl *call, name string, digests []ociregistry.Digest) {
	if digests == nil {
		return
	}
	tags := make([]string, len(digests))
	for i, d := range digests {
		tags[i] = `"` + string(d) + `"`
		if d == ociregistry.AnyManifest {
			tags[i] = "*"
		}
	}
	cl.set(name, strings.Join(tags, ", "))
}

// pushTags sets, one by one, the tags of a push that its response does not name.
func (c *client) pushTags(ctx context.Context, r wire.Request, resp *http.Response, desc ociregistry.Descriptor, contents []byte) error {
	var set []string
	for _, value := range resp.Header["Oci-Tag"] {
		for tag := range strings.SplitSeq(value, ",") {
			set = append(set, strings.TrimSpace(tag))
		}
	}
	for _, tag := range r.Tags {
		if tag == r.Tag || slices.Contains(set, tag) {
			continue
		}
		set = append(set, tag)
		one := wire.Request{Kind: wire.ManifestPut, Repository: r.Repository, Tag: tag, ListN: -1}
		if _, err := c.putManifest(ctx, c.newManifestPut(one, desc, contents), one, desc); err != nil {
			return fmt.Errorf("tag %s: %w", tag, err)
		}
	}
	return nil
}
