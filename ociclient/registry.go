// Package ociclient provides a registry on another host as an
// [ociregistry.Interface]. It is the client side of the OCI distribution
// specification.
//
//	reg, err := ociclient.New("registry.example.com", &ociclient.Options{
//		Transport: ociauth.NewStdTransport(ociauth.StdTransportParams{Config: config}),
//	})
//
// Apart from latency, a program cannot tell it from a local registry: the client
// repairs failures where it can (see [RetryPolicy]), verifies content against the
// digest that was asked for, and returns errors that match the same sentinels on both
// sides of the wire.
//
// # Reading
//
// If the connection of a blob breaks, the client continues from the same byte with a
// range request, and the reader's caller notices nothing. The last Read fails if the
// content does not match the digest; until then, nothing is known about the content.
// The result of [ociregistry.Reader.GetBlobRange] cannot be verified, and is not. The
// size in the descriptor of a blob's reader is -1 if the response does not have it.
// ResolveBlob then asks for one byte of the blob, and fails if that response does not
// have the size either.
//
// If the registry supports ranges, readers of blobs implement [io.Seeker]. Seek makes no
// request; the next Read may. Content that is read from its beginning to its end is
// verified.
//
// GetManifest and GetTag read and verify the whole manifest before they return. If the
// response to a request by tag has no digest in its header, the content must be a JSON
// object that is a manifest, and its Content-Type must not be that of a web page. A
// Content-Type that says little, such as application/json, yields to the manifest's
// mediaType.
//
// A response from another host, after a redirect, counts as content if it has the right
// digest, and as an error if it has the form of the specification. Otherwise it says
// nothing about the registry's content, and its error matches none of package
// ociregistry.
//
// # Waiting
//
// The client never waits for a server without a bound: see [Timeouts].
//
// # Pushing
//
// PushBlob sends a blob in one request if its reader can be read again (an [io.Seeker],
// an [io.ReaderAt], or a type with the GetBody of [http.Request]), or if the content
// fits into one chunk. It sends other blobs in chunks, so that it needs to keep only one
// chunk in memory and to repeat only that. It checks the size before it sends the last
// byte, and leaves the digest to the registry. A push that fails ends its upload
// session. When the context ends, PushBlob stops reading the content, and returns as
// soon as a Read in progress does: only the reader can end one that blocks.
//
// A registry's success acknowledges what was sent. If the response also reports another
// state of the session, the client asks the session; the digest verifies the stored
// content in the end. A session that has lost more than the current chunk fails with
// [ociregistry.ErrRangeInvalid] or [ociregistry.ErrBlobUploadUnknown].
//
// After a Write of a writer has failed, Write, Commit and Close return its error. A
// Commit that failed can be repeated as long as the session is open.
//
// The registry reports whether a push, a mount or a delete is done. If it redirects the
// request to another origin, or the response is a web page, the client believes the
// success only if the registry then has what was pushed, or lacks what was deleted.
//
// The ID of an [ociregistry.BlobWriter] is the location of its session, so that a client
// in another process can resume it. This does not work for a registry whose sessions are
// elsewhere than the specification shows them.
//
// # Referrers
//
// For registries without the referrers API, the client does what the specification's
// section "Referrers Tag Schema" asks of clients: see [ReferrersPolicy].
package ociclient

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

const (
	// DefaultListPageSize is the default of [Options.ListPageSize]. AWS ECR refuses
	// larger pages.
	DefaultListPageSize = 1000

	// DefaultMaxManifestSize is the default of [Options.MaxManifestSize], in bytes:
	// the size that the specification asks registries to accept.
	DefaultMaxManifestSize = 4 << 20

	// DefaultChunkSize is the default of [Options.ChunkSize], in bytes.
	DefaultChunkSize = 8 << 20

	// DefaultMaxChunkSize is the default of [Options.MaxChunkSize], in bytes.
	DefaultMaxChunkSize = 64 << 20

	// DefaultAttempts is the default of [RetryPolicy.Attempts].
	DefaultAttempts = 5
)

// Options has the settings of a client. The zero value is ready to use.
type Options struct {
	// DebugID is the attribute "client" of log records. Empty means no attribute.
	DebugID string

	// Transport makes the requests. The contexts of requests to the registry itself
	// have an [ociauth.RequestInfo], with which a transport that
	// [ociauth.NewStdTransport] returns authenticates them. Other transports that
	// add credentials must choose them by the URL of each request, which can be
	// that of another host. Nil means [http.DefaultTransport], which keeps two idle
	// connections to a host: a program that makes many concurrent requests needs a
	// transport that keeps more.
	Transport http.RoundTripper

	// Insecure makes the client use plain HTTP.
	Insecure bool

	// ListPageSize is the number of elements of a list that one request asks for.
	// Zero means DefaultListPageSize.
	ListPageSize int

	// UserAgent is the value of the User-Agent header. Empty means "ociclient".
	UserAgent string

	// Retry says how often, and after which time, the client repeats what failed.
	Retry RetryPolicy

	// Timeouts bounds how long the client waits for a server.
	Timeouts Timeouts

	// MaxManifestSize is the maximum size in bytes of a manifest, and of a page of a
	// list. Zero means DefaultMaxManifestSize.
	MaxManifestSize int64

	// ChunkSize is the size in bytes of the chunks of a blob that cannot be read
	// again. A chunk is kept in memory while it is sent. Zero means
	// DefaultChunkSize.
	ChunkSize int

	// MaxChunkSize is the maximum size of chunks in bytes, whatever a caller or the
	// registry asks for. Zero means DefaultMaxChunkSize.
	MaxChunkSize int

	// Parallel makes the client read large blobs with concurrent requests.
	Parallel Parallel

	// Concurrency is the maximum number of concurrent requests to one host; others
	// wait. The request of a blob's reader counts until the reader is closed, so a
	// goroutine that pushes what it reads from the same client needs two. Zero
	// means no limit.
	Concurrency int

	// CheckBlobs makes PushBlob ask first whether the registry has the blob, and
	// send nothing if it does.
	CheckBlobs bool

	// MountFrom has repositories of the same registry. Before it sends a blob,
	// PushBlob tries once to mount it from the first one that is not the
	// destination. If that fails for any reason, it sends the blob.
	MountFrom []string

	// Referrers says how the client finds and records referrers.
	Referrers ReferrersPolicy

	// OnWarning is called for the warnings in the registry's responses
	// (specification, section "Warnings"), once for each text. It must be safe for
	// concurrent use. Nil means that warnings are ignored.
	OnWarning func(ctx context.Context, text string)

	// Logger receives a record for each request, at level Debug, and for each
	// retry, at level Info. Records contain no credentials, queries or ids of
	// uploads. Nil means no logging.
	Logger *slog.Logger

	clock clock // for tests
}

// Parallel says how the client reads large blobs with concurrent requests. The zero value
// means one request for a blob. The reader of a blob that is read in parallel is not a
// snapshot: it fails if the blob is deleted meanwhile.
type Parallel struct {
	// Concurrency is the maximum number of concurrent requests for one blob. Less
	// than two means one.
	Concurrency int

	// PartSize is the number of bytes that one request asks for. Each reader keeps
	// up to Concurrency times as many in memory. Zero means 8 MiB.
	PartSize int64
}

// New returns the registry at host, which may include a port. A nil opts means the zero
// Options. New makes no request. It returns an error if host, or a repository in MountFrom,
// is not valid.
func New(host string, opts *Options) (ociregistry.Interface, error) {
	if !ociref.IsValidHost(host) && !ociref.IsValidHost(host+":443") {
		return nil, fmt.Errorf("ociclient: invalid host %.256q", host)
	}
	c := &client{base: url.URL{Scheme: "https", Host: host}}
	if opts != nil {
		c.opts = *opts
	}
	c.opts.setDefaults()
	if c.opts.Insecure {
		c.base.Scheme = "http"
	}
	for _, repo := range c.opts.MountFrom {
		if err := ociregistry.CheckRepository(repo); err != nil {
			return nil, fmt.Errorf("ociclient: MountFrom: %w", err)
		}
	}
	c.slots.limit = c.opts.Concurrency
	c.warnings.report = c.opts.OnWarning
	return c, nil
}

func (o *Options) setDefaults() {
	if o.Transport == nil {
		o.Transport = http.DefaultTransport
	}
	if o.UserAgent == "" {
		o.UserAgent = "ociclient"
	}
	setDefault(&o.ListPageSize, DefaultListPageSize)
	setDefault(&o.MaxManifestSize, DefaultMaxManifestSize)
	setDefault(&o.ChunkSize, DefaultChunkSize)
	setDefault(&o.MaxChunkSize, DefaultMaxChunkSize)
	setDefault(&o.Parallel.PartSize, 8<<20)
	o.Retry.setDefaults()
	o.Timeouts.setDefaults()
	o.clock.setDefaults()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.DebugID != "" {
		o.Logger = o.Logger.With(slog.String("client", o.DebugID))
	}
}

func setDefault[T ~int | ~int64](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}

// client is the Interface. Its state only saves requests.
type client struct {
	*ociregistry.Funcs
	base      url.URL // scheme and host
	opts      Options
	slots     slots
	warnings  warnings
	referrers referrersState
	parts     sync.Pool // buffers of parallel reads
	watchdog  watchdog
}
