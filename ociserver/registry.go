// Package ociserver serves any [ociregistry.Interface] over HTTP. It implements the
// OCI distribution specification 1.1 and the additions of its main branch, Docker's
// _catalog, and the parts of RFC 9110 that are useful to registries: ranges, entity
// tags and conditional requests.
//
// A complete registry for a test is
//
//	srv := httptest.NewServer(ociserver.New(ocimem.New(), nil))
//
// The handler streams in both directions and reads no more of a body than it can
// use. Its only state is the memory that the manifests of all requests share. A
// client that stops sending or reading is disconnected in the end: see [Options].
//
// The handler may be wrapped. Behind [http.StripPrefix], the locations in its
// answers keep the stripped prefix. If a middleware replaces the context of a
// request, the request ends with the new context.
//
// # Errors
//
// Every error is answered in the form of the specification's section "Error Codes",
// with the status and the code that [ociregistry.MarshalError] finds for the
// backend's error. An answer with status 429 or 503 has the Retry-After header of
// the response in an [ociregistry.HTTPError], if there is one. An error of a remote
// registry (an [ociregistry.OpError] with a Registry) that has neither a code nor a
// status is answered with 502, or with 504 if it is a timeout. A backend that panics
// is answered with 500.
//
// When content cannot be read to its end, the answer has begun and cannot be taken
// back. The handler then breaks the connection, by a panic with
// [http.ErrAbortHandler], so that the client does not mistake a part for the whole.
//
// An answer whose status is 500 or more does not tell what happened, because the
// error can contain paths and addresses of other registries. Its message contains a
// reference, which is also in the header Error-Reference and in the log beside the
// error. The one exception is what a registry says about itself when it is
// unavailable (503): that is passed on.
//
// # Ranges
//
// A client may ask for up to 1024 ranges of a blob at once. They are answered in the
// order of the request, except that overlapping ranges are merged. Ranges that are
// near each other cost the backend one call.
//
// # Browsers
//
// Everyone who may push chooses the content and its media type. An answer that is
// opened in a browser must not act in the name of the site. So each answer forbids
// guessing its type, and has a Content-Security-Policy that gives a page no origin
// and lets it run and load nothing.
package ociserver

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Options has the settings of a handler. The zero value is ready to use.
type Options struct {
	// Authorize decides what a request may do. See [AuthorizeFunc]. If it is
	// nil, every request is allowed.
	Authorize AuthorizeFunc

	// OnEvent is called for each push, pull, mount and delete that succeeded:
	// for a pull after the content was sent, for the others before the answer.
	// The context is that of the request, which waits for the call to return.
	// OnEvent may be called from several goroutines at once. If it is nil, there
	// are no events.
	OnEvent func(ctx context.Context, e Event)

	// OnFailure is called for each pull, push, mount and delete that failed, before the
	// answer if that has not begun. A request of an upload session that failed is a push
	// that failed, even if the client continues the session afterwards. Requests that are
	// never events, such as HEADs and lists, are no failures either, and neither are those
	// that are not well formed. For one request, at most one of OnEvent and OnFailure is
	// called, and once.
	//
	// The error is what went wrong: the refusal by Authorize, the error of the backend, or
	// what was wrong with the request's body. Unlike the answer, it may tell what the client
	// must not know. [ociregistry.MarshalError] returns the status of the answer. If the
	// client goes away or does not read, that is StatusClientGone, unless the error has
	// another code; the context has usually ended then. After a panic of the backend or a
	// hook, the status is 500, or the error is [http.ErrAbortHandler] if that was the
	// panic's value.
	//
	// OnFailure may be called from several goroutines at once. If it is nil, nothing is
	// told.
	OnFailure func(ctx context.Context, e Event, err error)

	// Namespace returns the backend for requests that read and have the query
	// parameter ns, the host by which the client knows the repository (see the
	// specification's section "Registry Proxying"). If it returns false, the
	// repository is unknown. If Namespace is nil, the parameter is ignored.
	// Authorize is called before, and finds the parameter in its request.
	Namespace func(ns string) (ociregistry.Interface, bool)

	// Logger receives a record for each request that failed, at level Error if
	// the client is not to blame, and for unusual requests that succeeded. No
	// record contains content, credentials or upload ids. If it is nil, nothing is
	// logged.
	Logger *slog.Logger

	// DebugID is the attribute "server" of log records. Empty means no attribute.
	DebugID string

	// AllowedOrigins lists the origins of web pages that may use the registry from
	// a browser, such as "https://ui.example.com", or "*" for all. Browsers add the
	// credentials that they keep for the registry only for origins that are listed
	// by name. If it is empty, no other origin may use the registry.
	AllowedOrigins []string

	// MaxManifestSize is the size in bytes of the largest manifest that may be
	// pushed. A larger one is answered with status 413. Zero means
	// DefaultMaxManifestSize. A negative value means no limit.
	MaxManifestSize int64

	// MaxBlobSize is the size in bytes of the largest blob that may be pushed.
	// A larger one is answered with status 413. Zero means no limit.
	MaxBlobSize int64

	// ManifestTimeout is the time in which a client must send all of a manifest.
	// One that takes longer is answered with status 408. Zero means a minute. A
	// negative value means no limit.
	ManifestTimeout time.Duration

	// BlobTimeout is the time in which the next byte of a blob or a chunk must
	// arrive. A client that sends nothing for longer is answered with status 408. A
	// client that merely sends slowly may take any time. Zero means five minutes. A
	// negative value means no limit.
	BlobTimeout time.Duration

	// AnswerTimeout is the time in which a client must read the next part of an answer
	// before its connection is broken: 64 KiB, up to 1 MiB for a client that has been
	// quick, or the rest. Time in which there is nothing to send does not count. Over
	// HTTP/2 the limit applies to each stream; for a connection of which nothing is read
	// at all, see the WriteByteTimeout of [http.HTTP2Config]. A WriteTimeout of the
	// [http.Server] applies as well. Zero means five minutes. A negative value means no
	// limit.
	AnswerTimeout time.Duration

	// ManifestMemory is the maximum number of bytes of manifests in memory at the same
	// time: half of them for manifests of up to 64 KiB, half for larger ones. A
	// manifest that is the only one in its half may be larger than that. Bytes count
	// from their arrival. Zero means 32 MiB. A negative value means no limit.
	ManifestMemory int64

	// ManifestWait is the time for which a manifest waits, in the middle of its
	// body, for ManifestMemory that others use. After that it is answered with status
	// 503 and Retry-After. Zero means ten seconds. A negative value means no limit
	// other than ManifestTimeout.
	ManifestWait time.Duration

	// ReferrersPageSize is the maximum number of referrers in an answer. Its Link
	// header leads to the others. An answer also ends at 4 MiB. Zero means 1000.
	ReferrersPageSize int

	// WriteError answers req with err in place of [ociregistry.WriteError].
	// Headers that belong to the error, such as WWW-Authenticate and Allow, are
	// already set. If the answer must not tell what happened (see the section Errors
	// of the package), the message of err is the one for the client, and err wraps
	// the cause.
	WriteError func(w http.ResponseWriter, req *http.Request, err error)

	// LocationForUploadID returns the URL at which a client continues the upload
	// session with the given ID of a [ociregistry.BlobWriter], so that clients can
	// push to another server than this one. If it is nil or returns an empty string,
	// the session continues here.
	LocationForUploadID func(id string) (string, error)

	// BlobRedirect returns a URL, relative or not, that serves a blob, such as a presigned
	// URL of object storage, and until when it does; the zero time means that the URL does
	// not expire. A GET of the blob is redirected there, with the ranges that it asks for,
	// and the answer may be kept that long. The backend was not asked before, so that
	// storage need not be asked twice: BlobRedirect returns an error, such as
	// [ociregistry.ErrBlobUnknown], if the blob is not in the repository. If it is nil or
	// returns an empty string, LocationsForDescriptor decides. It is not called for a request
	// that Namespace has a backend for. The URL is in no log.
	BlobRedirect func(ctx context.Context, repo string, digest ociregistry.Digest) (location string, expires time.Time, err error)

	// LocationsForDescriptor returns URLs that serve the given content. The first
	// is the Location in the answer to a push, and a GET of a blob is redirected
	// there. If it is nil or returns nothing, content is served here.
	LocationsForDescriptor func(isManifest bool, desc ociregistry.Descriptor) ([]string, error)

	// The options below imitate registries with fewer features.

	// DisableReferrersAPI answers requests to the referrers API with status 404,
	// and does not acknowledge the subject of a manifest. Set it for a backend whose
	// Referrers method is unsupported, so that clients maintain the lists themselves.
	DisableReferrersAPI bool

	// DisableReferrersFiltering ignores the parameter artifactType of the
	// referrers API.
	DisableReferrersFiltering bool

	// DisableSinglePostUpload starts an upload session for a POST that contains a
	// whole blob, as the specification allows.
	DisableSinglePostUpload bool

	// MaxListPageSize is the maximum number of elements that a client may ask for
	// in a list. Asking for more is an error, as in AWS ECR. Zero means no limit; a
	// page then has at most 10,000 elements.
	MaxListPageSize int

	// IgnorePagination answers with complete lists, whatever page is asked for.
	IgnorePagination bool

	// OmitDigestFromTagGetResponse leaves the digest out of the answer to a GET
	// of a manifest by tag, as AWS ECR does.
	OmitDigestFromTagGetResponse bool

	// OmitLinkHeaderFromResponses leaves the Link header out of lists, so that
	// clients must use the parameter last. A list that is asked for without the
	// parameter n is then complete.
	OmitLinkHeaderFromResponses bool
}

// DefaultMaxManifestSize is the limit for manifests in bytes when Options does not
// say. It is the minimum that the specification asks for.
const DefaultMaxManifestSize = 4 << 20

// New returns a handler that serves backend. Its paths begin with "/v2/", so it
// belongs at the root of a site, or behind an [http.StripPrefix]. Nil opts are
// the zero Options.
func New(backend ociregistry.Interface, opts *Options) http.Handler {
	s := &server{backend: backend}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Logger == nil {
		s.opts.Logger = slog.New(slog.DiscardHandler)
	}
	if s.opts.DebugID != "" {
		s.opts.Logger = s.opts.Logger.With(slog.String("server", s.opts.DebugID))
	}
	if s.opts.MaxManifestSize == 0 {
		s.opts.MaxManifestSize = DefaultMaxManifestSize
	}
	s.opts.ManifestTimeout = cmp.Or(s.opts.ManifestTimeout, time.Minute)
	s.opts.BlobTimeout = cmp.Or(s.opts.BlobTimeout, 5*time.Minute)
	s.opts.AnswerTimeout = cmp.Or(s.opts.AnswerTimeout, 5*time.Minute)
	s.memory = newManifestMemory(cmp.Or(s.opts.ManifestMemory, 32<<20), cmp.Or(s.opts.ManifestWait, 10*time.Second))
	if s.opts.ReferrersPageSize <= 0 {
		s.opts.ReferrersPageSize = defaultPageSize
	}
	return s
}

type server struct {
	backend ociregistry.Interface
	opts    Options
	memory  *manifestMemory // shared by all requests
}

// exchange is a request and the answer to it.
type exchange struct {
	wire.Request
	opts      *Options
	memory    *manifestMemory
	backend   ociregistry.Interface // see chooseBackend
	elsewhere bool                  // the backend is that of a namespace
	may       func(Access) bool     // as Options.Authorize returned it; may be nil
	w         http.ResponseWriter
	req       *http.Request
	start     time.Time
	body      *body // if it was opened
	bodyEnded bool  // the request's body was read to its end
	begun     bool  // the status was written
	told      bool  // a hook was called for the request's event
}

var handlers = [...]func(*exchange) error{
	wire.Ping:           (*exchange).ping,
	wire.Catalog:        (*exchange).listRepositories,
	wire.TagsList:       (*exchange).listTags,
	wire.Referrers:      (*exchange).listReferrers,
	wire.BlobGet:        (*exchange).getBlob,
	wire.BlobHead:       (*exchange).headBlob,
	wire.BlobDelete:     (*exchange).deleteBlob,
	wire.BlobPost:       (*exchange).postBlob,
	wire.BlobMount:      (*exchange).mountBlob,
	wire.UploadStart:    (*exchange).startUpload,
	wire.UploadStatus:   (*exchange).uploadStatus,
	wire.UploadChunk:    (*exchange).uploadChunk,
	wire.UploadFinish:   (*exchange).finishUpload,
	wire.UploadCancel:   (*exchange).cancelUpload,
	wire.ManifestGet:    (*exchange).getManifest,
	wire.ManifestHead:   (*exchange).headManifest,
	wire.ManifestPut:    (*exchange).putManifest,
	wire.ManifestDelete: (*exchange).deleteManifest,
}

func (s *server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	x := &exchange{opts: &s.opts, memory: s.memory, backend: s.backend, w: w, req: withoutAllowances(req), start: time.Now()}
	defer x.recoverPanic()
	x.setSecurity()
	x.setCORS()
	if err := x.serve(); err != nil {
		x.fail(err)
	}
}

// withoutAllowances returns req with a context that has no allowances, such as
// [ociregistry.AllowMissing]. They are for the owner of the backend, not for clients.
func withoutAllowances(req *http.Request) *http.Request {
	ctx := req.Context()
	if !ociregistry.MissingAllowed(ctx) && !ociregistry.InUseAllowed(ctx) {
		return req
	}
	return req.WithContext(ociregistry.WithoutAllowances(ctx))
}

// serve answers the request, or returns an error before it begins the answer.
func (x *exchange) serve() (err error) {
	if x.Request, err = wire.ParseRequest(x.req.Method, x.req.URL); err != nil {
		var other *wire.MethodError
		if x.req.Method == http.MethodOptions && errors.As(err, &other) {
			x.answerOptions(other.Allow)
			return nil
		}
		return err
	}
	if err := x.authorize(); err != nil {
		return err
	}
	if err := x.chooseBackend(); err != nil {
		return err
	}
	return handlers[x.Kind](x)
}

func (x *exchange) ping() error {
	x.setVersion()
	x.writeHeader(http.StatusOK)
	return nil
}

// setVersion sets the header by which Docker recognizes a registry. Docker looks for
// it in the answer to a ping and in errors.
func (x *exchange) setVersion() {
	x.header()["Docker-Distribution-Api-Version"] = version
}

// setSecurity sets the headers that make an answer harmless in a browser.
func (x *exchange) setSecurity() {
	h := x.header()
	h["X-Content-Type-Options"] = noSniff
	h["Content-Security-Policy"] = sandbox
}

// Values of headers that all answers share.
var (
	version      = []string{"registry/2.0"}
	noSniff      = []string{"nosniff"}
	sandbox      = []string{"sandbox; default-src 'none'"}
	acceptRanges = []string{"bytes"}
)

func (x *exchange) ctx() context.Context { return x.req.Context() }

func (x *exchange) header() http.Header { return x.w.Header() }

// writeHeader begins the answer. After it, errors cannot be answered.
func (x *exchange) writeHeader(status int) {
	x.finishBody()
	x.extendWriteDeadline()
	x.begun = true
	x.w.WriteHeader(status)
}
