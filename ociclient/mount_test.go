package ociclient_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
)

func TestPushChecksAndMountsFirstIfAsked(t *testing.T) {
	t.Parallel()
	mount := "POST " + uploads + "?mount="
	tests := []struct {
		name  string
		opts  ociclient.Options
		repo  string
		rules []rule
		want  string
	}{
		{"the blob is there", ociclient.Options{}, "foo", nil, "POST PUT"},
		{"asked first, and there", ociclient.Options{CheckBlobs: true}, "foo", nil, "HEAD"},
		{"asked first, and not there", ociclient.Options{CheckBlobs: true}, "bar", nil, "HEAD POST PUT"},
		{"asked first in vain", ociclient.Options{CheckBlobs: true}, "foo", []rule{{On: "HEAD ", Status: 403}}, "HEAD POST PUT"},
		{"mounted", ociclient.Options{MountFrom: []string{"foo"}}, "bar", nil, "POST"},
		{"not mounted but opened", ociclient.Options{MountFrom: []string{"baz"}}, "bar", nil, "POST PUT"},
		{"mounting is refused", ociclient.Options{MountFrom: []string{"bar"}}, "foo", []rule{{On: mount, Status: 405}}, "POST POST PUT"},
		{"mounting is denied", ociclient.Options{MountFrom: []string{"bar"}}, "foo", []rule{{On: mount, Status: 403}}, "POST POST PUT"},
		{"from where it is pushed to", ociclient.Options{MountFrom: []string{"bar"}}, "bar", nil, "POST PUT"},
		{"asked, and mounted", ociclient.Options{CheckBlobs: true, MountFrom: []string{"bar", "foo"}}, "bar", nil, "HEAD POST"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			reg, srv := faulty(t, test.opts, test.rules...)
			_, err := reg.PushBlob(ctx, test.repo, blobDesc(content), strings.NewReader(content))
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(strings.Join(methods(srv.Lines()), " "), test.want))
			got, err := readAll(reg.GetBlob(ctx, test.repo, contentDigest))
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(got, content))
		})
	}
}

func TestMountAnswersAreUnderstood(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer *http.Response
		want   error
		not    error
	}{
		{"mounted", answer(201), nil, nil},
		{"mounted, with the digest", answer(201, "Docker-Content-Digest", string(contentDigest)), nil, nil},
		{"something else is mounted", answer(201, "Docker-Content-Digest", string(otherDigest)), ociregistry.ErrDigestInvalid, nil},
		{"not mounted but opened", answer(202, "Location", uploads+"1"), ociregistry.ErrUnsupported, nil},
		{"not found", answer(404), ociregistry.ErrUnsupported, nil},
		{"denied", answer(403), ociregistry.ErrUnsupported, nil},
		{"not known", answer(405), ociregistry.ErrUnsupported, nil},
		{"unauthorized", answer(401), ociregistry.ErrUnauthorized, ociregistry.ErrUnsupported},
		{"overloaded", answer(429), ociregistry.ErrTooManyRequests, ociregistry.ErrUnsupported},
	}
	const mount = "POST https://registry.test/v2/foo/blobs/uploads/?mount="
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := &world{answers: map[string]*http.Response{mount: test.answer, "DELETE ": answer(204)}}
			desc, err := clientIn(t, w, "registry.test", ociclient.Options{}).MountBlob(ctx, "bar", "foo", contentDigest)
			qt.Assert(t, qt.IsTrue(strings.HasSuffix(w.log[0], "&from=bar repository:bar:pull repository:foo:pull,push")), qt.Commentf("%s", w.log[0]))
			if test.answer.StatusCode == 202 {
				qt.Assert(t, qt.HasLen(w.log, 2)) // the unwanted session is cancelled
			}
			if test.want == nil {
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.Equals(desc.Digest, contentDigest))
				return
			}
			qt.Assert(t, qt.ErrorIs(err, test.want))
			qt.Assert(t, qt.IsFalse(test.not != nil && errors.Is(err, test.not)))
		})
	}
}
