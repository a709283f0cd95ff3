package ocibucket

import (
	"context"
	"io"
	"iter"
	"sync/atomic"
	"testing"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// A pair is two registries in one bucket, or more, as of several processes, which take turns: what one has
// written another one reads. Upload sessions stay in one of them; see TestSessions_GoOnInAnotherProcess.
type pair struct {
	*ociregistry.Funcs
	registries []*Registry
	calls      atomic.Int64
}

func (p *pair) next() *Registry { return p.registries[int(p.calls.Add(1))%len(p.registries)] }

func (p *pair) GC(ctx context.Context, opts *ocigc.Options) (*ocigc.Report, error) {
	return p.next().GC(ctx, opts)
}

func (p *pair) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	return p.next().GetBlob(ctx, repo, digest)
}

func (p *pair) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	return p.next().GetBlobRange(ctx, repo, digest, offset0, offset1)
}

func (p *pair) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	return p.next().GetManifest(ctx, repo, digest)
}

func (p *pair) GetTag(ctx context.Context, repo, tag string) (ociregistry.BlobReader, error) {
	return p.next().GetTag(ctx, repo, tag)
}

func (p *pair) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	return p.next().ResolveBlob(ctx, repo, digest)
}

func (p *pair) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	return p.next().ResolveManifest(ctx, repo, digest)
}

func (p *pair) ResolveTag(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
	return p.next().ResolveTag(ctx, repo, tag)
}

func (p *pair) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, rd io.Reader) (ociregistry.Descriptor, error) {
	return p.next().PushBlob(ctx, repo, desc, rd)
}

func (p *pair) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	return p.registries[0].PushBlobChunked(ctx, repo, chunkSize)
}

func (p *pair) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	return p.registries[0].PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
}

func (p *pair) MountBlob(ctx context.Context, from, to string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	return p.next().MountBlob(ctx, from, to, digest)
}

func (p *pair) PushManifest(ctx context.Context, repo, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	return p.next().PushManifest(ctx, repo, ref, contents, mediaType, tags...)
}

func (p *pair) DeleteBlob(ctx context.Context, repo string, digest ociregistry.Digest) error {
	return p.next().DeleteBlob(ctx, repo, digest)
}

func (p *pair) DeleteManifest(ctx context.Context, repo string, digest ociregistry.Digest) error {
	return p.next().DeleteManifest(ctx, repo, digest)
}

func (p *pair) DeleteTag(ctx context.Context, repo, name string) error {
	return p.next().DeleteTag(ctx, repo, name)
}

func (p *pair) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return p.next().Repositories(ctx, startAfter)
}

func (p *pair) Tags(ctx context.Context, repo, startAfter string) iter.Seq2[string, error] {
	return p.next().Tags(ctx, repo, startAfter)
}

func (p *pair) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	return p.next().Referrers(ctx, repo, digest, artifactType)
}

func TestContract_OfTwoProcesses(t *testing.T) {
	ocitest.Run(t, func(t testing.TB) ociregistry.Interface {
		store := memstore.New(nil)
		opts := &Options{PartSize: contractPart}
		return &pair{registries: []*Registry{mustOpen(t, store, opts), mustOpen(t, store, opts)}}
	}, nil)
}
