package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"

	cueregistry "cuelabs.dev/go/oci/ociregistry"
	cueclient "cuelabs.dev/go/oci/ociregistry/ociclient"
	"github.com/google/go-containerregistry/pkg/name"
	ggcrremote "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/regclient/regclient"
	regconfig "github.com/regclient/regclient/config"
	"github.com/regclient/regclient/scheme"
	"github.com/regclient/regclient/scheme/reg"
	"github.com/regclient/regclient/types/descriptor"
	"github.com/regclient/regclient/types/ref"
	"oras.land/oras-go/v2/content"
	orasremote "oras.land/oras-go/v2/registry/remote"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
)

const octetStream = "application/octet-stream"

// library is a client library, used as its documentation shows. What it pulls is
// verified, by itself or by what it has for that, and thrown away.
type library interface {
	pull(ctx context.Context, b blob) (size int64, err error)
	push(ctx context.Context, b blob, data []byte) error
	resolve(ctx context.Context, tag string) (digest string, err error)
	manifest(ctx context.Context, tag string) (size int64, err error)
	tags(ctx context.Context) (n int, err error)
}

// newTransport returns the transport of each library: what net/http has for those
// that bring none.
func newTransport() *http.Transport { return http.DefaultTransport.(*http.Transport).Clone() }

func drainAll(r io.ReadCloser, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return io.Copy(io.Discard, r)
}

func countAll[T any](seq iter.Seq2[T, error]) (n int, err error) {
	for _, err := range seq {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// ours is this library.
type ours struct{ reg ociregistry.Interface }

func newOurs(host string, t *http.Transport) (library, error) {
	reg, err := ociclient.New(host, &ociclient.Options{Insecure: true, Transport: t})
	return ours{reg}, err
}

func (l ours) pull(ctx context.Context, b blob) (int64, error) {
	return drainAll(l.reg.GetBlob(ctx, repoName, digest.Digest(b.digest)))
}

func (l ours) push(ctx context.Context, b blob, data []byte) error {
	_, err := l.reg.PushBlob(ctx, repoName, b.descriptor(octetStream), bytes.NewReader(data))
	return err
}

func (l ours) resolve(ctx context.Context, tag string) (string, error) {
	desc, err := l.reg.ResolveTag(ctx, repoName, tag)
	return string(desc.Digest), err
}

func (l ours) manifest(ctx context.Context, tag string) (int64, error) {
	return drainAll(l.reg.GetTag(ctx, repoName, tag))
}

func (l ours) tags(ctx context.Context) (int, error) { return countAll(l.reg.Tags(ctx, repoName, "")) }

type cuelabs struct{ reg cueregistry.Interface }

func newCuelabs(host string, t *http.Transport) (library, error) {
	reg, err := cueclient.New(host, &cueclient.Options{Insecure: true, Transport: t})
	return cuelabs{reg}, err
}

func (l cuelabs) pull(ctx context.Context, b blob) (int64, error) {
	return drainAll(l.reg.GetBlob(ctx, repoName, digest.Digest(b.digest)))
}

func (l cuelabs) push(ctx context.Context, b blob, data []byte) error {
	_, err := l.reg.PushBlob(ctx, repoName, b.descriptor(octetStream), bytes.NewReader(data))
	return err
}

func (l cuelabs) resolve(ctx context.Context, tag string) (string, error) {
	desc, err := l.reg.ResolveTag(ctx, repoName, tag)
	return string(desc.Digest), err
}

func (l cuelabs) manifest(ctx context.Context, tag string) (int64, error) {
	return drainAll(l.reg.GetTag(ctx, repoName, tag))
}

func (l cuelabs) tags(ctx context.Context) (int, error) {
	return countAll(l.reg.Tags(ctx, repoName, ""))
}

type ggcrLibrary struct {
	repo   name.Repository
	puller *ggcrremote.Puller
	opts   []ggcrremote.Option
}

func newGGCRLibrary(host string, t *http.Transport) (library, error) {
	repo, err := name.NewRepository(host+"/"+repoName, name.Insecure)
	if err != nil {
		return nil, err
	}
	opts := []ggcrremote.Option{ggcrremote.WithTransport(t)}
	puller, err := ggcrremote.NewPuller(opts...)
	return ggcrLibrary{repo, puller, opts}, err
}

func (l ggcrLibrary) pull(ctx context.Context, b blob) (int64, error) {
	layer, err := l.puller.Layer(ctx, l.repo.Digest(b.digest))
	if err != nil {
		return 0, err
	}
	return drainAll(layer.Compressed())
}

// push uses a new Pusher each time, for one remembers what it has pushed.
func (l ggcrLibrary) push(ctx context.Context, b blob, data []byte) error {
	layer := static.NewLayer(data, types.OCILayer)
	return ggcrremote.WriteLayer(l.repo, layer, append(l.opts, ggcrremote.WithContext(ctx))...)
}

func (l ggcrLibrary) resolve(ctx context.Context, tag string) (string, error) {
	desc, err := l.puller.Head(ctx, l.repo.Tag(tag))
	if err != nil {
		return "", err
	}
	return desc.Digest.String(), nil
}

func (l ggcrLibrary) manifest(ctx context.Context, tag string) (int64, error) {
	desc, err := l.puller.Get(ctx, l.repo.Tag(tag))
	if err != nil {
		return 0, err
	}
	return int64(len(desc.Manifest)), nil
}

func (l ggcrLibrary) tags(ctx context.Context) (int, error) {
	tags, err := l.puller.List(ctx, l.repo)
	return len(tags), err
}

type oras struct{ repo *orasremote.Repository }

func newOras(host string, t *http.Transport) (library, error) {
	repo, err := orasremote.NewRepository(host + "/" + repoName)
	if err != nil {
		return nil, err
	}
	repo.PlainHTTP = true
	repo.Client = &http.Client{Transport: t}
	return oras{repo}, nil
}

func (l oras) pull(ctx context.Context, b blob) (int64, error) {
	desc := b.descriptor(octetStream)
	r, err := l.repo.Blobs().Fetch(ctx, desc)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	v := content.NewVerifyReader(r, desc)
	n, err := io.Copy(io.Discard, v)
	return n, errors.Join(err, v.Verify())
}

func (l oras) push(ctx context.Context, b blob, data []byte) error {
	return l.repo.Blobs().Push(ctx, b.descriptor(octetStream), bytes.NewReader(data))
}

func (l oras) resolve(ctx context.Context, tag string) (string, error) {
	desc, err := l.repo.Resolve(ctx, tag)
	return string(desc.Digest), err
}

func (l oras) manifest(ctx context.Context, tag string) (int64, error) {
	desc, r, err := l.repo.Manifests().FetchReference(ctx, tag)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	data, err := content.ReadAll(r, desc)
	return int64(len(data)), err
}

func (l oras) tags(ctx context.Context) (n int, err error) {
	err = l.repo.Tags(ctx, "", func(page []string) error {
		n += len(page)
		return nil
	})
	return n, err
}

type regclientLibrary struct {
	client *regclient.RegClient
	host   string
}

func newRegclient(host string, t *http.Transport) (library, error) {
	return regclientLibrary{host: host, client: regclient.New(
		regclient.WithConfigHost(regconfig.Host{Name: host, Hostname: host, TLS: regconfig.TLSDisabled}),
		regclient.WithRegOpts(reg.WithTransport(t)),
	)}, nil
}

func (l regclientLibrary) ref(suffix string) ref.Ref {
	return must(ref.New(l.host + "/" + repoName + suffix))
}

func (l regclientLibrary) descriptor(b blob) descriptor.Descriptor {
	return descriptor.Descriptor{MediaType: octetStream, Digest: digest.Digest(b.digest), Size: b.size}
}

func (l regclientLibrary) pull(ctx context.Context, b blob) (int64, error) {
	r, err := l.client.BlobGet(ctx, l.ref(""), l.descriptor(b))
	return drainAll(r, err)
}

func (l regclientLibrary) push(ctx context.Context, b blob, data []byte) error {
	_, err := l.client.BlobPut(ctx, l.ref(""), l.descriptor(b), bytes.NewReader(data))
	return err
}

func (l regclientLibrary) resolve(ctx context.Context, tag string) (string, error) {
	m, err := l.client.ManifestHead(ctx, l.ref(":"+tag))
	if err != nil {
		return "", err
	}
	return string(m.GetDescriptor().Digest), nil
}

func (l regclientLibrary) manifest(ctx context.Context, tag string) (int64, error) {
	m, err := l.client.ManifestGet(ctx, l.ref(":"+tag))
	if err != nil {
		return 0, err
	}
	data, err := m.RawBody()
	return int64(len(data)), err
}

func (l regclientLibrary) tags(ctx context.Context) (n int, err error) {
	last := ""
	for {
		list, err := l.client.TagList(ctx, l.ref(""), scheme.WithTagLast(last))
		if err != nil {
			return n, err
		}
		tags, err := list.GetTags()
		n += len(tags)
		if next := must(list.RawHeaders()).Get("Link"); err != nil || next == "" || len(tags) == 0 {
			return n, err
		}
		last = tags[len(tags)-1]
	}
}

// libraryRows returns the rows of client libraries. Each does one operation at a
// time.
func libraryRows(s scale) []row {
	small, large := randomBytes(s.small), randomBytes(2*s.large)
	repo := newTagged(2*s.many, s)
	return []row{
		{name: "LibraryPull/size=" + size(2*s.large), ops: 4, work: libraryPull(large, 1)},
		{name: "LibraryPull/size=" + size(s.small), ops: 8000, work: libraryPull(small, 16)},
		{name: "LibraryPush/size=" + size(2*s.large), ops: 3, grows: true, work: libraryPush(large)},
		{name: "LibraryPush/size=" + size(s.small), ops: 2000, grows: true, work: libraryPush(small)},
		{name: "LibraryResolve", ops: 8000, work: libraryManifest(func(c *client, tag string, data []byte) error {
			got, err := c.lib.resolve(c.ctx, tag)
			if want := string(digest.FromBytes(data)); err == nil && got != want {
				err = fmt.Errorf("resolved to %q, not %s", got, want)
			}
			return err
		})},
		{name: "LibraryManifest", ops: 8000, work: libraryManifest(func(c *client, tag string, data []byte) error {
			n, err := c.lib.manifest(c.ctx, tag)
			return checkSize(n, err, int64(len(data)))
		})},
		{name: tags("LibraryTags", repo.tags), ops: 100, stock: repo, work: func(int) work {
			return work{
				prepare: func(*client, server) error { return nil },
				do: func(c *client, _ int) error {
					n, err := c.lib.tags(c.ctx)
					return checkSize(int64(n), err, int64(repo.tags))
				},
			}
		}},
	}
}

func isLibraryRow(name string) bool { return strings.HasPrefix(name, "Library") }

func libraryPull(data []byte, few int) func(int) work {
	return func(n int) work {
		w := pullBlobs(data, few)(n)
		blobs := newBlobs(data, few)
		w.do = func(c *client, i int) error {
			n, err := c.lib.pull(c.ctx, blobs[i%few])
			return checkSize(n, err, int64(len(data)))
		}
		return w
	}
}

// libraryPush stamps the one buffer for each push: there is one client.
func libraryPush(data []byte) func(int) work {
	return func(n int) work {
		blobs := newBlobs(data, n)
		return work{
			prepare: func(c *client, _ server) error { return nil },
			do: func(c *client, i int) error {
				b := blobs[i]
				copy(data[len(data)-len(b.stamp):], b.stamp[:])
				return c.lib.push(c.ctx, b, data)
			},
		}
	}
}

func libraryManifest(do func(c *client, tag string, data []byte) error) func(int) work {
	const few = 16
	return func(n int) work {
		w := getManifests(few)(n)
		manifests := newImage().manifests(few)
		w.do = func(c *client, i int) error { return do(c, tagName(i%few), manifests[i%few]) }
		return w
	}
}
