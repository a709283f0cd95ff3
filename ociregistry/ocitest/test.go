package ocitest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// test runs a clause. Methods that end the test when they fail have names that begin with
// must, or return what they made. They must be called from the test's goroutine.
type test struct {
	testing.TB
	opts  Options
	reg   ociregistry.Interface // the registry to check
	below ociregistry.Interface // the registry to push content to that reg must show
}

// has reports whether the registry has all of the capabilities.
func (t *test) has(c Capability) bool {
	return (t.opts.Absent|t.opts.Denied)&c == 0
}

// scale returns n, or a smaller number with -short.
func (t *test) scale(n int) int {
	if testing.Short() {
		return max(n/4, 2)
	}
	return n
}

// Making content.

// blobMediaType is the media type that blobs have.
const blobMediaType = "application/octet-stream"

// content returns size random bytes that depend on seed.
func content(seed uint64, size int64) []byte {
	return NewBlob(seed, size).Bytes()
}

// describe returns the descriptor that a blob with the given bytes has.
func describe(data []byte) ociregistry.Descriptor {
	return ociregistry.Descriptor{
		MediaType: blobMediaType,
		Digest:    digest.FromBytes(data),
		Size:      int64(len(data)),
	}
}

// mustPushBlob pushes a blob to t.below.
func (t *test) mustPushBlob(repo string, data []byte) ociregistry.Descriptor {
	t.Helper()
	desc := describe(data)
	t.mustPushBlobAs(repo, desc.Digest, data)
	return desc
}

// mustPushBlobAs pushes a blob to t.below under a digest that need not be SHA-256.
func (t *test) mustPushBlobAs(repo string, d ociregistry.Digest, data []byte) {
	t.Helper()
	_, err := t.below.PushBlob(t.Context(), repo, ociregistry.Descriptor{Digest: d, Size: int64(len(data))}, bytes.NewReader(data))
	t.must(err, "PushBlob to %s", repo)
}

// mustPushManifest pushes a manifest to t.below. The manifest is JSON, or a value to be
// marshaled.
func (t *test) mustPushManifest(repo string, manifest any, mediaType string, tags ...string) ociregistry.Descriptor {
	t.Helper()
	contents, ok := manifest.([]byte)
	if !ok {
		contents = mustMarshal(manifest)
	}
	desc, err := t.below.PushManifest(t.Context(), repo, "", contents, mediaType, tags...)
	t.must(err, "PushManifest of %s to %s", mediaType, repo)
	return ociregistry.Descriptor{MediaType: mediaType, Digest: desc.Digest, Size: int64(len(contents))}
}

// mustPush pushes an artifact to t.below.
func (t *test) mustPush(repo string, a *Artifact, tags ...string) {
	t.Helper()
	t.must(a.Push(t.Context(), t.below, repo, tags...), "push of an artifact to %s", repo)
}

// mustPushImage pushes a small image to t.below.
func (t *test) mustPushImage(repo string, seed uint64, tags ...string) *Artifact {
	t.Helper()
	image := NewImage(Spec{Seed: seed, Layers: []int64{100}})
	t.mustPush(repo, image, tags...)
	return image
}

// Looking at errors.

// must ends the test if err is not nil.
func (t *test) must(err error, format string, args ...any) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: unexpected error: %v", fmt.Sprintf(format, args...), err)
	}
}

// wantErr checks that a call failed with one of some sentinels.
func (t *test) wantErr(err error, sentinels []error, format string, args ...any) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: got no error, want one that is %s", fmt.Sprintf(format, args...), names(sentinels))
		return
	}
	if !slices.ContainsFunc(sentinels, func(s error) bool { return errors.Is(err, s) }) {
		t.Errorf("%s: got error %q, want one that is %s", fmt.Sprintf(format, args...), err, names(sentinels))
	}
}

// is returns the sentinels for a call of wantErr.
func is(sentinels ...error) []error { return sentinels }

func names(sentinels []error) string {
	var names []string
	for _, s := range sentinels {
		names = append(names, fmt.Sprintf("%q", s))
	}
	return strings.Join(names, " or ")
}

// unknownTo returns the errors that a Resolve method may return for an unknown repository.
func (t *test) unknownTo(contentUnknown error) []error {
	if t.opts.Remote {
		return is(ociregistry.ErrNameUnknown, contentUnknown)
	}
	return is(ociregistry.ErrNameUnknown)
}

// Looking at content.

// read reads and closes a reader that a method of the registry returned.
func read(r ociregistry.BlobReader, err error) ([]byte, ociregistry.Descriptor, error) {
	if err != nil {
		return nil, ociregistry.Descriptor{}, err
	}
	data, err := io.ReadAll(r)
	return data, r.Descriptor(), errors.Join(err, r.Close())
}

// wantContent checks the results of a method that returns a reader, and closes the reader.
func (t *test) wantContent(r ociregistry.BlobReader, err error, want []byte, wantDesc ociregistry.Descriptor, what string) {
	t.Helper()
	got, desc, err := read(r, err)
	if err != nil {
		t.Errorf("%s: unexpected error after %d bytes: %v", what, len(got), err)
		return
	}
	if diff := diffBytes(got, want); diff != "" {
		t.Errorf("%s: content differs: %s", what, diff)
	}
	if diff := diffDescriptor(desc, wantDesc); diff != "" {
		t.Errorf("%s: descriptor differs: %s", what, diff)
	}
}

// wantBlob checks with each method for blobs that a repository has a blob.
func (t *test) wantBlob(repo string, data []byte, d ociregistry.Digest) {
	t.Helper()
	want := ociregistry.Descriptor{MediaType: blobMediaType, Digest: d, Size: int64(len(data))}
	ctx := t.Context()
	desc, err := t.reg.ResolveBlob(ctx, repo, d)
	t.wantDescriptor(desc, err, want, "ResolveBlob in "+repo)
	r, err := t.reg.GetBlob(ctx, repo, d)
	t.wantContent(r, err, data, want, "GetBlob from "+repo)
	half := int64(len(data) / 2)
	r, err = t.reg.GetBlobRange(ctx, repo, d, half, -1)
	t.wantContent(r, err, data[half:], want, "GetBlobRange from "+repo)
}

// wantNoBlob checks that a repository, which may not exist, has no such blob.
func (t *test) wantNoBlob(repo string, d ociregistry.Digest, when string) {
	t.Helper()
	unknown := is(ociregistry.ErrBlobUnknown, ociregistry.ErrNameUnknown)
	ctx := t.Context()
	_, err := t.reg.ResolveBlob(ctx, repo, d)
	t.wantErr(err, unknown, "ResolveBlob in %s %s", repo, when)
	_, _, err = read(t.reg.GetBlob(ctx, repo, d))
	t.wantErr(err, unknown, "GetBlob from %s %s", repo, when)
	_, _, err = read(t.reg.GetBlobRange(ctx, repo, d, 0, -1))
	t.wantErr(err, unknown, "GetBlobRange from %s %s", repo, when)
}

// wantManifest checks that a repository has a manifest, and that tags point at
// it.
func (t *test) wantManifest(repo string, contents []byte, want ociregistry.Descriptor, tags ...string) {
	t.Helper()
	want = ociregistry.Descriptor{MediaType: want.MediaType, Digest: want.Digest, Size: want.Size}
	ctx := t.Context()
	desc, err := t.reg.ResolveManifest(ctx, repo, want.Digest)
	t.wantDescriptor(desc, err, want, "ResolveManifest in "+repo)
	r, err := t.reg.GetManifest(ctx, repo, want.Digest)
	t.wantContent(r, err, contents, want, "GetManifest from "+repo)
	for _, tag := range tags {
		desc, err := t.reg.ResolveTag(ctx, repo, tag)
		t.wantDescriptor(desc, err, want, "ResolveTag of "+repo+":"+tag)
		r, err := t.reg.GetTag(ctx, repo, tag)
		t.wantContent(r, err, contents, want, "GetTag of "+repo+":"+tag)
	}
}

// wantNoManifest checks that a repository, which may not exist, has no such
// manifest.
func (t *test) wantNoManifest(repo string, d ociregistry.Digest, when string) {
	t.Helper()
	unknown := is(ociregistry.ErrManifestUnknown, ociregistry.ErrNameUnknown)
	_, err := t.reg.ResolveManifest(t.Context(), repo, d)
	t.wantErr(err, unknown, "ResolveManifest in %s %s", repo, when)
	_, _, err = read(t.reg.GetManifest(t.Context(), repo, d))
	t.wantErr(err, unknown, "GetManifest from %s %s", repo, when)
}

// wantNoTag checks that a repository, which may not exist, has no such tag.
func (t *test) wantNoTag(repo, tag, when string) {
	t.Helper()
	unknown := is(ociregistry.ErrManifestUnknown, ociregistry.ErrNameUnknown)
	_, err := t.reg.ResolveTag(t.Context(), repo, tag)
	t.wantErr(err, unknown, "ResolveTag of %s:%s %s", repo, tag, when)
	_, _, err = read(t.reg.GetTag(t.Context(), repo, tag))
	t.wantErr(err, unknown, "GetTag of %s:%s %s", repo, tag, when)
	if t.has(ListTags) {
		tags, _ := ociregistry.All(t.reg.Tags(t.Context(), repo, ""))
		if slices.Contains(tags, tag) {
			t.Errorf("%s is among the tags of %s %s", tag, repo, when)
		}
	}
}

// wantTags checks the tags of a repository, which must exist.
func (t *test) wantTags(repo string, want ...string) {
	t.Helper()
	if !t.has(ListTags) {
		return
	}
	got, err := ociregistry.All(t.reg.Tags(t.Context(), repo, ""))
	t.wantList(got, err, want, "Tags of "+repo)
}

// wantRepositories checks which repositories exist.
func (t *test) wantRepositories(when string, want ...string) {
	t.Helper()
	if !t.has(ListRepositories) {
		return
	}
	got, err := ociregistry.All(t.reg.Repositories(t.Context(), ""))
	t.wantList(got, err, want, "Repositories "+when)
}

// wantNoRepository checks that a repository does not exist.
func (t *test) wantNoRepository(repo, when string) {
	t.Helper()
	ctx := t.Context()
	if t.has(ListRepositories) {
		repos, err := ociregistry.All(t.reg.Repositories(ctx, ""))
		if err != nil || slices.Contains(repos, repo) {
			t.Errorf("%s: Repositories gives %q and error %v, want no %q", when, repos, err, repo)
		}
	}
	if t.has(ListTags) {
		_, err := ociregistry.All(t.reg.Tags(ctx, repo, ""))
		t.wantErr(err, is(ociregistry.ErrNameUnknown), "%s: Tags of %s", when, repo)
	}
	_, _, err := read(t.reg.GetBlob(ctx, repo, digest.FromString("")))
	t.wantErr(err, is(ociregistry.ErrNameUnknown), "%s: GetBlob from %s", when, repo)
	_, _, err = read(t.reg.GetTag(ctx, repo, "latest"))
	t.wantErr(err, is(ociregistry.ErrNameUnknown), "%s: GetTag from %s", when, repo)
}

func (t *test) wantList(got []string, err error, want []string, what string) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: unexpected error: %v", what, err)
		return
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func (t *test) wantDescriptor(got ociregistry.Descriptor, err error, want ociregistry.Descriptor, what string) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: unexpected error: %v", what, err)
		return
	}
	if diff := diffDescriptor(got, want); diff != "" {
		t.Errorf("%s: descriptor differs: %s", what, diff)
	}
}

// diffDescriptor returns how the media types, digests or sizes differ, or "".
func diffDescriptor(got, want ociregistry.Descriptor) string {
	if got.MediaType == want.MediaType && got.Digest == want.Digest && got.Size == want.Size {
		return ""
	}
	return fmt.Sprintf("got media type %q, digest %q, size %d; want %q, %q, %d",
		got.MediaType, got.Digest, got.Size, want.MediaType, want.Digest, want.Size)
}

// diffBytes returns how two contents differ, or "".
func diffBytes(got, want []byte) string {
	if bytes.Equal(got, want) {
		return ""
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	end := func(b []byte) int { return min(at+16, len(b)) }
	return fmt.Sprintf("got %d bytes, want %d; from byte %d on got %q, want %q",
		len(got), len(want), at, got[at:end(got)], want[at:end(want)])
}

// digestLike returns the digest of data with the algorithm of d, or with SHA-256 if d is
// malformed.
func digestLike(d ociregistry.Digest, data []byte) ociregistry.Digest {
	if !ociref.IsValidDigest(string(d)) {
		return digest.FromBytes(data)
	}
	return d.Algorithm().FromBytes(data)
}

// jsonObject is a JSON object to be marshaled.
type jsonObject = map[string]any

// Concurrent calls.

// promptly ends the test if f does not return in time.
func (t *test) promptly(what string, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	timeout := time.NewTimer(t.opts.Patience)
	defer timeout.Stop()
	select {
	case err := <-done:
		return err
	case <-timeout.C:
		t.Fatalf("%s: blocked for %v", what, t.opts.Patience)
		return nil
	}
}

// together calls f(0) to f(n-1) in separate goroutines and waits for all of them. It ends
// the test if one returns an error.
func (t *test) together(n int, f func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, n)
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			jitter()
			errs[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("goroutine %d of %d: %v", i, n, err)
		}
	}
}

// jitter lets other goroutines run first, or not, at random. It varies the order of calls
// that do not block.
func jitter() {
	for range rand.IntN(4) {
		runtime.Gosched()
	}
}
