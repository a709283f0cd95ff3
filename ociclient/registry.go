// Package ociclient is a registry on another host, as an
// [ociregistry.Interface]: the client side of the OCI distribution
// specification.
//
//	reg, err := ociclient.New("registry.example.com", &ociclient.Options{
//		Transport: ociauth.NewStdTransport(ociauth.StdTransportParams{Config: config}),
//	})
//
// A program cannot tell it from a local registry except by latency: what breaks
// is repaired where that can be done (see [RetryPolicy]), content is verified
// against the digest that was asked for, and errors match the same sentinels on
// both sides of the wire.
//
// # Reading
//
// A blob whose connection breaks goes on from the same byte with a range
// request; its reader notices nothing. The reader's last Read fails if the
// content is not that of the digest: until then, nothing is known of it. What
// [ociregistry.Reader.GetBlobRange] returns cannot be verified, and is not. The
// size in the descriptor of a blob's reader is -1 where the answer does not tell it;
// ResolveBlob asks for a byte of the blob then, and fails if that does not tell it
// either.
//
// Manifests are read and verified before GetManifest and GetTag return. By tag,
// what has no digest in its answer's header must be a JSON object that is a
// manifest, and no web page by its Content-Type. A Content-Type that says little,
// such as application/json, yields to the manifest's mediaType.
//
// What another host answers, after a redirect, is content if it has the digest, or an
// error if it is in the form of the specification. Otherwise it says nothing of the
// registry's content, and matches none of the errors of package ociregistry.
//
// # Waiting
//
// No server is waited for without a bound: see [Timeouts].
//
// Where the registry has ranges, the readers of blobs are [io.Seeker]s. To seek
// makes no request; a Read that follows may. Content is verified when it was
// read from its beginning to its end.
//
// # Pushing
//
// PushBlob sends a blob in one request, if its reader can be read again (an
// [io.Seeker], an [io.ReaderAt] or something with the GetBody of [http.Request]), or
// its content fits into one chunk. Others go in chunks, so that only a chunk is
// ever repeated, and kept in memory. The size is checked before the last byte is
// sent; the digest is for the registry to verify. A push that fails ends its
// upload session. When the context ends, nothing more is read of the content, and
// PushBlob returns as soon as a Read of it that is under way has: to end one that
// blocks is up to the reader.
//
// A registry's success acknowledges what was sent. What it reports beside it of the
// session is only a reason to ask the session; what was stored is checked by the
// digest in the end. A session that has lost more than the chunk at hand is an
// [ociregistry.ErrRangeInvalid], or an [ociregistry.ErrBlobUploadUnknown].
//
// A writer of which a Write has failed stays failed: Write, Commit and Close return
// the error. A Commit that failed can be repeated as long as the session is open.
//
// What a push, a mount or a delete has done, the registry says. Where it redirects
// that to another origin, or a page answers, the success is believed when the registry
// is then asked, and has what was pushed, or has not what was deleted.
//
// The ID of a [ociregistry.BlobWriter] is where the registry has its session,
// so another client, in another process, can resume it; of registries whose
// sessions are elsewhere than the specification shows them, it cannot.
//
// # Referrers
//
// Registries without the referrers API get what the specification's section
// "Referrers Tag Schema" asks of clients: see [ReferrersPolicy].
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
	// DefaultListPageSize is how many elements of a list a request asks for,
	// where Options does not say. AWS ECR refuses to be asked for more.
	DefaultListPageSize = 1000

	// DefaultMaxManifestSize is the limit of manifests and lists in bytes, where
	// Options has none: what the specification asks registries to accept.
	DefaultMaxManifestSize = 4 << 20

	// DefaultChunkSize is the size of chunks in bytes, where Options has none.
	DefaultChunkSize = 8 << 20

	// DefaultMaxChunkSize is the limit in bytes for the size of chunks, where
	// Options has none.
	DefaultMaxChunkSize = 64 << 20
)

// Options has the settings of a client. Its zero value is a good one.
type Options struct {
	// DebugID, if it is not empty, is the attribute "client" of log records.
	DebugID string

	// Transport makes the requests. The contexts of those to the registry itself
	// have an [ociauth.RequestInfo], so that the transport which
	// [ociauth.NewStdTransport] makes can authenticate them. Other transports
	// that add credentials must choose them by the URL of each request, which
	// can lead elsewhere. If Transport is nil, it is [http.DefaultTransport], which
	// keeps two idle connections to a host: a program that makes many requests at
	// once wants one with more.
	Transport http.RoundTripper

	// Insecure makes the client use plain HTTP.
	Insecure bool

	// ListPageSize is how many elements of a list one request asks for. Zero
	// stands for DefaultListPageSize.
	ListPageSize int

	// UserAgent is the value of the User-Agent header. If it is empty, it is
	// "ociclient".
	UserAgent string

	// Retry says how often, and after which time, what failed is tried again.
	Retry RetryPolicy

	// Timeouts bounds how long a server is waited for.
	Timeouts Timeouts

	// MaxManifestSize is the size in bytes of the largest manifest or page of a
	// list that is read. Zero stands for DefaultMaxManifestSize.
	MaxManifestSize int64

	// ChunkSize is the size in bytes of the chunks in which blobs are pushed
	// that cannot be read again. Zero stands for DefaultChunkSize. A chunk is kept
	// in memory while it is sent.
	ChunkSize int

	// MaxChunkSize bounds the size of chunks in bytes, whatever a caller or the
	// registry asks for. Zero stands for DefaultMaxChunkSize.
	MaxChunkSize int

	// Parallel makes large blobs be read by several requests at once.
	Parallel Parallel

	// MaxConcurrent is how many requests to one host may be under way at once;
	// the others wait. A reader of a blob counts until it is closed, so a
	// goroutine that pushes what it reads from the same client needs two. Zero
	// stands for no limit.
	MaxConcurrent int

	// CheckBlobs makes PushBlob ask first whether the blob is there, and send
	// nothing if it is.
	CheckBlobs bool

	// MountFrom has repositories of the same registry from which PushBlob tries
	// to mount a blob before it sends it: the first that is another than the one
	// pushed to. It is tried once; whatever it fails with, the blob is sent.
	MountFrom []string

	// Referrers says how to find and keep referrers.
	Referrers ReferrersPolicy

	// OnWarning is called for each warning in the answers of the registry
	// (specification, section "Warnings"), once for each text. It may be called
	// from many goroutines at once.
	OnWarning func(ctx context.Context, text string)

	// Logger gets a record for each request, at level Debug, and for each that
	// is tried again, at level Info. No record has credentials, queries or ids of
	// uploads. If it is nil, nothing is logged.
	Logger *slog.Logger

	clock clock // for tests
}

// Parallel says how large blobs are read by several requests at once. The zero
// value means that they are not. The reader of such a blob is no snapshot: it fails
// if the blob is deleted while it is read.
type Parallel struct {
	// Parts is how many requests are under way at once, for one blob. Less than
	// two is as good as none.
	Parts int

	// PartSize is how many bytes one request gets. Up to Parts times as many are
	// kept in memory for each reader. Zero stands for 8 MiB.
	PartSize int64
}

// New returns the registry at host, which may have a port. If opts is nil, it
// stands for the zero Options. No request is made.
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
	c.slots.limit = c.opts.MaxConcurrent
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

// client is the Interface. It has no state that matters: what it knows saves
// requests.
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
