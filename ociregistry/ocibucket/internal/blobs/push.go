package blobs

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/parts"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Push pushes a blob, whose content it reads from rd. It checks size and digest before anything is
// to be seen.
func (s *Store) Push(ctx context.Context, repo *repos.Repository, desc ociregistry.Descriptor, rd io.Reader) error {
	c := &content{ctx: ctx, rd: rd, desc: desc, hash: verified.Hash(rd, desc.Digest)}
	if desc.Size <= formats.MaxInline {
		return s.pushInline(ctx, repo, c)
	}
	l, err := s.find(ctx, repo.Name(), desc.Digest)
	switch {
	case err != nil:
		return err
	case l.Data != "":
		return s.pushKnown(ctx, repo, c, l)
	}
	return s.pushNew(ctx, repo, c)
}

// content is the content of a push, which is checked while it is read.
type content struct {
	ctx  context.Context
	rd   io.Reader
	desc ociregistry.Descriptor
	hash hash.Hash
	n    int64
}

// fill reads into a buffer, which has room, until it is full or the content ends.
func (c *content) fill(b *parts.Buffer) (ended bool, err error) {
	for b.Room() > 0 && !ended && err == nil {
		ended, err = c.read(b)
	}
	return ended, err
}

// read reads once into a buffer, which has room. The content has ended if it is as it should be.
func (c *content) read(b *parts.Buffer) (ended bool, err error) {
	if err := c.ctx.Err(); err != nil {
		return false, err
	}
	at := b.Len()
	n, err := b.ReadOnce(c.rd)
	if c.n += int64(n); c.n > c.desc.Size {
		return false, ociregistry.ErrSizeInvalid
	}
	c.hash.Write(b.Bytes()[at:])
	if err == io.EOF {
		return true, c.check()
	}
	return false, err
}

// check checks the whole content.
func (c *content) check() error {
	switch {
	case c.n != c.desc.Size:
		return ociregistry.ErrSizeInvalid
	case !verified.IsSum(c.desc.Digest, c.hash.Sum(nil)):
		return ociregistry.ErrDigestInvalid
	}
	return nil
}

func (s *Store) pushInline(ctx context.Context, repo *repos.Repository, c *content) error {
	b := s.opts.Buffers.New()
	defer b.Free()
	if ended, err := c.fill(b); err != nil || !ended {
		return cmpError(err, ociregistry.ErrSizeInvalid)
	}
	return s.PublishInline(ctx, repo, c.desc.Digest, string(b.Bytes()))
}

func cmpError(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// pushKnown reads content that is there, and makes it a blob.
func (s *Store) pushKnown(ctx context.Context, repo *repos.Repository, c *content, l formats.Link) error {
	b := s.opts.Buffers.New()
	defer b.Free()
	for ended := false; !ended; b.Empty() {
		var err error
		if ended, err = c.read(b); err != nil {
			return err
		}
	}
	if err := repo.Catalog(ctx); err != nil {
		return err
	}
	l.Size = c.desc.Size
	_, err := s.put(ctx, repo, c.desc.Digest, l)
	return err
}

// pushNew uploads content, and makes it a blob.
func (s *Store) pushNew(ctx context.Context, repo *repos.Repository, c *content) error {
	t0, data := s.bucket.Seen(), formats.Nonce()
	b := s.opts.Buffers.New()
	ended, err := c.fill(b)
	if err == nil && ended {
		_, err = s.bucket.Put(ctx, keys.Data(data), b.Bytes())
	}
	if err != nil || ended {
		b.Free()
	}
	if err == nil && !ended {
		err = s.pushParts(ctx, c, data, b)
	}
	if err != nil {
		return err
	}
	return s.Publish(ctx, repo, c.desc.Digest, data, c.desc.Size, formats.Nonce(), t0)
}

// pushParts uploads content that is more than a part, of which b has the first. It frees b.
func (s *Store) pushParts(ctx context.Context, c *content, data string, b *parts.Buffer) error {
	upload, err := s.bucket.CreateMultipart(ctx, s.bucket.Key(keys.Data(data)))
	if err != nil {
		b.Free()
		return err
	}
	sent, err := s.sendParts(ctx, c, upload, b)
	if err == nil {
		err = s.Complete(ctx, upload, data, sent)
	}
	if err != nil {
		s.abort(ctx, upload)
	}
	return err
}

func (s *Store) sendParts(ctx context.Context, c *content, upload objstore.Multipart, b *parts.Buffer) ([]objstore.Part, error) {
	sender := parts.NewSender(ctx, s.bucket.Store, upload, s.opts.Concurrency)
	defer sender.Stop()
	for number, ended := 1, false; !ended; number++ {
		if err := sender.Send(number, b); err != nil {
			return nil, err
		}
		b = s.opts.Buffers.New()
		var err error
		if ended, err = c.fill(b); err != nil {
			b.Free()
			return nil, err
		}
		if ended && b.Len() > 0 {
			if err := sender.Send(number+1, b); err != nil {
				return nil, err
			}
		}
	}
	return sender.Wait()
}

// abortTime bounds the wait for the end of an upload that came to nothing.
const abortTime = 10 * time.Second

func (s *Store) abort(ctx context.Context, upload objstore.Multipart) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	s.bucket.AbortMultipart(ctx, upload) // what stays is found by a collection
}

// ErrUploadGone is the error of completing an upload that is no more, and is not complete.
var ErrUploadGone = errors.New("the upload is gone")

// Complete makes data of parts. It may have been done before.
func (s *Store) Complete(ctx context.Context, upload objstore.Multipart, data string, sent []objstore.Part) error {
	size := int64(0)
	for _, p := range sent {
		size += p.Size
	}
	_, err := s.bucket.CompleteMultipart(ctx, upload, sent, objstore.Condition{IfAbsent: true})
	if err == nil {
		return nil
	}
	notThere := errors.Is(err, objstore.ErrNotFound)
	if !notThere && !errors.Is(err, objstore.ErrPrecondition) && !objstore.Unclear(err) {
		return err
	}
	o, getErr := s.bucket.Store.Get(ctx, s.bucket.Key(keys.Data(data)), objstore.Range{Length: 1})
	if getErr != nil {
		if notThere && errors.Is(getErr, objstore.ErrNotFound) {
			return ErrUploadGone
		}
		return errors.Join(objstore.ErrUnclear, err)
	}
	o.Body.Close()
	if o.Size != size {
		return fmt.Errorf("%w: %d bytes are there, not %d", objstore.ErrInvalidPart, o.Size, size)
	}
	return nil
}
