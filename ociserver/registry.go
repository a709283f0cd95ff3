// Package ociserver serves any [ociregistry.Interface] over HTTP: the OCI
// distribution specification 1.1, what its main branch adds, Docker's
// _catalog, and the parts of RFC 9110 that registries profit from (ranges,
// entity tags, conditional requests).
//
// A complete registry for a test is
//
//	srv := httptest.NewServer(ociserver.New(ocimem.New(), nil))
//
// The handler keeps no state of its own but for the room that bodies have together,
// streams in both directions, and reads from a body no more than it can use. A client
// that does not go on sending, or reading, is let go of in the end: see Options. The handler may be wrapped: behind
// [http.StripPrefix] the locations that it names have the prefix that was
// stripped, and a context with which a middleware replaces the request's ends
// what is under way when it ends.
//
// # Errors
//
// Every error is answered as the specification's section "Error Codes" has it,
// with the status and the code that [ociregistry.MarshalError] finds for what
// the backend returned. With status 429 or 503 goes the Retry-After of the
// response in an [ociregistry.HTTPError], if there is one. A remote registry that
// cannot be reached, or whose answers make no sense (an [ociregistry.OpError] with a
// Registry), makes a 502, or a 504 if that took too long. A backend that panics
// makes a 500.
//
// When content cannot be read to its end, the answer that has begun cannot be
// taken back: the connection is broken, by a panic with
// [http.ErrAbortHandler], so that the client does not take a part for the
// whole.
//
// An answer whose status is 500 or more does not tell what happened: that can have
// paths in it, and addresses of other registries. Its message has a reference, which
// is in the header Error-Reference as well, and in the log beside the error. Only
// what a registry said by itself when it was not available (503) is passed on.
//
// # Ranges
//
// Of a blob, a client may ask for several ranges at once, up to 1024. They are
// answered in the order in which they were asked for, but ranges that overlap are
// one. Ranges that are near each other cost the backend one call.
//
// # Browsers
//
// Whoever may push chooses what is stored, and of what media type. No answer acts
// in the name of the site if it is opened in a browser: each forbids that its type
// is guessed, and has a Content-Security-Policy by which a page has no origin, runs
// nothing and loads nothing.
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

// Options has the settings of a handler. Its zero value is a good one.
type Options struct {
	// Authorize decides what a request may do. See [AuthorizeFunc]. If it is
	// nil, everything may be done.
	Authorize AuthorizeFunc

	// OnEvent is called for each push, pull, mount and delete that succeeded,
	// before a push, mount or delete is answered and after what is pulled was
	// sent. The context is the request's. It may be called from many
	// goroutines at once, and the request waits for it.
	OnEvent func(ctx context.Context, e Event)

	// Namespace returns the backend for requests that read from a repository
	// which the client knows by the host ns: the query parameter of that name
	// in the specification's section "Registry Proxying". Where it returns
	// false, the repository is unknown. If it is nil, the parameter is ignored.
	// Authorize comes first, and finds the parameter in its request.
	Namespace func(ns string) (ociregistry.Interface, bool)

	// Logger gets a record for each request that failed, at level Error where
	// the fault is on this side, and for other oddities. No record has content,
	// credentials or the id of an upload. If it is nil, nothing is logged.
	Logger *slog.Logger

	// AllowedOrigins are the origins of web pages that may use the registry from
	// a browser, such as "https://ui.example.com", or "*" for all. To pages of an
	// origin that is named, and to no others, browsers send along the credentials
	// that they keep for the registry. If it is empty, there are none.
	AllowedOrigins []string

	// MaxManifestSize is the size in bytes of the largest manifest that may be
	// pushed: another is answered with status 413. Zero stands for
	// DefaultMaxManifestSize; negative for no limit.
	MaxManifestSize int64

	// MaxBlobSize is the size in bytes of the largest blob that may be pushed:
	// another is answered with status 413. Zero stands for no limit.
	MaxBlobSize int64

	// ManifestTimeout is how long a client may take to send a manifest. One that
	// takes longer is answered with status 408. Zero stands for a minute; negative
	// for no bound.
	ManifestTimeout time.Duration

	// BlobTimeout is how long a client that sends a blob, or a chunk of one, may
	// send nothing before it is answered with status 408. It may be as slow as it
	// likes beside that. Zero stands for five minutes; negative for no bound.
	BlobTimeout time.Duration

	// AnswerTimeout is how long a client may take for the next part of an answer before
	// its connection is broken: for 64 KiB, up to 1 MiB once it has been quick, or the
	// rest. Time in which there is nothing to send does not count. Over HTTP/2 this is
	// about each stream; for a connection of which nothing is read at all, see
	// [http.HTTP2Config]'s WriteByteTimeout. A WriteTimeout of the [http.Server] holds
	// as well. Zero stands for five minutes; negative for no bound.
	AnswerTimeout time.Duration

	// ManifestMemory is how many bytes of manifests may be on their way at a time:
	// half of them in manifests of up to 64 KiB, half in larger ones, of which one
	// by itself may be larger than that. Bytes count from when they have come. Zero
	// stands for 32 MiB; negative for no limit.
	ManifestMemory int64

	// ManifestWait is how long a manifest waits, in the middle of its body, until
	// there is room for more of it. If there is none then, it is answered with
	// status 503 and Retry-After. Zero stands for ten seconds; negative for no
	// bound but ManifestTimeout.
	ManifestWait time.Duration

	// ReferrersPageSize is how many referrers an answer lists at most; the
	// others can be had by its Link. Zero stands for 1000. However many they
	// are, an answer ends at 4 MiB.
	ReferrersPageSize int

	// WriteError answers req with err in place of [ociregistry.WriteError].
	// Headers that belong to the error, such as WWW-Authenticate and Allow, are
	// set already. Where the answer is not to tell what happened (see Errors), err
	// wraps that, and has the message that may be answered.
	WriteError func(w http.ResponseWriter, req *http.Request, err error)

	// LocationForUploadID returns the URL at which the upload session with that
	// id, which is a [ociregistry.BlobWriter]'s, goes on: for clients that are
	// to push to another server than this one. If it is nil or returns an empty
	// string, the session goes on here.
	LocationForUploadID func(id string) (string, error)

	// LocationsForDescriptor returns URLs from which content can be had. The
	// first is the Location in the answer to a push, and a GET for a blob is
	// redirected there. If it is nil or returns nothing, content is had here.
	LocationsForDescriptor func(isManifest bool, desc ociregistry.Descriptor) ([]string, error)

	// The options below imitate registries that do less.

	// DisableReferrersAPI makes the referrers API unknown: it is answered with
	// status 404, and a manifest's subject is not acknowledged. A backend whose
	// Referrers is unsupported needs it, so that clients keep lists of their own.
	DisableReferrersAPI bool

	// DisableReferrersFiltering makes the referrers API ignore artifactType.
	DisableReferrersFiltering bool

	// DisableSinglePostUpload makes a POST that has a whole blob begin an
	// upload session instead, as the specification allows.
	DisableSinglePostUpload bool

	// MaxListPageSize, if it is greater than zero, is how many elements a
	// client may ask for in a list. To ask for more is an error, as in AWS ECR.
	MaxListPageSize int

	// IgnorePagination makes lists complete, whatever is asked for.
	IgnorePagination bool

	// OmitDigestFromTagGetResponse leaves the digest out of the answer to a GET
	// of a manifest by tag, as AWS ECR does.
	OmitDigestFromTagGetResponse bool

	// OmitLinkHeaderFromResponses leaves the Link header out of lists, so that
	// clients have to use the parameter last. A list that is asked for without
	// the parameter n is complete then.
	OmitLinkHeaderFromResponses bool
}

// DefaultMaxManifestSize is the limit for manifests where Options has none. The
// specification asks for this much at least.
const DefaultMaxManifestSize = 4 << 20

// New returns a handler that serves backend. Its paths begin with "/v2/", so it
// belongs at the root of a site, or behind an [http.StripPrefix]. If opts is
// nil, it stands for the zero Options.
func New(backend ociregistry.Interface, opts *Options) http.Handler {
	s := &server{backend: backend}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Logger == nil {
		s.opts.Logger = slog.New(slog.DiscardHandler)
	}
	if s.opts.MaxManifestSize == 0 {
		s.opts.MaxManifestSize = DefaultMaxManifestSize
	}
	s.opts.ManifestTimeout = cmp.Or(s.opts.ManifestTimeout, time.Minute)
	s.opts.BlobTimeout = cmp.Or(s.opts.BlobTimeout, 5*time.Minute)
	s.opts.AnswerTimeout = cmp.Or(s.opts.AnswerTimeout, 5*time.Minute)
	s.room = newRoom(cmp.Or(s.opts.ManifestMemory, 32<<20), cmp.Or(s.opts.ManifestWait, 10*time.Second))
	if s.opts.ReferrersPageSize <= 0 {
		s.opts.ReferrersPageSize = defaultPageSize
	}
	return s
}

type server struct {
	backend ociregistry.Interface
	opts    Options
	room    *room // for the manifests of all requests
}

// exchange is a request and the answer to it.
type exchange struct {
	wire.Request
	opts      *Options
	room      *room
	backend   ociregistry.Interface // the one that the request is for
	may       func(Access) bool     // what Options.Authorize returned; may be nil
	w         http.ResponseWriter
	req       *http.Request
	start     time.Time
	bodyEnded bool // the request's body was read to its end
	begun     bool // the status was written
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
	x := &exchange{opts: &s.opts, room: s.room, backend: s.backend, w: w, req: withoutAllowances(req), start: time.Now()}
	defer x.recoverPanic()
	x.secure()
	x.setCORS()
	if err := x.serve(); err != nil {
		x.fail(err)
	}
}

// withoutAllowances returns req without what its context may allow: that is for
// who has the backend, not for clients.
func withoutAllowances(req *http.Request) *http.Request {
	ctx := req.Context()
	if !ociregistry.MissingAllowed(ctx) && !ociregistry.InUseAllowed(ctx) {
		return req
	}
	return req.WithContext(ociregistry.WithoutAllowances(ctx))
}

// serve answers the request, or returns an error before it has begun to.
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

// setVersion says what this is a server of, for Docker: it looks at the answer
// to a ping, and at errors.
func (x *exchange) setVersion() {
	x.header()["Docker-Distribution-Api-Version"] = version
}

// secure makes the answer one that does nothing in a browser.
func (x *exchange) secure() {
	h := x.header()
	h["X-Content-Type-Options"] = noSniff
	h["Content-Security-Policy"] = sandbox
}

// The values of headers that do not change. They are shared by all answers.
var (
	version      = []string{"registry/2.0"}
	noSniff      = []string{"nosniff"}
	sandbox      = []string{"sandbox; default-src 'none'"}
	acceptRanges = []string{"bytes"}
)

func (x *exchange) ctx() context.Context { return x.req.Context() }

func (x *exchange) header() http.Header { return x.w.Header() }

// writeHeader begins the answer. Errors cannot be answered from then on.
func (x *exchange) writeHeader(status int) {
	x.finishBody()
	x.expect()
	x.begun = true
	x.w.WriteHeader(status)
}
