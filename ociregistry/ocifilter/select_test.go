package ocifilter_test

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocifilter"
)

type seq[T any] = iter.Seq2[T, error]

func visible(repo string) bool { return strings.HasPrefix(repo, "visible/") }

func TestSelect_HidesTheOthers(t *testing.T) {
	t.Parallel()
	r := ocifilter.Select(unreachable(t), visible)
	for _, c := range apiCalls {
		if c.method == "Repositories" {
			continue // it concerns no one repository: see TestSelect_ListsOnlyWhatIsVisible
		}
		err := c.do(t.Context(), r, "hidden/a")
		comment := qt.Commentf("%s: %v", c.method, err)
		switch {
		case c.method == "Referrers":
			qt.Check(t, qt.IsNil(err), comment)
		case c.access == ocifilter.AccessWrite:
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied), comment)
		default:
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown), comment)
		}
	}
}

func TestSelect_PassesOnTheRest(t *testing.T) {
	t.Parallel()
	for _, c := range apiCalls {
		var got string
		r := ocifilter.Select(failing(func(method, _ string) { got = method }), visible)
		qt.Check(t, qt.ErrorIs(c.do(t.Context(), r, "visible/a"), errBackend))
		qt.Check(t, qt.Equals(got, c.method))
	}
}

// Nothing tells a hidden repository from one that does not exist.
func TestSelect_HiddenIsLikeAbsent(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	blob := pushBlob(t, backend, "hidden/full", "hello")
	manifest := pushManifest(t, backend, "hidden/full", "world", "latest")
	pushManifest(t, backend, "visible/a", "world", "latest")
	r := ocifilter.Select(backend, func(repo string) bool { return repo != "hidden/full" })

	digests := []ociregistry.Digest{blob, manifest, someDigest, "", "sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e", "latest"}
	tags := []string{"latest", "other", "", ".bad", "a/b", strings.Repeat("x", 200)}
	ctx := t.Context()
	answers := func(repo string) []string {
		var all []string
		add := func(err error) {
			body, status := []byte("nothing"), 0
			if err != nil {
				body, status = ociregistry.MarshalError(err)
			}
			all = append(all, fmt.Sprintf("%d %s", status, body))
		}
		for _, d := range digests {
			_, err := r.GetBlob(ctx, repo, d)
			add(err)
			_, err = r.GetBlobRange(ctx, repo, d, 0, 1)
			add(err)
			_, err = r.GetManifest(ctx, repo, d)
			add(err)
			_, err = r.ResolveBlob(ctx, repo, d)
			add(err)
			_, err = r.ResolveManifest(ctx, repo, d)
			add(err)
			_, err = r.MountBlob(ctx, repo, "visible/a", d)
			add(err)
			referrers, err := ociregistry.All(r.Referrers(ctx, repo, d, ""))
			add(err)
			qt.Check(t, qt.HasLen(referrers, 0))
			add(r.DeleteBlob(ctx, repo, d))
			add(r.DeleteManifest(ctx, repo, d))
		}
		for _, tag := range tags {
			_, err := r.GetTag(ctx, repo, tag)
			add(err)
			_, err = r.ResolveTag(ctx, repo, tag)
			add(err)
			list, err := ociregistry.All(r.Tags(ctx, repo, tag))
			add(err)
			qt.Check(t, qt.HasLen(list, 0))
			add(r.DeleteTag(ctx, repo, tag))
		}
		return all
	}
	qt.Check(t, qt.DeepEquals(answers("hidden/full"), answers("absent/full")))

	// All of it still exists.
	_, err := backend.ResolveBlob(ctx, "hidden/full", blob)
	qt.Check(t, qt.IsNil(err))
	_, err = backend.ResolveTag(ctx, "hidden/full", "latest")
	qt.Check(t, qt.IsNil(err))
}

func TestSelect_ListsOnlyWhatIsVisible(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	for _, repo := range []string{"a", "visible/a", "visible/b", "visible/c", "z"} {
		pushBlob(t, backend, repo, "hello")
	}
	r := ocifilter.Select(backend, func(repo string) bool {
		qt.Check(t, qt.Not(qt.Equals(repo, "*")))
		return visible(repo)
	})
	for _, test := range []struct {
		startAfter string
		want       []string
	}{
		{"", []string{"visible/a", "visible/b", "visible/c"}},
		{"visible/a", []string{"visible/b", "visible/c"}},
		{"visible/aa", []string{"visible/b", "visible/c"}},
		{"visible/c", nil},
		{"z", nil},
	} {
		got, err := ociregistry.All(r.Repositories(t.Context(), test.startAfter))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(got, test.want), qt.Commentf("after %q", test.startAfter))
	}
}

// A mount copies nothing from a hidden repository.
func TestSelect_MountsOnlyWhatIsVisible(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	ctx := t.Context()
	secret := pushBlob(t, backend, "hidden/a", "secret")
	public := pushBlob(t, backend, "visible/a", "public")
	r := ocifilter.Select(backend, visible)

	for _, test := range []struct {
		from, to string
		digest   ociregistry.Digest
		want     error
	}{
		{"visible/a", "visible/b", public, nil},
		{"", "visible/b", secret, ociregistry.ErrUnsupported},
		{"", "visible/b", public, ociregistry.ErrUnsupported},
		{"hidden/a", "visible/b", secret, ociregistry.ErrNameUnknown},
		{"visible/a", "visible/b", secret, ociregistry.ErrBlobUnknown},
		{"visible/a", "hidden/b", public, ociregistry.ErrDenied},
		{"", "hidden/b", public, ociregistry.ErrDenied},
	} {
		_, err := r.MountBlob(ctx, test.from, test.to, test.digest)
		qt.Check(t, qt.ErrorIs(err, test.want), qt.Commentf("%+v", test))
	}
	_, err := r.ResolveBlob(ctx, "visible/b", secret)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUnknown))
	_, err = backend.ResolveBlob(ctx, "hidden/b", public)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
}

// The ID of an upload session is not valid in another repository.
func TestSelect_UploadIDsStayInTheirRepository(t *testing.T) {
	t.Parallel()
	views := map[string]func(ociregistry.Interface) ociregistry.Interface{
		"Select": func(r ociregistry.Interface) ociregistry.Interface { return ocifilter.Select(r, visible) },
		"Sub":    func(r ociregistry.Interface) ociregistry.Interface { return ocifilter.Sub(r, "sub") },
	}
	for name, view := range views {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			backend := ocimem.New()
			w, err := backend.PushBlobChunked(ctx, "hidden/a", 0)
			qt.Assert(t, qt.IsNil(err))
			defer w.Cancel()
			_, err = w.Write([]byte("secret"))
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsNil(w.Close()))

			_, err = view(backend).PushBlobChunkedResume(ctx, "visible/a", w.ID(), -1, 0)
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
		})
	}
}
