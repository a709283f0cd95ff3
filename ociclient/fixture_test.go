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
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
	"github.com/seed-40b21970/oci/ociserver"
)

// rule and header abbreviate the elements of the scripts of servers.
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

// clock is the clock of a client whose waits end at once.
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

// Sleep returns at once, and advances the clock.
func (c *clock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.waits = append(c.waits, d)
	return ctx.Err()
}

// Waits returns the waits since its last call.
func (c *clock) Waits() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	waits := c.waits
	c.waits = nil
	return waits
}

// clientOf returns a client of a server. If opts has no transport, the client gets its own.
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

// scripted returns a server that only follows a script, and a client of it.
func scripted(t testing.TB, rules ...rule) (ociregistry.Interface, *faultserver.Server) {
	srv := faultserver.New(t, nil, rules...)
	return clientOf(t, srv, ociclient.Options{}, newClock()), srv
}

// faulty returns a server over a registry in memory that has the content, which follows a
// script first, and a client of it.
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

// pattern returns n bytes without repetitions.
func pattern(n int) string {
	data := make([]byte, 0, n+16)
	for len(data) < n {
		data = fmt.Appendf(data, "%08d", len(data))
	}
	return string(data[:n])
}

// ranges returns the values of Range of the GET requests for blobs.
func ranges(srv *faultserver.Server) []string {
	var ranges []string
	for _, r := range srv.Requests("GET /v2/foo/blobs/") {
		ranges = append(ranges, r.Header.Get("Range"))
	}
	return ranges
}

// push pushes the content from a reader that can be read again.
func push(reg ociregistry.Interface) error {
	_, err := reg.PushBlob(ctx, "foo", blobDesc(content), strings.NewReader(content))
	return err
}

// once returns a reader that cannot be read again.
func once(content string) io.Reader { return io.MultiReader(strings.NewReader(content)) }

// everywhere has credentials for all registries.
type everywhere ociauth.ConfigEntry

func (c everywhere) EntryForRegistry(string) (ociauth.ConfigEntry, error) {
	return ociauth.ConfigEntry(c), nil
}

// anyChunk makes a registry take chunks of any size.
var anyChunk = rule{On: "POST ", Set: header{"OCI-Chunk-Min-Length": ""}}

func getBlob(reg ociregistry.Interface) (ociregistry.BlobReader, error) {
	return reg.GetBlob(ctx, "foo", contentDigest)
}

func getRange(reg ociregistry.Interface) (ociregistry.BlobReader, error) {
	return reg.GetBlobRange(ctx, "foo", contentDigest, 4, 11)
}

func getTag(reg ociregistry.Interface) (ociregistry.BlobReader, error) {
	return reg.GetTag(ctx, "foo", "latest")
}

func getManifest(d ociregistry.Digest) func(ociregistry.Interface) (ociregistry.BlobReader, error) {
	return func(reg ociregistry.Interface) (ociregistry.BlobReader, error) { return reg.GetManifest(ctx, "foo", d) }
}

// methods returns the first words of lines, which are the methods of requests.
func methods(lines []string) []string {
	for i, line := range lines {
		lines[i], _, _ = strings.Cut(line, " ")
	}
	return lines
}

func resolveBlob(reg ociregistry.Interface) error {
	_, err := reg.ResolveBlob(ctx, "foo", contentDigest)
	return err
}

func second[T any](_ T, err error) error { return err }
