package ociclient

import (
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

// cancelTimeout bounds how long it takes to cancel an upload whose context has ended.
const cancelTimeout = 10 * time.Second

// An upload is an upload session of the registry.
type upload struct {
	c        *client
	repo     string
	location *url.URL
	minChunk int64 // the minimum size of all chunks but the last
	unused   bool  // nothing was written to it, by this client or by the one that gave the id
	progress
}

// startUpload opens a session. The algorithm is that of the blob's digest.
func (c *client) startUpload(ctx context.Context, repo string, alg digest.Algorithm) (*upload, error) {
	r := wire.Request{Kind: wire.UploadStart, Repository: repo, ListN: -1}
	if alg == digest.SHA512 { // SHA-256 is the default of registries
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

// openedUpload returns the session that a response opened.
func (c *client) openedUpload(repo string, resp *http.Response) (*upload, error) {
	u := &upload{c: c, repo: repo, unused: true}
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

// call returns a call to the session's location.
func (u *upload) call(kind wire.Kind) *call {
	cl := u.c.newCall(wire.Request{Kind: kind, Repository: u.repo, ListN: -1})
	cl.url = u.location
	return cl
}

// send sends the content from the session's position on, and, if commit is not empty,
// commits the session.
//
// A request whose response was lost may have had its effect. So before it sends anything
// again, send asks the registry whether it has the blob, or how much of it the session
// has.
func (u *upload) send(ctx context.Context, b content, commit ociregistry.Digest) error {
	r := u.c.newRetrier()
	furthest := u.at
	var err error // of the last request
	for next := u.hold(b.start(), b.end(), b.given()); ; {
		switch next {
		case stepSend:
			if commit == "" && u.at == b.end() {
				return nil
			}
			if u.at > furthest {
				furthest = u.at
				r.progress()
			}
			next, err = u.sendRest(ctx, &r, b, commit)
		case stepAsk:
			e, err := u.ask(ctx)
			if err != nil && u.why != afterSuccess && !lacksStatus(err) {
				return err
			}
			next = u.reported(e)
		case stepDone:
			return nil
		case stepOneByte:
			return errHasOneByte
		case stepLost:
			return errLost
		case stepGiveUp:
			return err
		}
	}
}

// sendRest sends the rest of the content once. It returns what to do next, and the error
// to give up with.
func (u *upload) sendRest(ctx context.Context, r *retrier, b content, commit ociregistry.Digest) (step, error) {
	resp, err := u.sendOnce(ctx, b, commit)
	b.done()
	switch {
	case err == nil && commit != "":
		return stepDone, nil
	case err == nil:
		return u.acknowledged(extentIn(resp)), nil
	case b.failure() != nil:
		return stepGiveUp, b.failure()
	case isUnproven(err) && u.c.hasBlob(ctx, u.repo, commit):
		return stepDone, nil
	case statusOf(err) == http.StatusRequestedRangeNotSatisfiable:
		resp := responseOf(err)
		if err := u.relocate(resp); err != nil {
			return stepGiveUp, err
		}
		return u.refused(extentIn(resp), b.given()), fmt.Errorf("%w: %w", errElsewhere, err)
	}
	next := u.failed(b.given())
	if err := r.again(ctx, err); err != nil {
		return stepGiveUp, err
	}
	if commit != "" && u.c.hasBlob(ctx, u.repo, commit) {
		return stepDone, nil
	}
	return next, errElsewhere
}

// errHasOneByte says that the position of the session, which was unsure, is one byte
// further.
var errHasOneByte = errors.New("the upload has one byte")

var (
	errElsewhere error = ociregistry.NewError("the upload is at another position than this writer", ociregistry.ErrRangeInvalid.Code(), nil)
	errLost      error = ociregistry.NewError("the registry has lost a part of the upload", ociregistry.ErrRangeInvalid.Code(), nil)
)

// sendOnce sends the rest of the content in one request.
func (u *upload) sendOnce(ctx context.Context, b content, commit ociregistry.Digest) (*http.Response, error) {
	u.unused = false
	kind := wire.UploadChunk
	if commit != "" {
		kind = wire.UploadFinish
	}
	cl := u.call(kind)
	cl.once = true
	cl.body, cl.from = b, u.at
	end := b.end()
	cl.set("Content-Type", mediaTypeOctetStream)
	// An empty session of our own needs no offset if the blob comes in one request, and
	// some registries do not expect it.
	if end > u.at && (commit == "" || u.at > 0 || (u.shared || u.unclear) && !u.unsure) {
		cl.set("Content-Range", wire.ChunkRange(u.at, end))
	}
	if commit == "" {
		cl.ok = statusChunk
	} else {
		cl.ok = statusCreated
		cl.url = withQuery(cl.url, "digest="+url.QueryEscape(string(commit)))
	}
	resp, err := u.c.run(ctx, cl)
	switch {
	case err != nil:
		return nil, err
	case commit == "":
		return resp, u.relocate(resp)
	}
	return resp, checkDigestHeader(resp, commit)
}

// withQuery returns u with one more parameter. It does not change the others.
func withQuery(u *url.URL, param string) *url.URL {
	v := *u
	if v.RawQuery != "" {
		v.RawQuery += "&"
	}
	v.RawQuery += param
	return &v
}

// relocate sets the session's location to the one in a response, if there is one.
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

// ask asks the registry for the position of the session. Some registries answer only at
// the session's newest location.
func (u *upload) ask(ctx context.Context) (extent, error) {
	cl := u.call(wire.UploadStatus)
	cl.ok = []int{http.StatusNoContent, http.StatusOK, http.StatusAccepted}
	cl.once = u.why == afterSuccess // the success counts if there is no answer
	resp, err := u.c.run(ctx, cl)
	if statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
		return extent{}, fmt.Errorf("%w: %w", ociregistry.ErrBlobUploadUnknown, err)
	}
	if err != nil {
		return extent{}, err
	}
	return extentIn(resp), u.relocate(resp)
}

// lacksStatus reports whether err says that the registry does not support asking for the
// position of a session.
func lacksStatus(err error) bool {
	switch statusOf(err) {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return false
}

// cancel ends the session. If the context has ended, it does so in the background.
func (u *upload) cancel(ctx context.Context) {
	if ctx.Err() == nil {
		u.delete(ctx)
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
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
