package ociclient_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// rule and header are short for what the scripts of servers are made of.
type (
	rule   = faultserver.Rule
	header = map[string]string
)

var ctx = context.Background()

const (
	content        = "the content of a blob"
	imageManifest  = "application/vnd.oci.image.manifest.v1+json"
	imageIndex     = "application/vnd.oci.image.index.v1+json"
	artifactConfig = `{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}`
)

var (
	contentDigest = digest.FromString(content)
	otherDigest   = digest.FromString("something else")

	blobURL   = "/v2/foo/blobs/" + string(contentDigest)
	uploads   = "/v2/foo/blobs/uploads/"
	manifests = "/v2/foo/manifests/"
)

func blobDesc(content string) ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromString(content), Size: int64(len(content))}
}

// clock is the time of a client that waits for nothing.
type clock struct {
	mu    sync.Mutex
	now   time.Time
	waits []time.Duration
}

func newClock() *clock { return &clock{now: time.Unix(1_700_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Sleep is over at once, but for the clock.
func (c *clock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.waits = append(c.waits, d)
	return ctx.Err()
}

// Waits returns the waits so far, and forgets them.
func (c *clock) Waits() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	waits := c.waits
	c.waits = nil
	return waits
}

// clientOf returns a client of a server. If its options have no transport, it has
// one of its own.
func clientOf(t testing.TB, srv *faultserver.Server, opts ociclient.Options, clock *clock) ociregistry.Interface {
	opts.Insecure = true
	opts.SetClock(clock.Now, clock.Sleep)
	if opts.Transport == nil {
		transport := newTransport(t)
		opts.Transport = transport
	}
	reg, err := ociclient.New(srv.Host(), &opts)
	qt.Assert(t, qt.IsNil(err))
	return reg
}

func newTransport(t testing.TB) *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// scripted returns a server that does what a script says, and nothing else, and a
// client of it.
func scripted(t testing.TB, rules ...rule) (ociregistry.Interface, *faultserver.Server) {
	srv := faultserver.New(t, nil, rules...)
	return clientOf(t, srv, ociclient.Options{}, newClock()), srv
}

// faulty returns a server over a registry in memory that has the content, with
// what a script says, and a client of it.
func faulty(t testing.TB, opts ociclient.Options, rules ...rule) (ociregistry.Interface, *faultserver.Server) {
	srv := faultserver.New(t, ociserver.New(registryWith(t, content), nil), rules...)
	return clientOf(t, srv, opts, newClock()), srv
}

// registryWith returns a registry whose repository foo has some blobs.
func registryWith(t testing.TB, blobs ...string) *ocimem.Registry {
	reg := ocimem.New()
	for _, blob := range blobs {
		_, err := reg.PushBlob(ctx, "foo", blobDesc(blob), strings.NewReader(blob))
		qt.Assert(t, qt.IsNil(err))
	}
	return reg
}

// readAll reads a blob or manifest to its end.
func readAll(r ociregistry.BlobReader, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	return string(data), err
}

// wantBlob checks that foo of a registry has a blob.
func wantBlob(t testing.TB, reg ociregistry.Interface, content string) {
	t.Helper()
	got, err := readAll(reg.GetBlob(ctx, "foo", digest.FromString(content)))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(got == content), qt.Commentf("%d bytes", len(got)))
}

// pattern returns n bytes that are everywhere different.
func pattern(n int) string {
	data := make([]byte, 0, n+16)
	for len(data) < n {
		data = fmt.Appendf(data, "%08d", len(data))
	}
	return string(data[:n])
}
