package ociclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

// cancelTime is how long it may take to cancel an upload whose context has ended.
const cancelTime = 10 * time.Second

// upload is a session of the registry.
type upload struct {
	c        *client
	repo     string
	location *url.URL
	offset   int64 // how much the registry has, as far as is known
	minChunk int64 // how large chunks are to be at least, if they are not the last

	shared bool // others may write to it as well

	// The specification has one way to say that there are no bytes and that
	// there is one: "0-0". Then unsure is set, and offset is 0.
	unsure bool
}

// startUpload opens a session. The algorithm is the one of the blob's digest.
func (c *client) startUpload(ctx context.Context, repo string, alg digest.Algorithm) (*upload, error) {
	r := wire.Request{Kind: wire.UploadStart, Repo: repo, ListN: -1}
	if alg == digest.SHA512 { // of SHA-256 registries think by themselves
		r.Algorithm = alg
	}
	cl := c.newCall(r)
	cl.ok = statusAccepted
	resp, err := c.run(ctx, cl)
	if err != nil {
		return nil, err
	}
	return c.openedUpload(repo, resp)
}

// openedUpload returns the session that a response says was opened.
func (c *client) openedUpload(repo string, resp *http.Response) (*upload, error) {
	u := &upload{c: c, repo: repo}
	loc, err := location(resp)
	if err != nil {
		return nil, err
	}
	u.location = loc
	if text := resp.Header.Get("OCI-Chunk-Min-Length"); text != "" {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			u.minChunk = n
		}
	}
	return u, nil
}

// call returns a call to the session.
func (u *upload) call(kind wire.Kind) *call {
	cl := u.c.newCall(wire.Request{Kind: kind, Repo: u.repo, ListN: -1})
	cl.url = u.location
	return cl
}

// send sends what content has from the session's offset on, and, if commit is not
// empty, ends the session.
//
// An answer that is lost does not mean that nothing was done. So before anything
// is sent again, the registry is asked whether the blob is there, or how much of
// it the session has.
func (u *upload) send(ctx context.Context, b content, commit ociregistry.Digest) error {
	r := u.c.newRetrier()
	unclear := false // whether the registry may have more than it has acknowledged
	furthest := u.offset
	for {
		err := u.sendOnce(ctx, b, commit)
		b.done()
		switch {
		case err == nil && commit != "":
			return nil
		case err == nil: // a part was taken
			unclear = true
		case b.failure() != nil:
			return b.failure()
		case statusOf(err) == http.StatusRequestedRangeNotSatisfiable:
			if err := u.move(ctx, err, unclear); err != nil {
				return err
			}
		default:
			if err := r.again(ctx, err); err != nil {
				return err
			}
			unclear = true
			if commit != "" && u.c.hasBlob(ctx, u.repo, commit) {
				return nil
			}
			if err := u.ask(ctx); err != nil {
				return err
			}
		}
		if u.offset < b.start() || u.offset > b.given() {
			return errElsewhere
		}
		if commit == "" && u.offset == b.end() {
			return nil
		}
		switch {
		case u.offset > furthest:
			furthest = u.offset
			r.progress()
		case err != nil && transient(err):
			// The retrier has counted it.
		case r.exhausted():
			return cmp.Or(err, errElsewhere)
		}
	}
}

// errHasOneByte is for content that was to be put where the session is, which
// turned out to be one byte further.
var errHasOneByte = errors.New("the upload has one byte")

var errElsewhere error = ociregistry.NewError("the upload is not where this writer is", ociregistry.ErrRangeInvalid.Code(), nil)

// sendOnce sends the rest of content in one request.
func (u *upload) sendOnce(ctx context.Context, b content, commit ociregistry.Digest) error {
	kind := wire.UploadChunk
	if commit != "" {
		kind = wire.UploadFinish
	}
	cl := u.call(kind)
	cl.once = true
	cl.body, cl.from = b, u.offset
	end := b.end()
	cl.set("Content-Type", mediaTypeOctetStream)
	// A session of one's own needs no offset in a blob that comes at once; and
	// some registries do not expect it.
	if end > u.offset && (commit == "" || u.offset > 0 || u.shared && !u.unsure) {
		cl.set("Content-Range", wire.ChunkRange(u.offset, end))
	}
	if commit == "" {
		cl.ok = []int{http.StatusAccepted, http.StatusCreated, http.StatusNoContent}
		resp, err := u.c.run(ctx, cl)
		if err != nil {
			return err
		}
		return u.update(resp, end)
	}
	cl.ok = statusCreated
	cl.url = withQuery(cl.url, "digest="+url.QueryEscape(string(commit)))
	resp, err := u.c.run(ctx, cl)
	if err != nil {
		return err
	}
	return checkDigestHeader(resp, commit)
}

// withQuery returns u with one more parameter. What it has stays as it is.
func withQuery(u *url.URL, param string) *url.URL {
	v := *u
	if v.RawQuery != "" {
		v.RawQuery += "&"
	}
	v.RawQuery += param
	return &v
}

// update takes over from the answer to a chunk where the session goes on. Where
// that does not tell how much there is, it is all that was sent, up to size.
func (u *upload) update(resp *http.Response, size int64) error {
	if err := u.relocate(resp); err != nil {
		return err
	}
	n, unsure, ok := uploadSize(resp)
	if !ok || unsure && size <= 1 {
		n, unsure = size, false
	}
	u.offset, u.unsure = n, unsure
	return nil
}

// relocate takes over the location from an answer, if it has one.
func (u *upload) relocate(resp *http.Response) error {
	if resp.Header.Get("Location") == "" {
		return nil
	}
	asked := u.location
	if resp.Request != nil { // an error's response has none
		asked = resp.Request.URL
	}
	loc, err := locationFrom(resp, asked)
	if err == nil {
		u.location = loc
	}
	return err
}

// ask asks the registry where the session is. Some registries tell it only at the
// session's newest location; without that it is lost.
func (u *upload) ask(ctx context.Context) error {
	cl := u.call(wire.UploadStatus)
	cl.ok = []int{http.StatusNoContent, http.StatusOK, http.StatusAccepted}
	resp, err := u.c.run(ctx, cl)
	if statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
		return fmt.Errorf("%w: %w", ociregistry.ErrBlobUploadUnknown, err)
	}
	if err != nil {
		return err
	}
	u.offset, u.unsure, _ = uploadSize(resp)
	return u.relocate(resp)
}

// move goes where a chunk was refused for not being there, according to the
// answer that err is. Unless it is unclear what the registry has of this
// writer's, that is somebody else's place.
func (u *upload) move(ctx context.Context, err error, unclear bool) error {
	resp := responseOf(err)
	offset, unsure, ok := uploadSize(resp)
	unclear = unclear || !u.shared // then nobody else is there
	switch {
	case ok && unsure && u.offset == 0 && u.unsure:
		u.offset, u.unsure = 1, false // since it is not empty
		if !unclear {
			return errHasOneByte
		}
		return u.relocate(resp)
	case !unclear:
		return err
	case !ok:
		return u.ask(ctx)
	}
	u.offset, u.unsure = offset, unsure
	return u.relocate(resp)
}

// uploadSize returns how many bytes a session has by the header of an answer. It
// is unsure, and 0, where that does not tell none from one.
func uploadSize(resp *http.Response) (n int64, unsure, ok bool) {
	n, ok = wire.ParseUploadRange(resp.Header.Get("Range"))
	if n == 1 {
		return 0, true, ok
	}
	return n, false, ok
}

// cancel ends the session. If the context has ended, that takes place without
// anybody who waits for it.
func (u *upload) cancel(ctx context.Context) {
	if ctx.Err() == nil {
		u.delete(ctx)
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	go func() {
		defer stop()
		u.delete(ctx)
	}()
}

func (u *upload) delete(ctx context.Context) error {
	cl := u.call(wire.UploadCancel)
	cl.ok = []int{http.StatusNoContent, http.StatusOK, http.StatusAccepted, http.StatusNotFound}
	_, err := u.c.run(ctx, cl)
	return err
}
