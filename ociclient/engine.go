package ociclient

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

// call is a request as the method that makes it describes it. How it is sent,
// how often, and where else than asked, is the engine's to decide.
type call struct {
	method  string
	url     *url.URL
	fields  []field       // of the header, beside those that all requests have
	body    content       // may be nil
	from    int64         // the offset of the body in its content
	scope   ociauth.Scope // what the registry has to allow
	ok      []int         // the statuses that are no errors
	unknown error         // what status 404 means where the answer does not say; may be nil
	once    bool          // it must not be sent again before it is known what became of it

	own struct { // what most calls need, in one piece of memory with them
		url    url.URL
		fields [3]field
	}
}

// field is a line of a header. The name is in canonical form.
type field struct{ name, value string }

// newCall returns the call for a request that was checked. Its only good status
// is 200.
func (c *client) newCall(r wire.Request) *call {
	cl := &call{
		method:  r.Kind.Method(),
		scope:   scopeOf(&r),
		ok:      statusOK,
		unknown: unknown(r.Kind),
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

// set sets a line of the header that was not set before.
func (cl *call) set(name, value string) { cl.fields = append(cl.fields, field{name, value}) }

// newHeader returns the header of a request, all of it in few allocations.
func (cl *call) newHeader(userAgent string) http.Header {
	h := make(http.Header, len(cl.fields)+1)
	values := make([]string, 0, len(cl.fields)+1)
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

// scopeOf returns what a registry has to allow for a request.
func scopeOf(r *wire.Request) ociauth.Scope {
	on := func(repo, action string) ociauth.ResourceScope {
		return ociauth.ResourceScope{ResourceType: ociauth.TypeRepository, Resource: repo, Action: action}
	}
	switch r.Kind {
	case wire.Ping:
		return ociauth.Scope{}
	case wire.Catalog:
		return ociauth.NewScope(ociauth.CatalogScope)
	case wire.BlobDelete, wire.ManifestDelete:
		return ociauth.NewScope(on(r.Repo, ociauth.ActionDelete))
	case wire.TagsList, wire.Referrers, wire.BlobGet, wire.BlobHead, wire.ManifestGet, wire.ManifestHead:
		return ociauth.NewScope(on(r.Repo, ociauth.ActionPull))
	}
	scope := []ociauth.ResourceScope{on(r.Repo, ociauth.ActionPull), on(r.Repo, ociauth.ActionPush)}
	if r.FromRepo != "" {
		scope = append(scope, on(r.FromRepo, ociauth.ActionPull))
	}
	return ociauth.NewScope(scope...)
}

// unknown returns what a 404 means for requests of a kind.
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

// do makes a call and returns the response, whose body has to be closed. The
// response's Request is the last one of a chain of redirects.
func (c *client) do(ctx context.Context, cl *call) (resp *http.Response, err error) {
	err = c.try(ctx, cl, func(r *http.Response) error {
		resp = r
		return nil
	})
	return resp, err
}

// run makes a call of whose response only the header matters.
func (c *client) run(ctx context.Context, cl *call) (*http.Response, error) {
	resp, err := c.do(ctx, cl)
	if err != nil {
		return nil, err
	}
	discard(resp.Body)
	return resp, nil
}

// read makes a call and returns the whole body of the response, which must not
// be larger than a manifest may be.
func (c *client) read(ctx context.Context, cl *call) (resp *http.Response, data []byte, err error) {
	err = c.try(ctx, cl, func(r *http.Response) error {
		resp = r
		data, err = readAll(r, c.opts.MaxManifestSize)
		return err
	})
	return resp, data, err
}

// readAll reads a body. The buffer grows with what comes, and not by what was
// announced.
func readAll(resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	if resp.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	var buf bytes.Buffer
	buf.Grow(int(min(max(resp.ContentLength, 0), 64<<10)) + bytes.MinRead)
	n, err := buf.ReadFrom(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the answer broke off after %d bytes: %w", n, err)
	case n > limit:
		return nil, tooLarge(limit)
	}
	return buf.Bytes(), nil
}

func tooLarge(limit int64) error {
	return finalf("the answer is larger than the limit of %d bytes for manifests and lists", limit)
}

// discard closes the body of a response that does not matter. A short one is
// read, so that its connection can be used again.
func discard(body io.ReadCloser) {
	if body == http.NoBody {
		return
	}
	io.CopyN(io.Discard, body, maxErrorBody)
	body.Close()
}

// try makes a call, until use has succeeded with the response or it is no use to
// go on. The function use has to close the body, now or later.
func (c *client) try(ctx context.Context, cl *call, use func(*http.Response) error) error {
	r := c.newRetrier()
	for {
		resp, err := c.send(ctx, cl)
		switch {
		case err != nil && cl.body != nil && cl.body.failure() != nil:
			return cl.body.failure()
		case err != nil:
		case !slices.Contains(cl.ok, resp.StatusCode):
			err = responseError(resp, cl.unknown)
		default:
			err = use(resp)
		}
		if err == nil {
			return nil
		}
		if cl.once {
			return ended(ctx, err)
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
		req, err := c.newRequest(ctx, cl, u)
		if err != nil {
			return nil, err
		}
		req.Response = via // ociauth looks there for a step down from https
		resp, err := c.roundTrip(req)
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

func (c *client) newRequest(ctx context.Context, cl *call, u *url.URL) (*http.Request, error) {
	trusted := sameOrigin(u, &c.base)
	if trusted && cl.scope.Len() > 0 {
		ctx = ociauth.ContextWithRequestInfo(ctx, ociauth.RequestInfo{RequiredScope: cl.scope})
	}
	req := (&http.Request{
		Method:     cl.method,
		URL:        u,
		Host:       u.Host,
		Header:     cl.newHeader(c.opts.UserAgent),
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
	}).WithContext(ctx)
	if cl.body == nil {
		return req, nil
	}
	req.ContentLength = cl.body.end() - cl.from
	req.GetBody = func() (io.ReadCloser, error) { return cl.body.open(cl.from) }
	var err error
	req.Body, err = req.GetBody()
	if req.ContentLength == 0 {
		req.Body, req.GetBody = http.NoBody, func() (io.ReadCloser, error) { return http.NoBody, nil }
	}
	return req, err
}

// roundTrip sends a request when there is a slot for it, which the response's
// body frees.
func (c *client) roundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	release, err := c.slots.acquire(ctx, req.URL.Host)
	if err != nil {
		return nil, err
	}
	start := c.opts.clock.now()
	resp, err := c.opts.Transport.RoundTrip(req)
	if c.opts.Logger.Enabled(ctx, slog.LevelDebug) {
		c.logRequest(req, resp, err, c.opts.clock.now().Sub(start))
	}
	if err != nil {
		release()
		return nil, err
	}
	resp.Request = req
	if sameOrigin(req.URL, &c.base) {
		c.warnings.note(ctx, resp.Header["Warning"])
	}
	resp.Body = c.slots.hold(ctx, resp.Body, release)
	return resp, nil
}
