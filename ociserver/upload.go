package ociserver

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

// minChunkSize is the minimum number of bytes that a client is asked to send at a time,
// unless the backend needs more.
const minChunkSize = 8 << 10

// startUpload opens an upload session (specification, section "Pushing blobs").
func (x *exchange) startUpload() error {
	ctx := x.ctx()
	switch {
	case x.Digest != "": // a mount or a single POST that becomes an upload
		ctx = ociregistry.WithDigestAlgorithm(ctx, x.Digest.Algorithm())
	case x.Algorithm != "":
		ctx = ociregistry.WithDigestAlgorithm(ctx, x.Algorithm)
	}
	w, err := x.backend.PushBlobChunked(ctx, x.Repository, minChunkSize)
	if err != nil {
		return err
	}
	if n := w.ChunkSize(); n > 0 {
		x.header().Set("Oci-Chunk-Min-Length", strconv.Itoa(n))
	}
	return x.answerUpload(w, http.StatusAccepted)
}

// uploadStatus answers with the state of a session.
func (x *exchange) uploadStatus() error {
	w, err := x.backend.PushBlobChunkedResume(x.ctx(), x.Repository, x.UploadID, -1, 0)
	if err != nil {
		return err
	}
	return x.answerUpload(w, http.StatusNoContent)
}

// uploadChunk appends a chunk to an upload session. If the chunk breaks off, the session
// keeps the part that has arrived.
func (x *exchange) uploadChunk() error {
	ctx := outlast(x.ctx())
	defer ctx.end()
	w, b, err := x.resumeUpload(ctx)
	if err != nil {
		return err
	}
	if err := x.appendChunk(w, b); err != nil {
		w.Close()
		return err
	}
	return x.answerUpload(w, http.StatusAccepted)
}

// finishUpload appends the last chunk and commits the session. If the chunk breaks off,
// the session remains.
func (x *exchange) finishUpload() error {
	ctx := outlast(x.ctx())
	defer ctx.end()
	resume := wire.WithWholeUpload(ctx)
	if x.req.ContentLength == 0 {
		resume = wire.WithCommitAsItIs(resume)
	}
	w, b, err := x.resumeUpload(resume)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := x.appendChunk(w, b); err != nil {
		return err
	}
	desc, err := w.Commit(x.Digest)
	if err != nil {
		return x.offerResume(err)
	}
	return x.answerPushedBlob(desc, Event{Action: ActionPush, Descriptor: desc, Bytes: b.n})
}

// cancelUpload cancels a session.
func (x *exchange) cancelUpload() error {
	w, err := x.backend.PushBlobChunkedResume(x.ctx(), x.Repository, x.UploadID, -1, 0)
	if err != nil {
		return err
	}
	if err := w.Cancel(); err != nil {
		return err
	}
	x.writeHeader(http.StatusNoContent)
	return nil
}

// resumeUpload opens a session at the offset of the request's chunk, and the chunk.
func (x *exchange) resumeUpload(ctx context.Context) (ociregistry.BlobWriter, *body, error) {
	offset, length, err := x.chunk()
	if err != nil {
		return nil, nil, err
	}
	w, err := x.backend.PushBlobChunkedResume(ctx, x.Repository, x.UploadID, offset, 0)
	if offset == -1 && errors.Is(err, ociregistry.ErrBlobUploadUnknown) {
		// A backend may accept an id that it never issued, but only at offset 0.
		w, err = x.backend.PushBlobChunkedResume(ctx, x.Repository, x.UploadID, 0, 0)
	}
	if err != nil {
		return nil, nil, x.offerResume(err)
	}
	size := int64(0)
	if length != 0 { // else the size may cost a request that nobody needs
		size = w.Size()
	}
	b, err := x.blobBody(length, size)
	if err != nil {
		w.Close()
		return nil, nil, err
	}
	return w, b, nil
}

// chunk returns the offset of the request's chunk, or -1 for the end of the session, and
// its length, or -1 if that is unknown.
func (x *exchange) chunk() (offset, length int64, err error) {
	offset, length = -1, x.req.ContentLength
	header := x.req.Header.Get("Content-Range")
	if header == "" {
		return offset, length, nil
	}
	start, end, ok := wire.ParseChunkRange(header)
	if !ok {
		return 0, 0, ociregistry.NewError("we don't understand your Content-Range", ociregistry.ErrUnsupported.Code(), nil)
	}
	if length >= 0 && length != end-start {
		return 0, 0, errLength("the Content-Range is %d bytes long, but the Content-Length is %d", end-start, length)
	}
	return start, end - start, nil
}

// appendChunk appends the request's body to a session. A writer that is an
// [io.ReaderFrom] reads the body itself.
func (x *exchange) appendChunk(w ociregistry.BlobWriter, b *body) error {
	defer b.Close()
	_, err := io.Copy(w, b)
	return x.offerResume(b.blame(err))
}

// offerResume returns err. If err says that a chunk does not continue its session, it
// adds the state of the session to the answer. If it cannot, the client can still ask for the
// state.
func (x *exchange) offerResume(err error) error {
	if !errors.Is(err, ociregistry.ErrRangeInvalid) {
		return err
	}
	for range 2 {
		w, resumeErr := x.backend.PushBlobChunkedResume(x.ctx(), x.Repository, x.UploadID, -1, 0)
		if resumeErr != nil {
			return err
		}
		id, size := w.ID(), w.Size()
		if w.Close() == nil {
			x.setUploadHeaders(id, size)
			return err
		}
		// Another process was ahead of whoever had written what the session had here.
	}
	return err
}

// answerUpload closes w, and answers with the state of its session.
func (x *exchange) answerUpload(w ociregistry.BlobWriter, status int) error {
	id, size := w.ID(), w.Size()
	if err := w.Close(); err != nil {
		return x.offerResume(err)
	}
	if err := x.setUploadHeaders(id, size); err != nil {
		return err
	}
	x.writeHeader(status)
	return nil
}

// setUploadHeaders sets the headers that tell the state of a session.
func (x *exchange) setUploadHeaders(id string, size int64) error {
	loc, err := x.uploadLocation(id)
	if err != nil {
		return err
	}
	h, values := x.header(), []string{loc, wire.UploadRange(size), wire.EncodeUploadID(id)}
	h["Location"] = values[0:1:1]
	h["Range"] = values[1:2:2]
	h["Docker-Upload-Uuid"] = values[2:3:3]
	return nil
}
