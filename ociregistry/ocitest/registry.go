package ocitest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Registry is a registry in a test. Its methods end the test when they fail, so they must
// be called from the test's goroutine.
type Registry struct {
	T testing.TB
	R ociregistry.Interface
}

// Repo is a repository of a registry in a test.
type Repo struct {
	T    testing.TB
	Name string
	R    ociregistry.Interface
}

// NewRegistry returns a Registry for using r in the test t.
func NewRegistry(t testing.TB, r ociregistry.Interface) Registry {
	return Registry{T: t, R: r}
}

// MustPush pushes an artifact with [Artifact.Push], and returns the descriptor of its
// manifest.
func (r Registry) MustPush(repo string, a *Artifact, tags ...string) ociregistry.Descriptor {
	r.T.Helper()
	if err := a.Push(context.Background(), r.R, repo, tags...); err != nil {
		r.T.Fatalf("cannot push to %s: %v", repo, err)
	}
	return a.Descriptor
}

// MustPushContent pushes content with [PushContent].
func (r Registry) MustPushContent(rc RegistryContent) map[string]PushedRepoContent {
	r.T.Helper()
	pushed, err := PushContent(r.R, rc)
	if err != nil {
		r.T.Fatalf("cannot push content: %v", err)
	}
	return pushed
}

// MustPushBlob pushes a blob and returns its descriptor.
func (r Registry) MustPushBlob(repo string, data []byte) ociregistry.Descriptor {
	r.T.Helper()
	desc, err := r.R.PushBlob(context.Background(), repo, ociregistry.Descriptor{
		MediaType: "application/octet-stream",
		Digest:    digest.FromBytes(data),
		Size:      int64(len(data)),
	}, bytes.NewReader(data))
	if err != nil {
		r.T.Fatalf("cannot push a blob to %s: %v", repo, err)
	}
	return desc
}

// MustPushManifest pushes the JSON form of jsonObject as a manifest, and returns that form
// and its descriptor. The media type is that in its mediaType field, which must not be
// empty. The tag may be empty.
func (r Registry) MustPushManifest(repo string, jsonObject any, tag string) ([]byte, ociregistry.Descriptor) {
	r.T.Helper()
	data, err := json.Marshal(jsonObject)
	if err != nil {
		r.T.Fatalf("cannot marshal a manifest: %v", err)
	}
	var m struct {
		MediaType string `json:"mediaType"`
	}
	if err := json.Unmarshal(data, &m); err != nil || m.MediaType == "" {
		r.T.Fatalf("the manifest has no mediaType (%v)", err)
	}
	desc, err := r.R.PushManifest(context.Background(), repo, tag, data, m.MediaType)
	if err != nil {
		r.T.Fatalf("cannot push a manifest to %s: %v", repo, err)
	}
	if want := digest.FromBytes(data); desc.Digest != want || desc.Size != int64(len(data)) || desc.MediaType != m.MediaType {
		r.T.Errorf("pushed a manifest with media type %s, digest %s and size %d; got back %s, %s and %d",
			m.MediaType, want, len(data), desc.MediaType, desc.Digest, desc.Size)
	}
	return data, desc
}

// CheckContent reads r to its end and closes it. It reports an error in t unless the
// content is want and the descriptor describes it. An empty mediaType means
// application/octet-stream, the media type of blobs.
func CheckContent(t testing.TB, r ociregistry.BlobReader, want []byte, mediaType string) {
	t.Helper()
	defer r.Close()
	if mediaType == "" {
		mediaType = "application/octet-stream"
	}
	got, err := io.ReadAll(r)
	if err != nil {
		t.Errorf("error after %d bytes: %v", len(got), err)
		return
	}
	if diff := diffBytes(got, want); diff != "" {
		t.Errorf("content differs: %s", diff)
	}
	if diff := diffDescriptor(r.Descriptor(), ociregistry.Descriptor{
		MediaType: mediaType,
		Digest:    digestLike(r.Descriptor().Digest, want),
		Size:      int64(len(want)),
	}); diff != "" {
		t.Errorf("descriptor differs: %s", diff)
	}
}
