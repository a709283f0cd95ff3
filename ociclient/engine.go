package ociclient

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

// A call describes a request, independently of how often and where it is sent.
type call struct {
	method   string
	url      *url.URL
	fields   []field // of the header, besides those of all requests
	body     content // may be nil
	from     int64   // the offset of the body in its content
	kind     wire.Kind
	repo     string
	fromRepo string        // of a mount; may be empty
	ok       []int         // the statuses that are not errors
	unknown  error         // the meaning of status 404 if the response does not say; may be nil
	once     bool          // must not be sent again before its outcome is known
	header   time.Duration // how long the header of the response may take

	own struct { // what most calls need, in one allocation with the call
		url     url.URL
		fields  [3]field
		attempt attempt // the first
	}
}

// A field is a line of a header. The name is in canonical form.
type field struct{ name, value string }

// newCall returns the call for a request, which must be valid. By default, only status
// 200 is a success.
func (c *client) newCall(r wire.Request) *call {
	cl := &call{
		method:   r.Kind.Method(),
		kind:     r.Kind,
		repo:     r.Repository,
		fromRepo: r.FromRepository,
		ok:       statusOK,
		unknown:  unknown(r.Kind),
		header:   c.opts.Timeouts.header(r.Kind),
	}
	cl.own.url = c.base
	cl.own.url.Path, cl.own.url.RawQuery, _ = strings.Cut(r.URL(), "?")
	cl.url, cl.fields = &cl.own.url, cl.own.fields[:0]
	return cl
}

var (
	statusOK       = []int{http.StatusOK}
	statusCreated  = []int{http.StatusCreated, http.StatusOK, http.StatusNoContent}
	statusAccepted = []int{http.StatusAccepted, http.StatusOK, http.StatusNoContent}
	statusChunk    = []int{http.StatusAccepted, http.StatusCreated, http.StatusNoContent, http.StatusOK}
)

// set adds a line to the header. The name must not have been set before.
func (cl *call) set(name, value string) { cl.fields = append(cl.fields, field{name, value}) }

// newHeader returns the header of a request. It stores the values in values while there
// is room.
func (cl *call) newHeader(userAgent string, values []string) http.Header {
	h := make(http.Header, len(cl.fields)+1)
	add := func(name, value string) {
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
	add("User-Agent", userAgent)
	for _, f := range cl.fields {
		add(f.name, f.value)
	}
	return h
}

// RequestInfo returns the access that the call needs, for transports that authenticate.
func (cl *call) RequestInfo() ociauth.RequestInfo {
	on := func(repo, action string) ociauth.ResourceScope {
		return ociauth.ResourceScope{ResourceType: ociauth.TypeRepository, Resource: repo, Action: action}
	}
	var scope ociauth.Scope
	switch cl.kind {
	case wire.Ping:
	case wire.Catalog:
		scope = ociauth.NewScope(ociauth.CatalogScope)
	case wire.BlobDelete, wire.ManifestDelete:
		scope = ociauth.NewScope(on(cl.repo, ociauth.ActionDelete))
	case wire.TagsList, wire.Referrers, wire.BlobGet, wire.BlobHead, wire.ManifestGet, wire.ManifestHead:
		scope = ociauth.NewScope(on(cl.repo, ociauth.ActionPull))
	default:
		scopes := []ociauth.ResourceScope{on(cl.repo, ociauth.ActionPull), on(cl.repo, ociauth.ActionPush)}
		if cl.fromRepo != "" {
			scopes = append(scopes, on(cl.fromRepo, ociauth.ActionPull))
		}
		scope = ociauth.NewScope(scopes...)
	}
	return ociauth.RequestInfo{RequiredScope: scope}
}

// unknown returns the meaning of status 404 for requests of a kind, or nil.
func unknown(k wire.Kind) error {
	switch k {
	case wire.BlobGet, wire.BlobHead, wire.BlobDelete, wire.BlobMount:
		return ociregistry.ErrBlobUnknown
	case wire.ManifestGet, wire.ManifestHead, wire.ManifestDelete:
		return ociregistry.ErrManifestUnknown
	case wire.UploadStatus, wire.UploadChunk, wire.UploadFinish, wire.UploadCancel:
		return ociregistry.ErrBlobUploadUnknown
	case wire.TagsList:
		return ociregistry.ErrNameUnknown
	}
	return nil
}

// do makes a call and returns the response. The caller must close its body. Its Request
// is the last one of a chain of redirects.
func (c *client) do(ctx context.Context, cl *call) (resp *http.Response, err error) {
	err = c.try(ctx, cl, func(r *http.Response) error {
		resp = r
		return nil
	})
	return resp, err
}

// run makes a call and discards the body of the response.
func (c *client) run(ctx context.Context, cl *call) (*http.Response, error) {
	resp, err := c.do(ctx, cl)
	if err != nil {
		return nil, err
	}
	discard(resp.Body)
	return resp, nil
}

// read makes a call and returns the response and its whole body, which must not be larger
// than a manifest may be.
func (c *client) read(ctx context.Context, cl *call) (resp *http.Response, data []byte, err error) {
	err = c.try(ctx, cl, func(r *http.Response) error {
		resp = r
		data, err = readAll(r, c.opts.MaxManifestSize)
		return err
	})
	return resp, data, err
}

// readAll reads a body. The buffer grows with the content, not by the Content-Length.
func readAll(resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	if resp.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	data := make([]byte, 0, min(max(resp.ContentLength, 0), 64<<10)+512)
	for {
		n, err := resp.Body.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case int64(len(data)) > limit:
			return nil, tooLarge(limit)
		case err == io.EOF:
			return data, nil
		case err != nil:
			return nil, fmt.Errorf("reading the answer broke off after %d bytes: %w", len(data), err)
		case len(data) == cap(data):
			data = slices.Grow(data, len(data))
		}
	}
}

func tooLarge(limit int64) error {
	return finalf("the answer is larger than the limit of %d bytes for manifests and lists", limit)
}

// headerOf returns a value in a response's header, or "". The name is in canonical form.
func headerOf(resp *http.Response, name string) string {
	if values := resp.Header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// discard closes the body of a response that nobody wants. It reads a short one, so that
// the connection can be reused.
func discard(body io.ReadCloser) {
	if body == http.NoBody {
		return
	}
	io.CopyN(io.Discard, body, maxErrorBody)
	body.Close()
}

// try makes a call until use succeeds with the response, or the retry policy gives up.
// The function use must close the body, now or later.
func (c *client) try(ctx context.Context, cl *call, use func(*http.Response) error) error {
	r := c.newRetrier()
	renewed := false // the URL of a redirect
	for {
		resp, err := c.send(ctx, cl)
		switch {
		case err != nil && cl.body != nil && cl.body.failure() != nil:
			return cl.body.failure()
		case err != nil:
		case !slices.Contains(cl.ok, resp.StatusCode):
			err = cl.refusal(resp)
		default:
			if err = cl.unproven(resp); err != nil {
				discard(resp.Body)
			} else {
				err = use(resp)
			}
		}
		if err == nil {
			return nil
		}
		if foreignStatus(err) == http.StatusForbidden && cl.method == http.MethodGet && !renewed {
			renewed = true // the registry signs another URL
			continue
		}
		if cl.once {
			return withContextErr(ctx, err)
		}
		if err := r.again(ctx, err); err != nil {
			return err
		}
	}
}

// send makes a call once, and follows redirects.
func (c *client) send(ctx context.Context, cl *call) (*http.Response, error) {
	var via *http.Response
	u := cl.url
	for range maxRedirects {
		a, err := c.newAttempt(ctx, cl, u)
		if err != nil {
			return nil, err
		}
		a.req.Response = via // ociauth looks there for a redirect from https to http
		resp, err := c.roundTrip(ctx, a)
		if err != nil {
			return nil, err
		}
		next, err := redirect(resp, cl.method)
		if err != nil {
			resp.Body.Close()
			return nil, err
		}
		if next == nil {
			return resp, nil
		}
		discard(resp.Body)
		via, u = resp, next
	}
	return nil, finalf("more than %d redirects", maxRedirects)
}

// newAttempt returns an attempt to send a call to u. The caller must send it.
func (c *client) newAttempt(ctx context.Context, cl *call, u *url.URL) (*attempt, error) {
	a := &cl.own.attempt
	if a.c != nil {
		a = new(attempt)
	}
	a.c, a.header = c, cl.header
	req := &http.Request{
		Method:     cl.method,
		URL:        u,
		Host:       u.Host,
		Header:     cl.newHeader(c.opts.UserAgent, a.values[:0]),
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
	}
	if cl.body != nil {
		if err := a.setBody(req, cl.body, cl.from); err != nil {
			return nil, err
		}
	}
	a.ctx.Context, a.cancel = context.WithCancelCause(ctx)
	if wire.SameOrigin(u, &c.base) {
		a.ctx.Source = cl
	}
	a.req = *req.WithContext(&a.ctx)
	return a, nil
}

// setBody makes the content from an offset on the body of a request. A small body fits
// into the server's buffers, so nobody needs to wait for it, and net/http sends it best
// without a wrapper.
func (a *attempt) setBody(req *http.Request, body content, from int64) error {
	size := body.end() - from
	req.ContentLength = size
	first, err := body.open(from)
	switch {
	case err != nil:
		return err
	case size == 0:
		req.Body, req.GetBody = http.NoBody, func() (io.ReadCloser, error) { return http.NoBody, nil }
	case size <= maxSmall:
		req.Body, req.GetBody = first, func() (io.ReadCloser, error) { return body.open(from) }
	default:
		a.sent = sentBody{first, a, size}
		req.Body, req.GetBody = &a.sent, func() (io.ReadCloser, error) {
			again, err := body.open(from)
			return &sentBody{again, a, size}, err
		}
	}
	return nil
}

// roundTrip sends a request when there is a slot for it. The slot is free again at the
// end of the response's body.
func (c *client) roundTrip(ctx context.Context, a *attempt) (*http.Response, error) {
	req := &a.req
	release, err := c.slots.acquire(ctx, req.URL.Host)
	if err != nil {
		a.end()
		return nil, err
	}
	logged := c.opts.Logger.Enabled(ctx, slog.LevelDebug)
	var start time.Time
	if logged {
		start = c.opts.clock.now()
	}
	a.waitForAnswer()
	resp, err := a.answer(c.opts.Transport.RoundTrip(req))
	if logged {
		c.logRequest(req, resp, err, c.opts.clock.now().Sub(start))
	}
	if err != nil {
		release()
		return nil, err
	}
	if wire.SameOrigin(req.URL, &c.base) {
		c.warnings.note(ctx, resp.Header["Warning"])
	}
	resp.Body = c.slots.hold(ctx, resp.Body, release)
	return resp, nil
}
