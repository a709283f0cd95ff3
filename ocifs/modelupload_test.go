package ocifs_test

import (
	"context"
	"slices"
	"strconv"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// mapUpload is a session of a mapRegistry. Where a session without bytes has ended, it
// is unknown; elsewhere it goes on, or begins anew, until it ends there too. One with
// bytes ends everywhere. But if they were never kept, it is unspecified what processes
// know of the end, apart from the one where it came.
type mapUpload struct {
	repo, id, data string
	kept           bool           // the bytes
	ended          bool           // with bytes
	endedIn        []*mapRegistry // with or without
}

// hasEnded reports whether a process knows that the session has ended.
func (u *mapUpload) hasEnded(in *mapRegistry) bool {
	return u.ended || u.data == "" && slices.Contains(u.endedIn, in)
}

func (u *mapUpload) end(in *mapRegistry) {
	u.ended = u.ended || u.data != ""
	u.endedIn = append(u.endedIn, in)
}

// isVague reports whether the session may have ended or begin anew in a process.
func (u *mapUpload) isVague(in *mapRegistry) bool {
	return u.ended && !u.kept && !slices.Contains(u.endedIn, in)
}

func (r *mapRegistry) PushBlobChunked(_ context.Context, repo string, _ int) (ociregistry.BlobWriter, error) {
	if _, err := r.repo(repo); err != nil {
		return nil, err
	}
	u := &mapUpload{repo: repo, id: strconv.Itoa(len(r.uploads))}
	r.uploads = append(r.uploads, u)
	return &mapWriter{registry: r, upload: u}, nil
}

func (r *mapRegistry) PushBlobChunkedResume(_ context.Context, repo, id string, offset int64, _ int) (ociregistry.BlobWriter, error) {
	if _, err := r.repo(repo); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(r.uploads, func(u *mapUpload) bool { return u.repo == repo && u.id == id })
	switch {
	case i >= 0 && r.uploads[i].isVague(r):
		return nil, errUnspecified
	case i < 0 || r.uploads[i].hasEnded(r):
		return nil, ociregistry.ErrBlobUploadUnknown
	}
	w := &mapWriter{registry: r, upload: r.uploads[i], size: int64(len(r.uploads[i].data))}
	if offset != -1 && offset != w.size {
		return nil, ociregistry.ErrRangeInvalid
	}
	return w, nil
}

type mapWriter struct {
	registry *mapRegistry
	upload   *mapUpload
	size     int64
	done     bool
	closed   bool
}

func (w *mapWriter) ID() string     { return w.upload.id }
func (w *mapWriter) Size() int64    { return w.size }
func (w *mapWriter) ChunkSize() int { return 1 }

// usable returns why the writer can neither write nor commit.
func (w *mapWriter) usable() error {
	switch {
	case w.done:
		return ociregistry.ErrBlobUploadUnknown
	case w.closed:
		return errAny
	case w.upload.hasEnded(w.registry):
		return choice{ociregistry.ErrBlobUploadUnknown, ociregistry.ErrRangeInvalid}
	case w.size != int64(len(w.upload.data)):
		return ociregistry.ErrRangeInvalid
	}
	return nil
}

func (w *mapWriter) Write(p []byte) (int, error) {
	if err := w.usable(); err != nil {
		return 0, err
	}
	w.upload.data += string(p)
	w.upload.kept = w.upload.kept || w.registry.cfg.keeping && w.upload.data != ""
	w.size += int64(len(p))
	return len(p), nil
}

func (w *mapWriter) Commit(d ociregistry.Digest) (ociregistry.Descriptor, error) {
	err := w.usable()
	switch {
	case !ociref.IsValidDigest(string(d)) && err != nil:
		return ociregistry.Descriptor{}, errAny
	case !ociref.IsValidDigest(string(d)):
		return ociregistry.Descriptor{}, ociregistry.ErrDigestInvalid
	case err != nil && w.mayNotKnow() && d != d.Algorithm().FromString(""):
		return ociregistry.Descriptor{}, choice{err, ociregistry.ErrDigestInvalid}
	case err != nil:
		return ociregistry.Descriptor{}, err
	}
	w.done = true
	w.upload.end(w.registry)
	if d.Algorithm().FromString(w.upload.data) != d {
		return ociregistry.Descriptor{}, ociregistry.ErrDigestInvalid
	}
	repo, err := w.registry.repo(w.upload.repo)
	if err == nil {
		repo.blobs[d] = w.upload.data
	}
	return blobDesc(d, w.upload.data), err
}

// mayNotKnow reports whether the session has ended elsewhere, while to this process it
// may be one without bytes.
func (w *mapWriter) mayNotKnow() bool {
	return w.size == 0 && w.upload.ended && !slices.Contains(w.upload.endedIn, w.registry)
}

func (w *mapWriter) Cancel() error {
	if !w.done {
		w.done = true
		w.upload.end(w.registry)
	}
	return nil
}

func (w *mapWriter) Close() error {
	w.closed = true
	w.upload.kept = w.upload.kept || w.upload.data != "" && !w.upload.ended
	return nil
}
