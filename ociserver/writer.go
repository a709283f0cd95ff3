package ociserver

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

const (
	mediaTypeOctetStream = "application/octet-stream"

	// maxTagsPerPush is the maximum number of tags that a push may set besides its
	// ref. The specification asks for at least 10.
	maxTagsPerPush = 256
)

// postBlob stores a blob that is the body of one request.
func (x *exchange) postBlob() error {
	if x.opts.DisableSinglePostUpload {
		return x.startUpload()
	}
	b, err := x.blobBody(x.req.ContentLength, 0)
	if err != nil {
		return err
	}
	defer b.Close()
	var desc ociregistry.Descriptor
	if x.req.ContentLength >= 0 {
		desc, err = x.backend.PushBlob(x.ctx(), x.Repository, ociregistry.Descriptor{
			MediaType: mediaTypeOctetStream,
			Digest:    x.Digest,
			Size:      x.req.ContentLength,
		}, b)
	} else {
		desc, err = x.pushBlobOfUnknownSize(b)
	}
	if err != nil {
		return b.blame(err)
	}
	return x.answerPushedBlob(desc, Event{Action: ActionPush, Descriptor: desc, Bytes: b.n})
}

// pushBlobOfUnknownSize stores a blob by way of a session, which it cancels if the blob
// breaks off, even when the client has gone away.
func (x *exchange) pushBlobOfUnknownSize(b *body) (ociregistry.Descriptor, error) {
	ctx := outlast(x.ctx())
	defer ctx.end()
	w, err := x.backend.PushBlobChunked(ociregistry.WithDigestAlgorithm(ctx, x.Digest.Algorithm()), x.Repository, 0)
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	defer w.Cancel()
	if _, err := io.Copy(w, b); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return w.Commit(x.Digest)
}

// mountBlob mounts a blob from another repository. It starts an upload session if the
// blob cannot or must not be mounted.
func (x *exchange) mountBlob() error {
	if x.FromRepository == "" && !x.mayPull("") {
		return x.startUpload() // the client must not find out what other repositories hold
	}
	desc, err := x.backend.MountBlob(x.ctx(), x.FromRepository, x.Repository, x.Digest)
	if cannotMount(err) {
		return x.startUpload()
	}
	if err != nil {
		return err
	}
	return x.answerPushedBlob(desc, Event{Action: ActionMount, From: x.FromRepository, Descriptor: desc})
}

// cannotMount reports whether err means that the blob must be uploaded instead.
func cannotMount(err error) bool {
	return errors.Is(err, ociregistry.ErrBlobUnknown) ||
		errors.Is(err, ociregistry.ErrNameUnknown) ||
		errors.Is(err, ociregistry.ErrUnsupported) ||
		errors.Is(err, ociregistry.ErrDenied) ||
		errors.Is(err, ociregistry.ErrUnauthorized)
}

// answerPushedBlob answers a request that added a blob.
func (x *exchange) answerPushedBlob(desc ociregistry.Descriptor, e Event) error {
	loc, err := x.contentLocation(false, desc)
	if err != nil {
		return err
	}
	x.setStored(loc, desc)
	x.emit(e)
	x.writeHeader(http.StatusCreated)
	return nil
}

// setStored sets the headers that tell what was stored, and where it is.
func (x *exchange) setStored(loc string, desc ociregistry.Descriptor) {
	values := []string{loc, string(desc.Digest)}
	x.header()["Location"] = values[0:1:1]
	x.header()["Docker-Content-Digest"] = values[1:2:2]
}

// putManifest stores a manifest.
func (x *exchange) putManifest() error {
	if len(x.Tags) > maxTagsPerPush {
		return ociregistry.NewHTTPError(fmt.Errorf("more than %d tags", maxTagsPerPush), http.StatusRequestURITooLong, nil, nil)
	}
	b, err := x.manifestBody()
	if err != nil {
		return err
	}
	defer b.memory.release()
	buf, err := b.readManifest()
	if err != nil {
		return err
	}
	defer putBack(buf)
	contents := buf.Bytes() // backends do not retain it
	mediaType, err := manifestMediaType(x.req.Header.Get("Content-Type"), contents)
	if err != nil {
		return err
	}
	ctx := x.ctx()
	if x.conditional() {
		ctx = ociregistry.WithPushCondition(ctx, x.condition())
	}
	desc, err := x.backend.PushManifest(ctx, x.Repository, x.Ref(), contents, mediaType, x.Tags...)
	if err != nil {
		return err
	}
	loc, err := x.contentLocation(true, desc)
	if err != nil {
		return err
	}
	x.setStored(loc, desc)
	h := x.header()
	for _, tag := range x.Tags {
		h.Add("OCI-Tag", tag)
	}
	if !x.opts.DisableReferrersAPI && manifest.MayHaveSubject(contents) {
		if info, err := manifest.Parse(mediaType, string(contents)); err == nil && info.Subject != "" {
			h.Set("OCI-Subject", string(info.Subject))
		}
	}
	x.emit(Event{Action: ActionPush, Descriptor: desc, Bytes: int64(len(contents))})
	x.writeHeader(http.StatusCreated)
	return nil
}

// manifestMediaType returns the media type in a Content-Type header, without its
// parameters. Without the header, it returns the media type in the manifest itself.
func manifestMediaType(contentType string, contents []byte) (string, error) {
	mediaType, _, _ := strings.Cut(contentType, ";")
	mediaType = strings.Trim(mediaType, " \t")
	if mediaType == "" {
		var self struct {
			MediaType string `json:"mediaType"`
		}
		json.Unmarshal(contents, &self) // content that is not JSON has no type
		mediaType = cmp.Or(self.MediaType, mediaTypeOctetStream)
	}
	return mediaType, ociregistry.CheckMediaType(mediaType)
}

// manifests has buffers for complete manifests.
var manifests = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// putBack returns a buffer to manifests.
func putBack(buf *bytes.Buffer) {
	const usual = 64 << 10 // bytes; larger buffers are not worth keeping
	if buf.Cap() <= usual {
		buf.Reset()
		manifests.Put(buf)
	}
}

// readManifest reads a manifest and closes the body. It reads pieces that are hardly larger
// than all that has arrived before, and joins them in the end. So a body that stalls has
// little more memory than its bytes. The caller must put the buffer back.
func (b *body) readManifest() (*bytes.Buffer, error) {
	defer b.Close()
	var few [4]*[]byte
	read := few[:0]
	defer func() {
		for i, piece := range read {
			piecePool(i).Put(piece)
		}
	}()
	var err error
	for err == nil {
		piece := piecePool(len(read)).Get().(*[]byte)
		read = append(read, piece)
		_, err = io.ReadFull(b, *piece)
	}
	if b.err != nil {
		return nil, b.err
	}
	buf := manifests.Get().(*bytes.Buffer)
	buf.Grow(int(b.n))
	for _, piece := range read {
		buf.Write((*piece)[:min(int(b.n)-buf.Len(), len(*piece))])
	}
	return buf, nil
}
