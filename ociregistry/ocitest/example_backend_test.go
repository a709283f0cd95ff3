package ocitest_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// layouts is a whole backend: it reads OCI image layouts. It finds that of a repository in a
// file system, such as a directory, a zip file or an [embed.FS].
type layouts func(repo string) fs.FS

func newLayouts(find func(repo string) fs.FS) ociregistry.Interface {
	l := layouts(find)
	return &ociregistry.Funcs{ // what has no function here answers ErrUnsupported
		ResolveBlob_:     l.resolveBlob,
		ResolveManifest_: l.resolveManifest,
		ResolveTag_:      l.resolveTag,
		GetBlob_:         get(l, l.resolveBlob),
		GetManifest_:     get(l, l.resolveManifest),
		GetTag_:          get(l, l.resolveTag),
		GetBlobRange_: func(ctx context.Context, repo string, d ociregistry.Digest, start, end int64) (ociregistry.BlobReader, error) {
			desc, err := l.resolveBlob(ctx, repo, d)
			return l.open(repo, desc, err, start, end)
		},
	}
}

// get returns a method that opens what another one resolves.
func get[Ref any](l layouts, resolve func(context.Context, string, Ref) (ociregistry.Descriptor, error)) func(context.Context, string, Ref) (ociregistry.BlobReader, error) {
	return func(ctx context.Context, repo string, ref Ref) (ociregistry.BlobReader, error) {
		desc, err := resolve(ctx, repo, ref)
		return l.open(repo, desc, err, 0, -1)
	}
}

// manifests returns the descriptors in the repository's index.json.
func (l layouts) manifests(ctx context.Context, repo string) ([]ociregistry.Descriptor, error) {
	if err := cmp.Or(ociregistry.CheckRepository(repo), ctx.Err()); err != nil {
		return nil, err
	}
	var index ocispec.Index
	data, err := fs.ReadFile(l(repo), "index.json")
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	return index.Manifests, missing(err, ociregistry.ErrNameUnknown)
}

// missing returns err, or sentinel if err says that there is no file.
func missing(err, sentinel error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return sentinel
	}
	return err
}

// find returns the first manifest for which is reports true.
func (l layouts) find(ctx context.Context, repo string, is func(ociregistry.Descriptor) bool) (ociregistry.Descriptor, error) {
	manifests, err := l.manifests(ctx, repo)
	if i := slices.IndexFunc(manifests, is); i >= 0 {
		m := manifests[i]
		return ociregistry.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size}, nil
	}
	return ociregistry.Descriptor{}, cmp.Or[error](err, ociregistry.ErrManifestUnknown)
}

func tagOf(m ociregistry.Descriptor) string { return m.Annotations[ocispec.AnnotationRefName] }

func (l layouts) resolveTag(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
	return l.find(ctx, repo, func(m ociregistry.Descriptor) bool { return tag != "" && tagOf(m) == tag })
}

func (l layouts) resolveManifest(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	desc, err := l.find(ctx, repo, func(m ociregistry.Descriptor) bool { return m.Digest == d })
	return desc, cmp.Or(ociregistry.CheckRepositoryAndDigest(repo, d), err)
}

func blobFile(d ociregistry.Digest) string {
	return path.Join("blobs", d.Algorithm().String(), d.Encoded())
}

func (l layouts) resolveBlob(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	if _, err := l.resolveManifest(ctx, repo, d); err != nil && !errors.Is(err, ociregistry.ErrManifestUnknown) {
		return ociregistry.Descriptor{}, err
	}
	info, err := fs.Stat(l(repo), blobFile(d))
	if err != nil {
		return ociregistry.Descriptor{}, missing(err, ociregistry.ErrBlobUnknown)
	}
	return ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: info.Size()}, nil
}

// open opens what was resolved, from byte start to end, or to its end.
func (l layouts) open(repo string, desc ociregistry.Descriptor, err error, start, end int64) (ociregistry.BlobReader, error) {
	if end < 0 || end > desc.Size {
		end = desc.Size
	}
	if err == nil && (start < 0 || start > end) {
		err = ociregistry.ErrRangeInvalid
	}
	if err != nil {
		return nil, err
	}
	f, err := l(repo).Open(blobFile(desc.Digest))
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, f, start); err != nil { // not each file is an io.Seeker
		f.Close()
		return nil, err
	}
	return layoutReader{io.LimitReader(f, end-start), f, desc}, nil
}

type layoutReader struct {
	io.Reader
	io.Closer
	desc ociregistry.Descriptor
}

func (r layoutReader) Descriptor() ociregistry.Descriptor { return r.desc }

// A backend of one's own needs no more than the methods that it has. TestBackend, which
// is beside this example, holds this one to the contract.
func Example_backend() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "layouts")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	fmt.Println(pushDemo(ctx, dir))

	r := newLayouts(func(repo string) fs.FS { return os.DirFS(filepath.Join(dir, repo)) })
	desc, err := r.ResolveTag(ctx, "demo", "v1")
	fmt.Println(desc.MediaType, err)
	_, err = r.PushBlobChunked(ctx, "demo", 0)
	fmt.Println(errors.Is(err, ociregistry.ErrUnsupported))
	// Output:
	// <nil>
	// application/vnd.oci.image.manifest.v1+json <nil>
	// true
}

// pushDemo has package ocifs make a layout.
func pushDemo(ctx context.Context, dir string) error {
	w, err := ocifs.New(dir, nil)
	if err != nil {
		return err
	}
	image := ocitest.NewImage(ocitest.Spec{Layers: []int64{4 << 10}})
	return errors.Join(image.Push(ctx, w, "demo", "v1", "latest"), w.Close())
}
