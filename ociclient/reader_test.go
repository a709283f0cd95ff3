package ociclient_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

func TestReadersVerifyContent(t *testing.T) {
	t.Parallel()
	const m = `{"schemaVersion":2}`
	mDigest := digest.FromString(m)
	type header = map[string]string
	digestHeader := func(d ociregistry.Digest) header {
		return header{"Docker-Content-Digest": string(d), "Content-Type": imageManifest}
	}
	tests := []struct {
		name   string
		answer string
		header header
		read   func(ociregistry.Interface) (ociregistry.BlobReader, error)
		want   error
	}{
		{"a blob", content, nil, getBlob, nil},
		{"another blob", pattern(len(content)), nil, getBlob, ociregistry.ErrDigestInvalid},
		{"another blob with the header asked for", pattern(len(content)), digestHeader(contentDigest), getBlob, ociregistry.ErrDigestInvalid},
		{"a blob with the header of another", content, digestHeader(otherDigest), getBlob, ociregistry.ErrDigestInvalid},
		{"a blob with a header that is no digest", content, digestHeader("none"), getBlob, ociregistry.ErrDigestInvalid},
		{"a part with the header of another", content, digestHeader(otherDigest), getRange, ociregistry.ErrDigestInvalid},
		{"a manifest", m, nil, getManifest(mDigest), nil},
		{"another manifest", m + " ", digestHeader(mDigest), getManifest(mDigest), ociregistry.ErrDigestInvalid},
		{"a manifest with the header of another", m, digestHeader(otherDigest), getManifest(mDigest), ociregistry.ErrDigestInvalid},
		{"a manifest by SHA-512", m, nil, getManifest(digest.SHA512.FromString(m)), nil},
		{"another manifest by SHA-512", m + " ", nil, getManifest(digest.SHA512.FromString(m)), ociregistry.ErrDigestInvalid},
		{"a tag", m, digestHeader(mDigest), getTag, nil},
		{"a tag without header", m, header{"Content-Type": imageManifest}, getTag, nil},
		{"a tag with the header of another", m, digestHeader(otherDigest), getTag, ociregistry.ErrDigestInvalid},
		{"a tag with a header of SHA-512", m, digestHeader(digest.SHA512.FromString(m)), getTag, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			reg, srv := scripted(t, rule{On: "GET *", Status: 200, Set: test.header, Answer: test.answer})
			got, err := readAll(test.read(reg))
			qt.Check(t, qt.HasLen(srv.Lines(), 1))
			if test.want != nil {
				qt.Assert(t, qt.ErrorIs(err, test.want))
				return
			}
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(got, test.answer))
		})
	}
}

func TestDescriptorsAreThoseOfTheContent(t *testing.T) {
	t.Parallel()
	big := `{"schemaVersion":2,"annotations":{"a":"` + strings.Repeat("x", ociclient.DefaultMaxManifestSize-100) + `"}}`
	bigDesc := ociregistry.Descriptor{MediaType: imageManifest, Digest: digest.FromString(big), Size: int64(len(big))}
	length := strconv.Itoa(len(big))
	byDigest := func(reg ociregistry.Interface) (ociregistry.Descriptor, error) {
		return reg.ResolveManifest(ctx, "foo", bigDesc.Digest)
	}
	byTag := func(reg ociregistry.Interface) (ociregistry.Descriptor, error) {
		return reg.ResolveTag(ctx, "foo", "latest")
	}
	getByTag := func(reg ociregistry.Interface) (ociregistry.Descriptor, error) {
		r, err := reg.GetTag(ctx, "foo", "latest")
		if err != nil {
			return ociregistry.Descriptor{}, err
		}
		defer r.Close()
		return r.Descriptor(), nil
	}
	get := rule{On: "GET " + manifests, Status: 200, Set: header{"Content-Type": imageManifest}, Answer: big}
	tests := []struct {
		name string
		head header
		call func(ociregistry.Interface) (ociregistry.Descriptor, error)
		want []string // the methods of the requests
	}{
		{"from a tag by GET", nil, getByTag, []string{"GET"}},
		{"from a tag by HEAD", header{"Content-Type": imageManifest, "Content-Length": length, "Docker-Content-Digest": string(bigDesc.Digest)}, byTag, []string{"HEAD"}},
		{"from a tag by HEAD without digest", header{"Content-Type": imageManifest, "Content-Length": length}, byTag, []string{"HEAD", "GET"}},
		{"from a tag by HEAD without length", header{"Content-Type": imageManifest, "Docker-Content-Digest": string(bigDesc.Digest)}, byTag, []string{"HEAD", "GET"}},
		{"from a tag by HEAD without type", header{"Content-Type": "", "Content-Length": length, "Docker-Content-Digest": string(bigDesc.Digest)}, byTag, []string{"HEAD", "GET"}},
		{"from a digest by HEAD without digest", header{"Content-Type": imageManifest, "Content-Length": length}, byDigest, []string{"HEAD"}},
		{"with parameters of the type", header{"Content-Type": imageManifest + "; charset=utf-8", "Content-Length": length}, byDigest, []string{"HEAD"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			reg, srv := scripted(t, get, rule{On: "HEAD " + manifests, Status: 200, Set: test.head})
			got, err := test.call(reg)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.DeepEquals(got, bigDesc))
			qt.Assert(t, qt.DeepEquals(methods(srv.Lines()), test.want))
		})
	}
	t.Run("another digest", func(t *testing.T) {
		t.Parallel()
		reg, _ := scripted(t, rule{On: "HEAD " + manifests, Status: 200, Set: header{"Content-Type": imageManifest, "Content-Length": length, "Docker-Content-Digest": string(otherDigest)}})
		_, err := byDigest(reg)
		qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
	})
	t.Run("no digest at all", func(t *testing.T) {
		t.Parallel()
		reg, _ := scripted(t, rule{On: "HEAD " + manifests, Status: 200, Set: header{"Content-Type": imageManifest, "Content-Length": length, "Docker-Content-Digest": "sha256:xyz"}})
		_, err := byTag(reg)
		qt.Assert(t, qt.ErrorMatches(err, ".*Docker-Content-Digest header that is not a digest"))
	})
}

func TestSizeComesFromAnswerOrIsUnknown(t *testing.T) {
	t.Parallel()
	const m = `{"schemaVersion":2}`
	long := header{"Content-Length": "100"}
	// short announces less than it sends, which is only possible below net/http.
	short := func(content string) rule {
		return rule{On: "GET ", Handler: func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\n"+content)
		}}
	}
	tests := []struct {
		name string
		rule rule
		read func(ociregistry.Interface) (ociregistry.BlobReader, error)
		want string // the content, or empty for an error
	}{
		{"a blob that is shorter", rule{On: "GET", Status: 200, Set: long, Answer: content}, getBlob, ""},
		{"a blob that is longer", short(content), getBlob, ""},
		{"a manifest that is shorter", rule{On: "GET", Status: 200, Set: long, Answer: m}, getTag, ""},
		{"a manifest that is longer", short(m), getManifest(digest.FromString(m)), ""},
		{"a blob without", rule{On: "GET", Status: 200, NoLength: true, Answer: content}, getBlob, content},
		{"a part of a blob without", rule{On: "GET", Status: 206, Set: header{"Content-Range": "bytes 4-10/21"}, NoLength: true, Answer: "content"}, getRange, "content"},
		{"a manifest without", rule{On: "GET", Status: 200, NoLength: true, Answer: m}, getTag, m},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			reg, _ := scripted(t, test.rule)
			r, err := test.read(reg)
			size := int64(-1)
			if err == nil {
				size = r.Descriptor().Size
			}
			got, err := readAll(r, err)
			if test.want == "" {
				qt.Assert(t, qt.IsNotNil(err))
				return
			}
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(got, test.want))
			if got == m {
				qt.Assert(t, qt.Equals(size, int64(len(m))))
			}
		})
	}
}

func TestSizeIsAskedForByGetWhereHeadDoesNotTell(t *testing.T) {
	t.Parallel()
	part := rule{On: "GET " + blobURL, Header: header{"Range": "bytes=0-0"}, Status: 206, Answer: "t"}
	tests := []struct {
		name string
		set  header
		rule rule
		want int64
	}{
		{"part", header{"Content-Range": "bytes 0-0/21"}, part, 21},
		{"part of an unknown whole", header{"Content-Range": "bytes 0-0/*"}, part, -1},
		{"part of an encoded whole", header{"Content-Range": "bytes 0-0/21", "Content-Encoding": "gzip"}, part, -1},
		{"whole", nil, rule{On: "GET " + blobURL, Status: 200, Answer: content}, 21},
		{"whole without length", nil, rule{On: "GET " + blobURL, Status: 200, Answer: content, NoLength: true}, -1},
		{"empty", header{"Content-Range": "bytes */0"}, rule{On: "GET " + blobURL, Status: 416}, -1},
		{"a page", header{"Content-Type": "text/html"}, rule{On: "GET " + blobURL, Status: 200, Answer: content}, -1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.rule.Set = test.set
			reg, srv := scripted(t, rule{On: "HEAD " + blobURL, Status: 200}, test.rule)
			desc, err := reg.ResolveBlob(ctx, "foo", contentDigest)
			qt.Assert(t, qt.DeepEquals(srv.Lines(), []string{"HEAD " + blobURL, "GET " + blobURL}))
			if test.want < 0 {
				qt.Assert(t, qt.IsNotNil(err))
				return
			}
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(desc.Size, test.want))
		})
	}
}

func TestManifestRequestsNameTheirTypes(t *testing.T) {
	t.Parallel()
	reg, srv := faulty(t, ociclient.Options{})
	_, err := readAll(getBlob(reg))
	qt.Assert(t, qt.IsNil(err))
	_, err = readAll(getTag(reg))
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
	_, err = reg.ResolveTag(ctx, "foo", "latest")
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
	requests := srv.Requests("")
	qt.Assert(t, qt.HasLen(requests, 3))
	qt.Check(t, qt.DeepEquals(requests[0].Header["Accept-Encoding"], []string{"identity"}))
	const types = imageManifest + ", " + imageIndex +
		", application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json" +
		", application/vnd.cncf.oras.artifact.manifest.v1+json, application/vnd.oci.artifact.manifest.v1+json, */*"
	for _, r := range requests[1:] {
		qt.Check(t, qt.DeepEquals(r.Header["Accept"], []string{types}))
	}
}

func TestManifestIsResolvedByGetWithoutHead(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusMethodNotAllowed, http.StatusBadRequest} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			backend := registryWith(t, content)
			m := `{"schemaVersion":2,"config":` + artifactConfig + `,"layers":[],"annotations":{"a":"b"}}`
			_, err := backend.PushBlob(ctx, "foo", blobDesc("{}"), strings.NewReader("{}"))
			qt.Assert(t, qt.IsNil(err))
			want, err := backend.PushManifest(ctx, "foo", "latest", []byte(m), imageManifest)
			qt.Assert(t, qt.IsNil(err))
			srv := faultserver.New(t, ociserver.New(backend, nil), rule{On: "HEAD ", Status: status})
			reg := clientOf(t, srv, ociclient.Options{}, newClock())
			desc, err := reg.ResolveBlob(ctx, "foo", contentDigest)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(desc.Size, int64(len(content))))
			desc, err = reg.ResolveTag(ctx, "foo", "latest")
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(desc.Digest, want.Digest))
			desc, err = reg.ResolveManifest(ctx, "foo", want.Digest)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(desc.Size, want.Size))
			qt.Assert(t, qt.DeepEquals(methods(srv.Lines()), []string{"HEAD", "GET", "HEAD", "GET", "HEAD", "GET"}))
		})
	}
}

func TestManifestSizeIsLimited(t *testing.T) {
	t.Parallel()
	endless := func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := io.WriteString(w, pattern(32<<10)); err != nil {
				return
			}
		}
	}
	tests := []struct {
		name string
		max  int64
		rule rule
		want string // part of the error, or empty for none
	}{
		{"announced", 0, rule{Status: 200, Set: header{"Content-Length": "99999999999"}, CutAtStart: true}, "4194304 bytes"},
		{"endless", 0, rule{Handler: endless}, "4194304 bytes"},
		{"set", 10, rule{Status: 200, Answer: pattern(11)}, "10 bytes"},
		{"just enough", 10, rule{Status: 200, Set: header{"Docker-Content-Digest": string(digest.FromString(pattern(10)))}, Answer: pattern(10)}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.rule.On = "GET " + manifests
			srv := faultserver.New(t, nil, test.rule)
			reg := clientOf(t, srv, ociclient.Options{MaxManifestSize: test.max}, newClock())
			_, err := readAll(getTag(reg))
			qt.Check(t, qt.HasLen(srv.Lines(), 1))
			if test.want == "" {
				qt.Assert(t, qt.IsNil(err))
				return
			}
			qt.Assert(t, qt.ErrorMatches(err, ".*larger than the limit of "+test.want+".*"))
		})
	}
}
