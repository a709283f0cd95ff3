package ociweb

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// Options has the settings of a handler. The zero value is ready to use.
type Options struct {
	// Authorize decides what a request may see, as the option of [ociserver.Options] does,
	// which is usually the same function. It is called once for each page: with
	// [ociserver.ActionList] of the whole registry for the list of repositories, and with
	// [ociserver.ActionPull] of a repository for its pages. A function that asks for tokens
	// (the Bearer scheme) is not for browsers, which have none. If it is nil, every request
	// is allowed.
	Authorize ociserver.AuthorizeFunc

	// Remote says that the registry is a cache or a proxy of another one, which the pages
	// should not make it ask for more than people have. Tags are then shown without what
	// their manifests say, and MaxNames is small.
	Remote bool

	// MaxNames is the maximum number of names that a page reads of a list of repositories or
	// tags. A search continues on the next page. Tags of a repository that has more of them
	// are in byte order, because their order as versions requires all. Zero means
	// DefaultMaxNames, or DefaultMaxRemoteNames for a registry that is Remote.
	MaxNames int

	// ShareList lets a page that reads more than 256 names of the list of repositories go on in
	// the list that another page has read up to five seconds before, whoever had asked for that.
	// It makes searches fast where a list is long. It is not for a registry whose list depends on
	// the context of the call, as on the user in it. Authorize is asked again for each name.
	ShareList bool

	// MaxManifestSize is the size in bytes of the largest manifest that the pages read. Of a
	// larger one they show what is known without. Zero means
	// [ociserver.DefaultMaxManifestSize].
	MaxManifestSize int64

	// Host is the host, and the port if it has one, that clients pull from. If it is empty,
	// it is the one that a request was sent to.
	Host string

	// AnswerTimeout is the time in which a client must read a page before its connection is
	// broken. Zero means five minutes. A negative value means no limit.
	AnswerTimeout time.Duration

	// Concurrency is the maximum number of pages that are made at the same time, which bounds
	// the memory and the work that they need. Others wait for their turn, up to ten seconds,
	// and are then answered with status 503. Zero means DefaultConcurrency. A negative value
	// means no limit.
	Concurrency int

	// Logger receives a record for each page that could not be shown because of the
	// registry, at level Error. No record contains content or credentials. If it is nil,
	// nothing is logged.
	Logger *slog.Logger
}

// Defaults of [Options].
const (
	DefaultMaxNames       = 100_000
	DefaultMaxRemoteNames = 1000
	DefaultConcurrency    = 16
)

// New returns a handler with the pages of registry. Nil opts are the zero Options.
func New(registry ociregistry.Interface, opts *Options) http.Handler {
	s := &server{registry: registry}
	if opts != nil {
		s.opts = *opts
	}
	switch {
	case s.opts.MaxNames > 0:
	case s.opts.Remote:
		s.opts.MaxNames = DefaultMaxRemoteNames
	default:
		s.opts.MaxNames = DefaultMaxNames
	}
	s.opts.MaxManifestSize = cmp.Or(s.opts.MaxManifestSize, ociserver.DefaultMaxManifestSize)
	s.opts.AnswerTimeout = cmp.Or(s.opts.AnswerTimeout, 5*time.Minute)
	if n := cmp.Or(s.opts.Concurrency, DefaultConcurrency); n > 0 {
		s.turns = make(chan struct{}, n)
	}
	if s.opts.Logger == nil {
		s.opts.Logger = slog.New(slog.DiscardHandler)
	}
	return s
}

type server struct {
	registry ociregistry.Interface
	opts     Options
	shared   shared
	turns    chan struct{} // has a value for each page that is being made; nil means no limit
}

// exchange is a request and the answer to it.
type exchange struct {
	*server
	target
	ctx context.Context
	w   http.ResponseWriter
	req *http.Request
	may func(ociserver.Access) bool // as Options.Authorize returned it; may be nil
	now time.Time
}

// content answers for each kind of page.
var content = map[kind]func(*exchange) (page, error){
	repositoriesKind: (*exchange).repositories,
	manifestKind:     (*exchange).tagsOrManifest,
	compareKind:      (*exchange).compare,
	jsonKind:         (*exchange).json,
}

func (s *server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	ctx := ociregistry.WithInspection(ociregistry.WithoutAllowances(req.Context()))
	x := &exchange{server: s, ctx: ctx, w: w, req: req, now: time.Now()}
	defer x.recoverPanic()
	x.setSecurity()
	if err := x.serve(); err != nil {
		x.fail(err)
	}
}

// serve answers the request, or returns an error before it begins the answer.
func (x *exchange) serve() error {
	path := x.req.URL.Path
	if x.req.Method != http.MethodGet && x.req.Method != http.MethodHead {
		return x.otherMethod(path)
	}
	if path == "" {
		x.redirectToRoot()
		return nil
	}
	if f, ok := files[path]; ok {
		x.sendFile(f)
		return nil
	}
	var ok bool
	if x.target, ok = parseTarget(path); !ok {
		return errNoPage
	}
	if err := x.authorize(); err != nil {
		return err
	}
	body, err := x.compose()
	if err == nil {
		x.sendPage(http.StatusOK, body)
	}
	return err
}

// compose makes a page when it is its turn.
func (x *exchange) compose() ([]byte, error) {
	if x.turns != nil {
		if err := x.wait(); err != nil {
			return nil, err
		}
		defer func() { <-x.turns }()
	}
	p, err := content[x.kind](x)
	if err != nil {
		return nil, err
	}
	return x.render(p)
}

// maxWait is how long a page waits for its turn.
const maxWait = 10 * time.Second

func (x *exchange) wait() error {
	select {
	case x.turns <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case x.turns <- struct{}{}:
		return nil
	case <-timer.C:
	case <-x.ctx.Done():
	}
	x.w.Header().Set("Retry-After", "10")
	return &pageError{http.StatusServiceUnavailable, "Many pages are being made. Try again in a moment."}
}

// otherMethod refuses what neither reads nor asks for a page that there could be.
func (x *exchange) otherMethod(path string) error {
	if _, ok := parseTarget(path); !ok {
		return errNoPage
	}
	x.w.Header().Set("Allow", "GET, HEAD")
	return &pageError{http.StatusMethodNotAllowed, "Pages can only be read."}
}

// redirectToRoot sends a browser from a prefix without a slash, which its server has stripped,
// to the page whose relative links are right.
func (x *exchange) redirectToRoot() {
	location := "/"
	if path, _, _ := strings.Cut(x.req.RequestURI, "?"); strings.HasPrefix(path, "/") {
		location = "./" + path[strings.LastIndexByte(path, '/')+1:] + "/"
	}
	x.w.Header().Set("Location", location)
	x.w.WriteHeader(http.StatusTemporaryRedirect)
}

// authorize calls Options.Authorize.
func (x *exchange) authorize() (err error) {
	if x.opts.Authorize == nil {
		return nil
	}
	want := ociserver.Access{Repository: x.repo, Action: ociserver.ActionPull}
	if x.kind == repositoriesKind {
		want.Action = ociserver.ActionList
	}
	if x.may, err = x.opts.Authorize(x.req, []ociserver.Access{want}); err != nil {
		return &refusal{err}
	}
	return nil
}

// mayPull reports whether the client may pull from repo.
func (x *exchange) mayPull(repo string) bool {
	if x.opts.Authorize == nil {
		return true
	}
	return x.may != nil && x.may(ociserver.Access{Repository: repo, Action: ociserver.ActionPull})
}

// recoverPanic, which must be deferred, answers the request when the registry or a hook
// panicked.
func (x *exchange) recoverPanic() {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	x.fail(x.logPanic(v))
}

// logPanic logs a panic, and returns the error that stands for it.
func (x *exchange) logPanic(v any) error {
	x.opts.Logger.LogAttrs(x.ctx, slog.LevelError, "panic", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	return errors.New("internal error")
}
