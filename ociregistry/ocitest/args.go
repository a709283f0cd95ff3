package ocitest

import (
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Methods check their arguments before they do anything else: first repository names, then
// digests, then tags.

var argumentClauses = []clause{
	{name: "RepositoryNames", run: argumentNames},
	{name: "Digests", run: argumentDigests},
	{name: "Tags", run: argumentTags},
	{name: "TagOfAPush", needs: PushManifests, run: argumentPushedTags},
	{name: "Order", run: argumentOrder},
	{name: "NothingIsReadBefore", needs: PushBlobs, run: argumentsBeforeReading},
	{name: "UploadIDs", needs: ResumeUploads, run: argumentUploadIDs},
}

var badNames = []string{
	"", "/", ".", "..", "Foo", "foo/", "/foo", "foo//bar", "../foo", "foo/../bar", "foo/..", "foo/./bar",
	"foo\x00", "foo\n", "foo bar", "foo%2fbar", "foo\\bar", "foo:bar", "foo@bar", "foo?n=1", "foo#", "föö",
	"-foo", "foo-", ".foo", "foo.", "foo..bar", "foo___bar", "_foo", "foo/_uploads",
	strings.Repeat("a", 256), strings.Repeat("a", 10<<10),
}

var badDigests = []ociregistry.Digest{
	"", ":", "sha256", "sha256:", "sha256:abc", "sha256-" + ociregistry.Digest(strings.Repeat("a", 64)),
	"sha256:" + ociregistry.Digest(strings.Repeat("a", 63)),
	"sha256:" + ociregistry.Digest(strings.Repeat("a", 65)),
	"sha256:" + ociregistry.Digest(strings.Repeat("A", 64)),
	"sha256:" + ociregistry.Digest(strings.Repeat("g", 64)),
	"sha256:" + ociregistry.Digest(strings.Repeat("../", 21)) + "a",
	"sha256:" + ociregistry.Digest(strings.Repeat("\x00", 64)),
	"sha256:" + ociregistry.Digest(strings.Repeat("a", 10<<10)),
	"sha512:" + ociregistry.Digest(strings.Repeat("a", 64)),
	"SHA256:" + ociregistry.Digest(strings.Repeat("a", 64)),
	"md5:" + ociregistry.Digest(strings.Repeat("a", 32)),
	"../sha256:" + ociregistry.Digest(strings.Repeat("a", 64)),
}

var badTags = []string{
	".", "..", "-bad", ".bad", "bad/tag", "../bad", "bad tag", "bad\x00tag", "bad\n", "bad%2ftag", "bad?tag", "bäd",
	strings.Repeat("a", 129), strings.Repeat("a", 10<<10),
}

// arguments are the arguments of a call. Each method uses those that it needs.
type arguments struct {
	repo   string
	digest ociregistry.Digest
	tag    string
}

var goodArguments = arguments{repo: "foo", digest: digest.FromString("x"), tag: "v1"}

// call is a call of a method of which only the error matters.
type call struct {
	method string
	needs  Capability
	do     func(t *test, a arguments) error
}

// The calls of all methods with a repository, grouped by their other arguments.
var (
	digestCalls = []call{
		{"GetBlob", 0, func(t *test, a arguments) error {
			_, _, err := read(t.reg.GetBlob(t.Context(), a.repo, a.digest))
			return err
		}},
		{"GetBlobRange", 0, func(t *test, a arguments) error {
			_, _, err := read(t.reg.GetBlobRange(t.Context(), a.repo, a.digest, 0, -1))
			return err
		}},
		{"GetManifest", 0, func(t *test, a arguments) error {
			_, _, err := read(t.reg.GetManifest(t.Context(), a.repo, a.digest))
			return err
		}},
		{"ResolveBlob", 0, func(t *test, a arguments) error {
			_, err := t.reg.ResolveBlob(t.Context(), a.repo, a.digest)
			return err
		}},
		{"ResolveManifest", 0, func(t *test, a arguments) error {
			_, err := t.reg.ResolveManifest(t.Context(), a.repo, a.digest)
			return err
		}},
		{"PushBlob", PushBlobs, func(t *test, a arguments) error {
			_, err := t.reg.PushBlob(t.Context(), a.repo, ociregistry.Descriptor{Digest: a.digest, Size: 1}, strings.NewReader("x"))
			return err
		}},
		{"MountBlob to", Mount, func(t *test, a arguments) error {
			_, err := t.reg.MountBlob(t.Context(), goodArguments.repo, a.repo, a.digest)
			return err
		}},
		{"DeleteBlob", DeleteBlobs, func(t *test, a arguments) error {
			return t.reg.DeleteBlob(t.Context(), a.repo, a.digest)
		}},
		{"DeleteManifest", DeleteManifests, func(t *test, a arguments) error {
			return t.reg.DeleteManifest(t.Context(), a.repo, a.digest)
		}},
		{"Referrers", ListReferrers, func(t *test, a arguments) error {
			_, err := ociregistry.All(t.reg.Referrers(t.Context(), a.repo, a.digest, ""))
			return err
		}},
	}
	tagCalls = []call{
		{"GetTag", 0, func(t *test, a arguments) error {
			_, _, err := read(t.reg.GetTag(t.Context(), a.repo, a.tag))
			return err
		}},
		{"ResolveTag", 0, func(t *test, a arguments) error {
			_, err := t.reg.ResolveTag(t.Context(), a.repo, a.tag)
			return err
		}},
		{"DeleteTag", DeleteTags, func(t *test, a arguments) error {
			return t.reg.DeleteTag(t.Context(), a.repo, a.tag)
		}},
	}
	pushManifestByTag = call{"PushManifest", PushManifests, func(t *test, a arguments) error {
		_, err := t.reg.PushManifest(t.Context(), a.repo, a.tag, []byte("x"), "text/plain")
		return err
	}}
	pushManifestByDigest = call{"PushManifest", PushManifests, func(t *test, a arguments) error {
		_, err := t.reg.PushManifest(t.Context(), a.repo, string(a.digest), []byte("x"), "text/plain")
		return err
	}}
	otherCalls = []call{
		pushManifestByTag,
		{"PushBlobChunked", PushChunks, func(t *test, a arguments) error {
			w, err := t.reg.PushBlobChunked(t.Context(), a.repo, 0)
			if err != nil {
				return err
			}
			return w.Cancel()
		}},
		{"PushBlobChunkedResume", ResumeUploads, func(t *test, a arguments) error {
			w, err := t.reg.PushBlobChunkedResume(t.Context(), a.repo, "id", 0, 0)
			if err != nil {
				return err
			}
			return w.Cancel()
		}},
		{"Tags", ListTags, func(t *test, a arguments) error {
			_, err := ociregistry.All(t.reg.Tags(t.Context(), a.repo, ""))
			return err
		}},
	}
	mountFrom = call{"MountBlob from", Mount, func(t *test, a arguments) error {
		_, err := t.reg.MountBlob(t.Context(), a.repo, goodArguments.repo, a.digest)
		return err
	}}
)

// wantCallErr makes a call, if the registry can do it, and checks its error.
func (t *test) wantCallErr(c call, a arguments, sentinels []error) {
	t.Helper()
	if t.has(c.needs) {
		t.wantErr(c.do(t, a), sentinels, "%s with repository %.40q, digest %.40q and tag %.40q", c.method, a.repo, a.digest, a.tag)
	}
}

func argumentNames(t *test) {
	for _, name := range badNames {
		for _, c := range slices.Concat(digestCalls, tagCalls, otherCalls) {
			a := goodArguments
			a.repo = name
			t.wantCallErr(c, a, is(ociregistry.ErrNameInvalid))
		}
		if name != "" {
			a := goodArguments
			a.repo = name
			t.wantCallErr(mountFrom, a, is(ociregistry.ErrNameInvalid))
		}
	}
	t.wantRepositories("after calls with invalid names")
}

// The error for a malformed digest is not that for an unknown one, whether or not the
// repository exists.
func argumentDigests(t *test) {
	blob := []byte("y")
	desc := t.mustPushBlob("foo", blob)
	for _, d := range badDigests {
		for _, repo := range []string{"foo", "unknown"} {
			a := arguments{repo: repo, digest: d, tag: "v1"}
			for _, c := range digestCalls {
				t.wantCallErr(c, a, is(ociregistry.ErrDigestInvalid))
			}
			t.wantCallErr(mountFrom, a, is(ociregistry.ErrDigestInvalid))
			if strings.Contains(string(d), ":") {
				t.wantCallErr(pushManifestByDigest, a, is(ociregistry.ErrDigestInvalid))
			}
		}
	}
	t.wantRepositories("after calls with malformed digests", "foo")
	t.wantBlob("foo", blob, desc.Digest)
}

// Looking up a tag that cannot exist returns the error for an unknown tag.
func argumentTags(t *test) {
	t.mustPushImage("foo", 1, "v1")
	for _, tag := range append(badTags, "") {
		for _, c := range tagCalls {
			t.wantCallErr(c, arguments{repo: "foo", tag: tag}, is(ociregistry.ErrManifestUnknown))
		}
	}
	t.wantTags("foo", "v1")
}

// Pushing to a tag that cannot exist returns an error that names the tag.
func argumentPushedTags(t *test) {
	push := func(ref string, tags ...string) error {
		_, err := t.reg.PushManifest(t.Context(), "foo", ref, []byte("x"), "text/plain", tags...)
		return err
	}
	invalid := is(ociregistry.ErrManifestInvalid)
	for _, tag := range badTags {
		t.wantErr(push(tag), invalid, "PushManifest with ref %.40q", tag)
		t.wantErr(push("", "good", tag), invalid, "PushManifest with tags good and %.40q", tag)
	}
	t.wantErr(push("", ""), invalid, "PushManifest with an empty tag")
	t.wantErr(push("", "bad:tag"), invalid, `PushManifest with tag "bad:tag"`)
	for _, err := range []error{push("-bad-tag"), push("v1", "v2", "-bad-tag")} {
		if err != nil && !strings.Contains(err.Error(), "-bad-tag") {
			t.Errorf("PushManifest with the invalid tag -bad-tag: the error %q does not name it", err)
		}
	}
	t.wantRepositories("after pushes with invalid tags")
	t.wantNoTag("foo", "good", "after a push with good and invalid tags")
}

func argumentOrder(t *test) {
	bad := arguments{repo: "Foo", digest: "sha256:abc", tag: "-bad"}
	for _, c := range slices.Concat(digestCalls, tagCalls, otherCalls, []call{pushManifestByDigest, mountFrom}) {
		t.wantCallErr(c, bad, is(ociregistry.ErrNameInvalid))
	}
	if t.has(PushManifests) {
		_, err := t.reg.PushManifest(t.Context(), "foo", "sha256:abc", []byte("{"), "application/vnd.oci.image.manifest.v1+json", "-bad")
		t.wantErr(err, is(ociregistry.ErrDigestInvalid), "PushManifest of an invalid manifest with a malformed digest and an invalid tag")
	}
	if t.has(Mount) {
		_, err := t.reg.MountBlob(t.Context(), "unknown", "foo", "sha256:abc")
		t.wantErr(err, is(ociregistry.ErrDigestInvalid), "MountBlob of a malformed digest from an unknown repository")
	}
	_, _, err := read(t.reg.GetBlobRange(t.Context(), "foo", "sha256:abc", -1, -1))
	t.wantErr(err, is(ociregistry.ErrDigestInvalid), "GetBlobRange with a malformed digest and a negative offset")
}

// A method does not read the content of a blob if its arguments are invalid.
func argumentsBeforeReading(t *test) {
	for _, test := range []struct {
		repo string
		desc ociregistry.Descriptor
		want error
	}{
		{"Foo", describe([]byte("x")), ociregistry.ErrNameInvalid},
		{"foo", ociregistry.Descriptor{Digest: "sha256:abc", Size: 1}, ociregistry.ErrDigestInvalid},
		{"foo", ociregistry.Descriptor{Digest: digest.FromString("x"), Size: -1}, ociregistry.ErrSizeInvalid},
	} {
		r := &countingReader{r: strings.NewReader("x")}
		_, err := t.reg.PushBlob(t.Context(), test.repo, test.desc, r)
		t.wantErr(err, is(test.want), "PushBlob to %q with digest %q and size %d", test.repo, test.desc.Digest, test.desc.Size)
		if r.reads > 0 {
			t.Errorf("PushBlob to %q with digest %q and size %d: the content was read", test.repo, test.desc.Digest, test.desc.Size)
		}
	}
	t.wantRepositories("after calls with invalid arguments")
}

// countingReader counts the calls of Read.
type countingReader struct {
	r     io.Reader
	reads int
}

func (r *countingReader) Read(p []byte) (int, error) {
	r.reads++
	return r.r.Read(p)
}

// An upload id is opaque. An id that a registry never issued gives an error, or a new
// session in a registry that adopts ids. In both, asking for the end of a session that was
// never opened fails.
func argumentUploadIDs(t *test) {
	ids := []string{
		"", ".", "..", "../../etc/passwd", "/etc/passwd", "a/b", "%2e%2e%2f", "a\x00b", "\xff\xfe", "a b", "?", "#", "MQ",
		"http://127.0.0.1:1/v2/foo/blobs/uploads/x", "//127.0.0.1:1/x", "/v2/other/blobs/uploads/x",
		strings.Repeat("a", 10<<10),
	}
	for _, id := range ids {
		for _, offset := range []int64{-1, 0, 3, -1} {
			want := is(ociregistry.ErrBlobUploadUnknown)
			err := t.tryResume("foo", id, offset)
			switch {
			case t.opts.AdoptsUploadIDs && offset > 0:
				want = append(want, ociregistry.ErrRangeInvalid)
			case t.opts.AdoptsUploadIDs && offset == 0 && err == nil:
				continue
			}
			t.wantErr(err, want, "PushBlobChunkedResume of id %.40q at %d", id, offset)
		}
	}
	t.wantRepositories("after resuming sessions that never were")
}
